"""Images per second: two workers with one thread each, one worker with two threads, and a plain PyTorch loop.

`scene_vgg` with n_filters 8 at 128 px, 397 classes, 18.5 M parameters, global batch 64, bf16 where the processor has
it. The arms run in alternation; each is the median over the steps of a run, without the first ten. The plain loop
(channels_last, bf16 autocast, fused Adam) trains on pixels that are in memory already; the others load theirs.

Fails when two local workers with one thread each come to less than 0.9 of one with two: they differ in nothing else.

    python benchmarks/throughput.py [--repeats 5] [--steps 60]
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sunspark.data.codec import to_stored_image
from sunspark.data.loader import LoaderConfig
from sunspark.data.scenes import draw_scenes
from sunspark.data.writer import write_dataset
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.records import StepRecord, read_records
from sunspark.training.config import TrainingConfig

_NUM_CLASSES = 397
_BATCH = 64
_WARMUP_STEPS = 10
_LEAST_OF_TWO_WORKERS = 0.9

_PLAIN_LOOP = """
import sys, time, statistics, torch
from sunspark.models.registry import ModelConfig, build_model, normalize
steps = int(sys.argv[1])
torch.set_num_threads(2)
model = build_model(ModelConfig(model_args={"n_filters": 8}), num_classes=397, image_size=128, seed=0)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
pixels = torch.randint(0, 256, (64, 128, 128, 3), dtype=torch.uint8)
labels = torch.randint(0, 397, (64,))
fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
seconds = []
for _ in range(steps):
    started = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
        logits = model(normalize(pixels, model, torch.float32))
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    seconds.append(time.perf_counter() - started)
print(64 / statistics.median(seconds[10:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each arm")
    parser.add_argument("--steps", type=int, default=60, help="steps of a run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = make_dataset(folder)
        epochs = -(-arguments.steps * _BATCH // 384)
        numbers = itertools.count()

        def trained(launch: LaunchConfig) -> float:
            run = str(folder / f"run{next(numbers)}")
            train(dataset, run, replace(config(epochs), launch=launch))
            return images_per_second(run)

        arms: dict[str, Callable[[], float]] = {
            "two local workers, one thread each": lambda: trained(LaunchConfig(launcher="local", workers=2)),
            "two workers on Spark": lambda: trained(LaunchConfig(master="local[2]", workers=2)),
            "one local worker, two threads": lambda: trained(
                LaunchConfig(launcher="local", workers=1, cores_per_worker=2)
            ),
            "plain loop, two threads": lambda: plain_loop(arguments.steps),
        }
        rates: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(arguments.repeats):
            for arm, measure in arms.items():
                rates[arm].append(measure())
                print(f"  {arm}: {rates[arm][-1]:.1f} images/s", flush=True)
    for arm, found in rates.items():
        spread = f"{min(found):.1f} to {max(found):.1f}"
        print(f"{arm}: n={len(found)} median {statistics.median(found):.1f} ({spread}) images/s")
    two, spark, one, plain = rates.values()
    two_by_one = print_ratio("two workers / one worker", two, one)
    print_ratio("Spark / one worker", spark, one)
    print_ratio("one worker / plain", one, plain)
    if two_by_one < _LEAST_OF_TWO_WORKERS:
        sys.exit(f"two workers come to {two_by_one:.3f} of one, less than {_LEAST_OF_TWO_WORKERS}")


def print_ratio(what: str, ones: list[float], others: list[float]) -> float:
    """The median of pairs."""
    ratios = [one / other for one, other in zip(ones, others, strict=True)]
    median = statistics.median(ratios)
    print(f"{what}: median of pairs {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return median


def make_dataset(folder: Path) -> str:
    """Drawn scenes, stored with a short side of 160 px: what one would store to train at 128."""
    draw_scenes(str(folder / "scenes"), num_classes=6, images_per_class=64, seed=0)
    paths = sorted((folder / "scenes").rglob("*.jpg"))
    samples = [
        (
            path.name + str(index),
            index % _NUM_CLASSES,
            ["train"],
            to_stored_image(path.read_bytes(), short_side=160).jpeg,
        )
        for index, path in enumerate(paths)
    ]
    uri = str(folder / "dataset")
    write_dataset(uri, samples, classes=[f"class{label:03d}" for label in range(_NUM_CLASSES)])
    return uri


def config(epochs: int) -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8}),
        optim=OptimConfig(learning_rate=1e-5, schedule="constant"),
        data=LoaderConfig(image_size=128),
        training=TrainingConfig(epochs=epochs, global_batch_size=_BATCH, checkpoint_every=10_000),
    )


def images_per_second(run: str) -> float:
    """From the times at which worker 0 had applied its steps."""
    steps = [r for r in read_records(run) if isinstance(r, StepRecord) and r.worker == 0][_WARMUP_STEPS:]
    times = [record.time_unix_seconds for record in steps]
    return _BATCH / statistics.median(after - before for before, after in itertools.pairwise(times))


def plain_loop(steps: int) -> float:
    command = [sys.executable, "-c", _PLAIN_LOOP, str(steps)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout)


if __name__ == "__main__":
    main()
