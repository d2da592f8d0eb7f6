"""What ten million samples cost: to finish a dataset, to open it, to put an epoch in order, to have a first batch.

Blocks of 256 drawn scenes with a short side of 16 are written by a process for each core, and the dataset is finished.
Then, for each kind of order, a process opens it, makes the orders of two epochs, and takes batches where a training
might begin. Each part is printed with its time, and the memory that the process held afterwards and at most.

Fails when a sample takes more than 80 bytes once the dataset is open, 220 while it is opened, or 48 while the global
orders are made (docs/concepts/memory.md: 60, 190 and 48), the window's more than 16 MB, or when a batch takes more than
2 s once the order is made.

    python -m benchmarks.ten_million [--samples 10000000] [--folder FOLDER]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from sunspark.data.codec import StoredImage, to_stored_image
from sunspark.data.scenes import draw_scenes
from sunspark.data.writer import Recipe, StoredSample, WrittenBlock, finish_dataset, write_block

_BLOCK: Final = 256
_NUM_CLASSES: Final = 397
_SIDE: Final = 16
_OPEN_BYTES, _OPENING_BYTES = 80, 220
"""A sample, once the dataset is open, and before."""
_ORDER_BYTES: Final = {"global": 48, "window": 1.6}
"""A sample of ten million, while orders are made."""
_MOST_BATCH_SECONDS: Final = 2.0
_LOAD_SECONDS: Final = 600.0

_LOAD: Final = """
import json, sys, time

def done(what):
    global since
    now = time.perf_counter()
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    held, most = (int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    print(json.dumps({"what": what, "seconds": now - since, "held_bytes": held, "most_bytes": most}), flush=True)
    open("/proc/self/clear_refs", "w").write("5")
    since = time.perf_counter()

since = time.perf_counter()

from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.data.window_order import split_blocks

uri, cache, order = sys.argv[1:]
done("imports")
dataset = Dataset.open(uri)
done("open")
rows = dataset.rows("train")
plan = StepPlan(
    dataset_id=dataset.id, split="train", seed=0, num_samples=len(rows), global_batch_size=64, num_epochs=10,
    num_replicas=1, blocks=split_blocks(dataset.first_rows, rows) if order == "window" else None,
)
del rows
loader = Loader(dataset, plan, LoaderConfig(image_size=16, cache_directory=cache, prefetch_steps=0), 2)
done("loader")
for epoch in (0, 1):
    plan.rows_of(epoch * plan.steps_per_epoch)
    done(f"order of epoch {epoch}")
for share in (0, 0.49, 0.98):
    loader.take(int(share * plan.steps_per_epoch), range(1))
    done(f"batch at {share:.0%}")
loader.close()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the dataset stays for the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        failures = measure(arguments.folder or Path(name), arguments.samples)
    if failures:
        sys.exit("; ".join(failures))


def measure(folder: Path, num_samples: int) -> list[str]:
    """What is not as it should be, in words; everything is printed."""
    dataset = folder / f"dataset-{num_samples}"
    if not (dataset / "manifest.json").exists():
        make_dataset(str(dataset), num_samples, stored_scenes(folder / "scenes"))
    failures = []
    for order, order_bytes in _ORDER_BYTES.items():
        parts = load(dataset, folder / f"cache-{order}", order)
        start, opened = (parts[what]["held_bytes"] for what in ("imports", "open"))
        making = max(parts[f"order of epoch {epoch}"]["most_bytes"] for epoch in (0, 1)) - parts["loader"]["held_bytes"]
        slowest = max(part["seconds"] for what, part in parts.items() if what.startswith("batch"))
        for what, found, most in (
            ("bytes a sample, open", (opened - start) / num_samples, _OPEN_BYTES),
            ("bytes a sample, at most", (parts["open"]["most_bytes"] - start) / num_samples, _OPENING_BYTES),
            (f"bytes a sample, {order} orders", making / num_samples, order_bytes),
            (f"seconds for a batch, {order} order", slowest, _MOST_BATCH_SECONDS),
        ):
            print(f"{what}: {found:.3g} (bound {most:g})", flush=True)
            if found > most:
                failures.append(f"{what}: {found:.3g}, more than {most:g}")
    return failures


def make_dataset(uri: str, num_samples: int, scenes: list[StoredImage]) -> None:
    started = time.perf_counter()
    ranges = [range(start, min(start + _BLOCK, num_samples)) for start in range(0, num_samples, _BLOCK)]
    with ProcessPoolExecutor() as pool:
        blocks = list(pool.map(partial(write, uri, scenes), ranges, chunksize=32))
    written = time.perf_counter()
    recipe = Recipe(
        classes=tuple(f"class {label}" for label in range(_NUM_CLASSES)),
        split_names=("train", "test"),
        configuration={"block_size": _BLOCK},
        num_listed=num_samples,
    )
    finish_dataset(uri, recipe, blocks, [])
    finished = time.perf_counter()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(blocks)} blocks written in {written - started:.0f} s, finished in {finished - written:.0f} s; "
        f"this process held {most:.1f} GiB at most",
        flush=True,
    )


def write(uri: str, scenes: list[StoredImage], numbers: range) -> WrittenBlock:
    """One block; samples are in the order of their numbers, of which five in six are for training."""
    return write_block(uri, numbers.start // _BLOCK, [sample(number, scenes) for number in numbers])


def sample(number: int, scenes: list[StoredImage]) -> StoredSample:
    label, image = number % _NUM_CLASSES, scenes[number % len(scenes)]
    return StoredSample(
        path=f"class_{label:03d}/sun_{number:015d}.jpg",
        label=label,
        splits=1 if number % 6 else 2,
        image=image.jpeg,
        width=image.width,
        height=image.height,
        source_format=image.source_format,
        source_width=image.source_width,
        source_height=image.source_height,
        source_bytes=len(image.jpeg),
    )


def stored_scenes(folder: Path) -> list[StoredImage]:
    draw_scenes(str(folder), num_classes=4, images_per_class=64)
    return [to_stored_image(path.read_bytes(), short_side=_SIDE) for path in sorted(folder.rglob("*.jpg"))]


def load(dataset: Path, cache: Path, order: str) -> dict[str, dict[str, float]]:
    """What each part took, of a process of its own."""
    words = [sys.executable, "-c", _LOAD, str(dataset), str(cache), order]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_LOAD_SECONDS, check=False)
    if done.returncode:
        sys.exit(f"loading in the {order} order failed:\n{done.stderr[-4000:]}")
    parts = {part.pop("what"): part for part in map(json.loads, done.stdout.splitlines())}
    for what, part in parts.items():
        held, most = (part[name] / 2**20 for name in ("held_bytes", "most_bytes"))
        print(f"  {order}: {what}: {part['seconds']:.2f} s; held {held:,.0f} MiB, at most {most:,.0f}", flush=True)
    return parts


if __name__ == "__main__":
    main()
