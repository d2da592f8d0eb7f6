"""Images per second of the loader, beside those of others: random resized crop 224, mirrored by chance, uint8 batches.

Drawn scenes, enlarged to 1024 x 768 and stored with a short side of 256 px; every loader reads the same JPEGs, which
lie in the page cache, in the node's cache, or in the form that it asks for. Two threads or two worker processes on two
cores, one thread on one core; each figure is of its own process, over 100 batches of 64 after the first ones of an
epoch; the arms run in alternation, in another order each round: what ran before a process shows in its speed.

`torchvision` is `DataLoader` with `decode_jpeg` and transforms v2, `torchvision_pillow` the same with Pillow's decoder;
litdata and mosaicml-streaming run in a virtual environment that the script builds (`--no-others` leaves them out). S3
is a server on loopback, with all blocks in the node's cache.

Fails when two threads come to less than 1.5 of the better of torchvision's, to less than 1.85 of one, or to less than
litdata or streaming; when they come to less than 0.9 with the dataset on S3; or when a first batch takes more than 2 s
from opening the dataset, its blocks being cached.

    python -m benchmarks.loader [--repeats 9] [--batches 100] [--images 8192] [--no-others] [--folder FOLDER]
"""

import argparse
import functools
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.ingest import enlarged
from benchmarks.peer_runs.environments import HERE, loaders_python
from sunspark.data.codec import to_stored_image
from sunspark.data.scenes import draw_scenes
from sunspark.data.writer import write_dataset
from tests.failing_s3 import KEY, serve

_BATCH: Final = 64
_NUM_SCENES: Final = 512
_RUN_SECONDS: Final = 600.0
_OURS: Final = "sunspark, two threads"
_ONE_THREAD: Final = "sunspark, one thread"
_FROM_S3: Final = "sunspark, two threads, dataset on S3"
_POSITIONS: Final = ("0", "0.49", "0.98", "3.5", "9.99")
"""In epochs."""
_LEAST_OF_TORCHVISION, _LEAST_OF_ONE_THREAD, _LEAST_OF_OTHERS, _LEAST_ON_S3 = 1.5, 1.85, 1.0, 0.9
_MOST_FIRST_SECONDS: Final = 2.0

