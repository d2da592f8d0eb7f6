"""Many files of many bytes at little cost, and how far memory rises while they are worked on."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.pixels import Pixels
from sunspark.data.writer import write_dataset


def make_large_files(folder: Path, count: int) -> None:
    """JPEGs of 1 MB each, most of it a comment, a hundred in a folder; on disk they are one."""
    folder.mkdir()
    image = folder / ".image"
    image.write_bytes(large_image(np.full((32, 32, 3), 90, np.uint8), num_comments=16))
    for number in range(count):
        path = folder / str(number // 100) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        os.link(image, path)


def make_large_dataset(uri: str, count: int, *, num_comments: int, block_size: int) -> Dataset:
    """Photographs of noise, 64 KiB each for every comment, stored as they are: as many bytes as they seem to have."""
    noise = np.random.default_rng(3).integers(0, 256, (256, 341, 3), dtype=np.uint8)
    image = large_image(noise, num_comments)
    samples = ((f"{number % 2}/{number}.jpg", number % 2, ["train"], image) for number in range(count))
    return write_dataset(uri, samples, classes=["0", "1"], split_names=["train"], block_size=block_size)


def large_image(pixels: Pixels, num_comments: int) -> bytes:
    """A JPEG that is larger than its pixels, by 64 KiB for every comment."""
    small = encode_jpeg(pixels)
    comment = b"\xff\xfe" + (65_535).to_bytes(2, "big") + bytes(65_533)
    return small[:2] + num_comments * comment + small[2:]


@contextlib.contextmanager
def peak_of_memory() -> Iterator[list[int]]:
    """A list that holds, when the block has ended, how far this process's memory rose in it (bytes)."""
    grown: list[int] = []
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory_bytes("VmRSS")
    yield grown
    grown.append(_memory_bytes("VmHWM") - before)
    print(f"memory rose by {grown[0] / 1e6:.0f} MB")


def _memory_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
