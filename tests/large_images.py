"""Many files of many bytes at little cost, and how far memory rises while they are worked on."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sunspark.data.codec import encode_jpeg


def make_large_files(folder: Path, count: int) -> None:
    """JPEGs of 1 MB each, most of it a comment, a hundred in a folder; on disk they are one."""
    folder.mkdir()
    small = encode_jpeg(np.full((32, 32, 3), 90, np.uint8))
    comment = b"\xff\xfe" + (65_535).to_bytes(2, "big") + bytes(65_533)
    image = folder / ".image"
    image.write_bytes(small[:2] + 16 * comment + small[2:])
    for number in range(count):
        path = folder / str(number // 100) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        os.link(image, path)


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