_LOAD: Final = """
import sys, time
from sunspark.data.augment import AugmentConfig
from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan

uri, cache, threads, position, batches = *sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
started = time.perf_counter()
dataset = Dataset.open(uri)
plan = StepPlan(
    dataset_id=dataset.id, split="train", seed=0, num_samples=len(dataset), global_batch_size=64, num_epochs=10,
    num_replicas=1,
)
config = LoaderConfig(image_size=224, cache_directory=cache, augment=AugmentConfig(crop_scale=(0.08, 1.0)))
loader = Loader(dataset, plan, config, threads)
first = int(position * plan.steps_per_epoch)
loader.take(first, range(1))
first_seconds = time.perf_counter() - started
warm = first + 16 if batches else first
for step in range(first + 1, warm + 1):
    loader.take(step, range(1))
started = time.perf_counter()
count = sum(len(loader.take(step, range(1))[0]) for step in range(warm + 1, warm + 1 + batches))
print(first_seconds, count / (time.perf_counter() - started))
loader.close()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="runs of each arm")
    parser.add_argument("--batches", type=int, default=100, help="batches of a run")
    parser.add_argument(
        "--images", type=int, default=8192, help="images of the dataset; an epoch must hold the batches"
    )
    parser.add_argument("--others", action=argparse.BooleanOptionalAction, default=True, help="litdata and streaming")
    parser.add_argument("--folder", type=Path, help="where dataset, environment and caches stay for the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        failures = measure(folder, arguments.repeats, arguments.batches, arguments.images, arguments.others)
    if failures:
        sys.exit("; ".join(failures))


def measure(folder: Path, repeats: int, batches: int, images: int, with_others: bool) -> list[str]:
    """What is not as it should be, in words; everything is printed."""
    make_dataset(folder, images)
    dataset = str(folder / "bucket" / "dataset")
    load(folder, dataset, 2, "0", images // _BATCH - 17)  # all blocks are in the node's cache from here on
    others = {peer: loaders_python(folder) for peer in ("litdata", "streaming")} if with_others else {}
    peers = {"torchvision": Path(sys.executable), "torchvision_pillow": Path(sys.executable)} | others
    with serve(folder / "bucket") as server:
        arms: dict[str, Callable[[], float]] = {
            _OURS: lambda: load(folder, dataset, 2, "0", batches)[1],
            _ONE_THREAD: lambda: load(folder, dataset, 1, "0", batches)[1],
            _FROM_S3: lambda: load(folder, server.uri("dataset"), 2, "0", batches)[1],
        }
        arms |= {peer: functools.partial(of_peer, python, peer, folder, batches) for peer, python in peers.items()}
        rates: dict[str, list[float]] = {arm: [] for arm in arms}
        for number in range(repeats):
            for arm in random.Random(number).sample([*arms], len(arms)):
                rates[arm].append(arms[arm]())
            print("  " + "; ".join(f"{arm}: {found[-1]:.0f}" for arm, found in rates.items()), flush=True)
    firsts = [load(folder, dataset, 2, position, 0)[0] for position in _POSITIONS for _ in range(repeats)]
    for arm, found in rates.items():
        spread = f"{min(found):.0f} to {max(found):.0f}"
        print(f"{arm}: n={len(found)} median {statistics.median(found):.0f} ({spread}) images/s")
    spread = f"{min(firsts):.2f} to {max(firsts):.2f}"
    print(f"first batch: n={len(firsts)} median {statistics.median(firsts):.2f} s ({spread})")
    best = max(("torchvision", "torchvision_pillow"), key=lambda peer: statistics.median(rates[peer]))
    bounds = [(_OURS, best, _LEAST_OF_TORCHVISION), (_OURS, _ONE_THREAD, _LEAST_OF_ONE_THREAD)]
    bounds += [(_OURS, peer, _LEAST_OF_OTHERS) for peer in others] + [(_FROM_S3, _OURS, _LEAST_ON_S3)]
    failures = [failure for bound in bounds if (failure := missed(rates, *bound))]
    if max(firsts) > _MOST_FIRST_SECONDS:
        failures.append(f"a first batch took {max(firsts):.2f} s, more than {_MOST_FIRST_SECONDS:g}")
    return failures


def missed(rates: Mapping[str, Sequence[float]], arm: str, other: str, least: float) -> str | None:
    """The failure, if the median of pairs of one round is below `least`."""
    ratios = [one / of_other for one, of_other in zip(rates[arm], rates[other], strict=True)]
    median = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"({arm}) / ({other}): median of pairs {median:.2f} ({spread}; bound {least:g})")
    return f"({arm}) comes to {median:.2f} of ({other}), less than {least:g}" if median < least else None


def load(folder: Path, dataset: str, threads: int, position: str, batches: int) -> tuple[float, float]:
    """Of a process on `threads` cores: seconds to its first batch, images per second after it."""
    numbers = [str(threads), position, str(batches)]
    words = [sys.executable, "-c", _LOAD, dataset, str(folder / "cache"), *numbers]
    first_seconds, rate = map(float, run([*on_cores(threads), *words]).split())
    return first_seconds, rate


def of_peer(python: Path, peer: str, folder: Path, batches: int) -> float:
    """Images per second; what the peer needs besides the files, it makes in `folder` at its first run."""
    words = [str(python), str(HERE / "loader_peers.py"), peer, str(folder), "--batches", str(batches)]
    return float(run([*on_cores(2), *words]).split()[-1])


def on_cores(number: int) -> list[str]:
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:number]))]


def run(words: list[str]) -> str:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        words, env=os.environ | keys, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def make_dataset(folder: Path, num_images: int) -> None:
    """The dataset, and its JPEGs as files for those who read files; each scene is there several times."""
    if (folder / "bucket" / "dataset" / "manifest.json").exists():
        return
    draw_scenes(str(folder / "scenes"), num_classes=4, images_per_class=_NUM_SCENES // 4)
    stored = [to_stored_image(enlarged(path), short_side=256).jpeg for path in (folder / "scenes").rglob("*.jpg")]
    (folder / "jpegs").mkdir(parents=True, exist_ok=True)
    samples = [
        (f"{number:05d}.jpg", number % 10, ["train"], stored[number % len(stored)]) for number in range(num_images)
    ]
    for name, _, _, jpeg in samples:
        (folder / "jpegs" / name).write_bytes(jpeg)
    write_dataset(str(folder / "bucket" / "dataset"), samples, classes=[str(label) for label in range(10)])


if __name__ == "__main__":
    main()
