"""One worker four times slower than the other: what is left of the sum of what both do alone?

`async` waits for nobody: it fails below 0.9 of the sum. The synchronous ways wait; what the report says of that is
printed. Two local workers with one thread each, `scene_vgg` with n_filters 8 at 128 px, 397 classes, images of noise,
global batch 32 in two replicas. The slow worker stands still at every step, three times as long as a step takes; alone
it takes a quarter of the steps. A worker's images per second are those from the end of its first record to its last.

    python -m benchmarks.stragglers [--repeats 3] [--steps 128] [--folder DIR]
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.links import make_dataset
from sunspark import Fault, stall_at
from sunspark.bench.stragglers import in_words, straggler_of
from sunspark.data.loader import LoaderConfig
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.records import StepRecord, read_records
from sunspark.training.config import TrainingConfig
from sunspark.training.strategies.config import StrategyConfig

_BATCH: Final = 32
_LEAST: Final = 0.9
_WARMUP_STEPS: Final = 8
_ASYNC: Final = StrategyConfig(strategy="async", sync_every=4)
_SYNCHRONOUS: Final = {
    "all_reduce": StrategyConfig(),
    "local_sgd": StrategyConfig(strategy="local_sgd", sync_every=16, inner_state="reset"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="keep the dataset there; what is there is taken")
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        numbers = itertools.count()

        def trained(
            strategy: StrategyConfig, workers: int, faults: Sequence[Fault] = (), steps: int = arguments.steps
        ) -> list[StepRecord]:
            run = str(Path(temporary) / f"run{next(numbers)}")
            train(make_dataset(folder, _BATCH * steps), run, config(strategy, workers), faults)
            return [r for r in read_records(run) if isinstance(r, StepRecord) and r.step >= _WARMUP_STEPS]

        for _ in range(arguments.repeats):
            quick = trained(_ASYNC, 1)
            pause = 3 * statistics.median(r.forward_seconds + r.backward_seconds + r.optimizer_seconds for r in quick)
            slow = trained(_ASYNC, 1, [stall_at(0, "forward", "every", pause)], steps=arguments.steps // 4)
            both = trained(_ASYNC, 2, [stall_at(1, "forward", "every", pause)])
            alone = [images_per_second(quick), images_per_second(slow)]
            ratios.append(images_per_second(both) / sum(alone))
            print(
                f"async: {images_per_second(both):.1f} images/s, alone {alone[0]:.1f} and {alone[1]:.1f}: "
                f"{ratios[-1]:.3f} of the sum",
                flush=True,
            )
        for name, strategy in _SYNCHRONOUS.items():
            records = trained(strategy, 2, [stall_at(1, "forward", "every", pause)])
            print(f"{name}: {in_words(straggler_of(records)) or 'nobody was waited for'}", flush=True)
    print(f"n={len(ratios)} async / sum {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    if statistics.median(ratios) < _LEAST:
        sys.exit(f"not shown: at least {_LEAST} of the sum")


def config(strategy: StrategyConfig, workers: int) -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8}),
        data=LoaderConfig(image_size=128),
        training=TrainingConfig(epochs=1, global_batch_size=_BATCH, replicas=2, checkpoint_every=100_000),
        strategy=strategy,
        launch=LaunchConfig(launcher="local", workers=workers),
    )


def images_per_second(records: Sequence[StepRecord]) -> float:
    """Of all workers together."""
    total = 0.0
    for worker in {record.worker for record in records}:
        mine = [record for record in records if record.worker == worker]
        began = min(record.time_unix_seconds for record in mine)
        ended = max(record.time_unix_seconds for record in mine)
        total += sum(record.samples for record in mine if record.time_unix_seconds > began) / (ended - began)
    return total


if __name__ == "__main__":
    main()
