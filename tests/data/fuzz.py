"""Damaged images without end: drawn in every format, then mutated; the same seed mutates alike.

    python -m tests.data.fuzz FOLDER NUM SEED     makes NUM of them in FOLDER and ingests them within a budget

prints one JSON object: listed, accepted, quarantined, the dataset's id, and by how many bytes the process grew at most.
"""

import faulthandler
import json
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from sunspark.data.decoder import MAX_PIXELS
from sunspark.data.early_end import Hopeless
from sunspark.data.ingest import IngestConfig
from sunspark.data.scenes import draw_scene
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest import Engine, PlanT, ResultT, ingest
from tests.data.odd_images import quadrants, saved, taken, transparent_palette

BUDGET_BYTES = 17 * MAX_PIXELS + 200 * 10**6
"""What docs/concepts/memory.md gives the largest image on its way (17 bytes a pixel), and a block."""
BLOCK_SECONDS = 60.0
BLOCK_SIZE = 100
_MAGIC_NUMBERS = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)

Mutation = Callable[[bytearray, random.Random], None]


def originals() -> list[bytes]:
    """Whole images of every format that is taken, and of every kind of them."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (24, 31, 3), np.uint8))
    frames = [noise.quantize(16), noise.quantize(8)]
    return [
        *taken().values(),
        transparent_palette(),
        draw_scene("coast", 0),
        saved(noise.convert("L"), "JPEG"),
        saved(noise.convert("RGBA"), "PNG"),
        saved(Image.fromarray(rng.integers(0, 65_536, (9, 13), np.uint16)), "PNG"),
        saved(noise, "BMP"),
        saved(noise.convert("1"), "BMP"),
        saved(noise.quantize(32), "BMP"),
        *(saved(noise, "TIFF", compression=kind) for kind in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        saved(noise.convert("1"), "TIFF", compression="group4"),
        saved(noise, "WEBP", quality=80),
        saved(noise.convert("RGBA"), "WEBP", lossless=True),
        saved(quadrants(), "WEBP", save_all=True, append_images=[noise.resize(quadrants().size)]),
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    ]


def mutated(seed: int, num_images: int) -> Iterator[bytes]:
    """Images, each with one to four mutations one after the other."""
    whole, dice = originals(), random.Random(seed)
    for number in range(num_images):
        body = bytearray(whole[number % len(whole)])
        for _ in range(dice.choice((1, 1, 2, 4))):
            if body:
                dice.choice(_MUTATIONS)(body, dice)
            if dice.random() < 0.1:
                _splice(body, dice.choice(whole), dice)
        yield bytes(body)


def write_source(folder: Path, num_images: int, seed: int) -> Path:
    """`num_images` mutated images in two classes."""
    for number, body in enumerate(mutated(seed, num_images)):
        path = folder / f"class {number % 2}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return folder


def ingest_within_budget(source: Path, dataset: Path) -> dict[str, object]:
    """Ingest in this process. Its hard limit is twice the budget: a breach of the budget must show, not be survived."""
    before = _virtual_bytes("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (before + 2 * BUDGET_BYTES,) * 2)
    result = ingest(str(source), str(dataset), IngestConfig(block_size=BLOCK_SIZE, max_bad_fraction=1), watched)
    grown = _virtual_bytes("VmPeak") - before
    return {
        "listed": result.listed,
        "accepted": result.accepted,
        "quarantined": result.quarantined,
        "dataset_id": result.dataset_id,
        "grown_bytes": grown,
    }


@contextmanager
def watched() -> Iterator[Engine]:
    """An engine in this process: a block that takes too long ends it, and says where it hung."""

    def each_within_its_time(
        work: Callable[[PlanT], ResultT], plans: Sequence[PlanT], display: CountDisplay, hopeless: Hopeless
    ) -> list[ResultT]:
        del display, hopeless
        results = []
        for plan in plans:
            faulthandler.dump_traceback_later(BLOCK_SECONDS, exit=True)
            results.append(work(plan))
            faulthandler.cancel_dump_traceback_later()
        return results

    yield each_within_its_time


def _virtual_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _flip_bits(body: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 16)):
        body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)


def _set_bytes(body: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 8)):
        body[dice.randrange(len(body))] = dice.choice(_MAGIC_NUMBERS)


def _set_in_head(body: bytearray, dice: random.Random) -> None:
    """Where sizes, depths and counts stand."""
    for _ in range(dice.randint(1, 4)):
        body[dice.randrange(min(64, len(body)))] = dice.choice((*_MAGIC_NUMBERS, dice.randrange(256)))


def _set_number(body: bytearray, dice: random.Random) -> None:
    """Two or four bytes that are one large number."""
    length, start = dice.choice((2, 4)), dice.randrange(len(body))
    value = dice.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1)) & (256**length - 1)
    body[start : start + length] = value.to_bytes(length, dice.choice(("big", "little")))


def _delete(body: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(body))
    del body[start : start + dice.randint(1, 64)]


def _repeat(body: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(body))
    body[start:start] = body[start : start + dice.randint(1, 256)] * dice.randint(1, 4)


def _insert(body: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(body))
    body[start:start] = dice.randbytes(dice.randint(1, 64))


def _cut(body: bytearray, dice: random.Random) -> None:
    del body[dice.randrange(len(body)) :]


def _splice(body: bytearray, other: bytes, dice: random.Random) -> None:
    """The head of one image with the tail of another."""
    body[dice.randrange(len(body) + 1) :] = other[dice.randrange(len(other)) :]


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _set_bytes,
    _set_in_head,
    _set_number,
    _delete,
    _repeat,
    _insert,
    _cut,
)


if __name__ == "__main__":
    place, num, seed_of_all = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(ingest_within_budget(write_source(place / "source", num, seed_of_all), place / "dataset")))
