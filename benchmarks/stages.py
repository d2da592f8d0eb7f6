"""What each stage on an image's way costs, in time of a core: the figures that the modules name as their cost.

The stages take turns, `--repeats` times. `buffers given back` is the first stage in a process that leaves glibc as it
is. It fails on nothing: what a stage may cost is for `benchmarks.ingest` and `benchmarks.loader` to say.

    python -m benchmarks.stages [--repeats 15]
"""

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.ingest import enlarged
from sunspark.data import pixels as operations
from sunspark.data.allocator import keep_freed_memory
from sunspark.data.augment import AugmentConfig, training_pixels
from sunspark.data.codec import to_stored_image
from sunspark.data.four_bytes import four_bytes
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.resize import Box, resize, shrink
from sunspark.data.scenes import draw_scenes
from sunspark.data.shuffle import shuffled
from sunspark.data.sources.archive import opened_gzip

_NUM_IMAGES: Final = 16
_NUM_CALLS: Final = 20
_NUM_KEYS: Final = 2_000
_NUM_SHUFFLED: Final = 1_000_000
_GIVEN_BACK: Final = """
import sys, time
from pathlib import Path
from sunspark.data.codec import to_stored_image
bodies = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
for body in bodies:
    to_stored_image(body, short_side=256)
started = time.process_time()
for body in bodies:
    to_stored_image(body, short_side=256)
print(1e3 * (time.process_time() - started) / len(bodies))
"""
Stage = Callable[[], float]
"""Does it once; milliseconds of one thing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        stages = stages_in(Path(name))
        found: dict[str, list[float]] = {stage: [] for stage in stages}
        for _ in range(arguments.repeats):
            for stage, measure in stages.items():
                found[stage].append(measure())
    print("| stage | ms, median (least to most) |\n|---|---|")
    for stage, times in found.items():
        print(f"| {stage} | {statistics.median(times):.3g} ({min(times):.3g} to {max(times):.3g}) |")


def stages_in(folder: Path) -> Mapping[str, Stage]:
    """Every stage by its name; its files lie in `folder`."""
    draw_scenes(str(folder / "scenes"), num_classes=4, images_per_class=_NUM_IMAGES // 4)
    bodies = [enlarged(path) for path in sorted((folder / "scenes").rglob("*.jpg"))]
    (folder / "bodies").mkdir()
    for number, body in enumerate(bodies):
        (folder / "bodies" / f"{number:02d}.jpg").write_bytes(body)
    stored = [to_stored_image(body, short_side=256).jpeg for body in bodies]
    rng = np.random.default_rng(0)
    four = four_bytes(rng.integers(0, 256, (256, 341, 4), np.uint8))
    half = rng.integers(0, 256, (384, 512, 3), np.uint8)
    small = rng.integers(0, 256, (128, 128, 3), np.uint8)
    crops = AugmentConfig(crop_scale=(0.08, 1.0))
    pixel_operations: dict[str, Callable[[], object]] = {
        "posterize": lambda: operations.posterize(small, 4),
        "solarize": lambda: operations.solarize(small, 128),
        "brightness": lambda: operations.brightness(small, 1.5),
        "contrast": lambda: operations.contrast(small, 1.5),
        "saturation": lambda: operations.saturation(small, 1.5),
        "sharpness": lambda: operations.sharpness(small, 1.5),
        "autocontrast": lambda: operations.autocontrast(small),
        "equalize": lambda: operations.equalize(small),
        "affine": lambda: operations.affine(small, (1.0, 0.2, 0.0, 0.0, 1.0, 0.0)),
        "rotate": lambda: operations.rotate(small, 20.0),
        "hue": lambda: operations.hue(small, 0.2),
    }

    def store() -> None:
        for body in bodies:
            to_stored_image(body, short_side=256)

    def view() -> None:
        for number, jpeg in enumerate(stored):
            training_pixels(jpeg, 224, KeyedRandom(0, 0, number), crops)

    def draw_numbers() -> None:
        for number in range(_NUM_KEYS):
            random = KeyedRandom(0, 0, number)
            for _ in range(8):
                random.uniform()

    count = len(bodies)
    return {
        "1024 x 768 to a stored 341 x 256": per(count, store),
        "the same, buffers given back": lambda: in_new_process(folder / "bodies"),
        "stored image to a training view of 224 x 224": per(count, view),
        "341 x 256 of four bytes to 224 x 224": per_call(lambda: resize(four, Box(0, 0, 256, 341), 224)),
        "512 x 384 to 341 x 256": per_call(lambda: shrink(half, height=256, width=341)),
        "eight random numbers of a sample": per(_NUM_KEYS, draw_numbers),
        "a place in a permutation of a million": per(_NUM_SHUFFLED, lambda: shuffled(_NUM_SHUFFLED, "stages")),
        "a MB of JPEGs in a tar.gz": decompressing(bodies),
        "a drawn scene": drawing(folder),
        **{f"{name}, 128 x 128": per_call(apply) for name, apply in pixel_operations.items()},
    }


def per(count: int, work: Callable[[], object]) -> Stage:
    """`work` does `count` things."""

    def measure() -> float:
        started = time.process_time()
        work()
        return 1e3 * (time.process_time() - started) / count

    return measure


def per_call(work: Callable[[], object]) -> Stage:
    """`work` is done so many times that a clock can tell."""

    def call() -> None:
        for _ in range(_NUM_CALLS):
            work()

    return per(_NUM_CALLS, call)


def in_new_process(folder: Path) -> float:
    """Milliseconds an image, of a process that keeps no freed memory."""
    command = [sys.executable, "-c", _GIVEN_BACK, str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)


def decompressing(bodies: list[bytes]) -> Stage:
    """A pass over an archive of about 50 MB, on one thread."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
        for number in range(50 * 10**6 // sum(map(len, bodies)) * len(bodies)):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(bodies[number % len(bodies)])
            tar.addfile(info, io.BytesIO(bodies[number % len(bodies)]))

    def read() -> None:
        with opened_gzip(io.BytesIO(archive.getvalue()), 1, RuntimeError) as file:
            while file.read(2**20):
                pass

    return per(len(archive.getvalue()) // 10**6, read)


def drawing(folder: Path) -> Stage:
    """Sample scenes, a new folder each time."""
    numbers = iter(range(10**6))
    return per(12, lambda: draw_scenes(str(folder / f"drawn-{next(numbers)}"), num_classes=4, images_per_class=3))


if __name__ == "__main__":
    main()
