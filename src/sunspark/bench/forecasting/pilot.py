"""A pilot: a few short trainings where the long one shall run, for a forecast of it.

They are ordinary runs on some images of the dataset, copied to a folder that all workers reach: one worker alone with
two sizes of a batch, several that sum gradients with each compression that is asked for, one run of rounds, and a
parameter server with one worker and with all. None of them is a setting that one would train with: their batches are a
quarter and three quarters of the real one (more where that is less than two images of each worker), and their exchanges
2 and 4 steps apart. Images are read from the copy: what the storage of the dataset takes at first sight is not in it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sunspark import storage
from sunspark.bench.forecasting.observation import Observation, observe
from sunspark.data.dataset import Dataset
from sunspark.data.writer import write_dataset
from sunspark.launch.config import TrainConfig
from sunspark.launch.train import train
from sunspark.parallel.codec import Compression
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.validation import ValidationConfig

_RUN_SECONDS: Final = 5.0
"""That each of them trains, if its steps are as long as those of one worker."""
_FIRST_STEPS: Final = 12
_LEAST_STEPS: Final = 8
_MOST_STEPS: Final = 96
_LONG_SECONDS: Final = 600.0
"""Of all runs together, that is told before they are made."""
_BATCHES_OF_IMAGES: Final = 8
"""Large batches that the images of a pilot amount to: an epoch of it."""
_EXCHANGES: Final = 6
"""At least, of every run."""
_STEPS_OF_ROUND: Final = 4
_STEPS_OF_UNIT: Final = 2
_SPLIT: Final = "pilot"


@dataclass(frozen=True, kw_only=True, slots=True)
class PilotRun:
    """One of the short trainings."""

    strategy: StrategyConfig
    workers: int
    global_batch_size: int

    @property
    def name(self) -> str:
        """For messages, and of its folder."""
        compressed = "" if self.strategy.compression == "none" else f"-{self.strategy.compression}"
        return f"{self.strategy.strategy}{compressed}-{self.workers}x{self.global_batch_size}"


def run_pilot(
    dataset: Dataset,
    config: TrainConfig,
    compressions: Sequence[Compression],
    folder: str,
    tell: Callable[[str], None] = lambda _: None,
    *,
    has_server: bool = True,
) -> list[Observation]:
    """Make the runs in `folder`, with up to the workers of `config`; `tell` hears of each.

    Without `has_server`, nothing is learned of strategies with a parameter server.

    Raises what a training raises, and DatasetError when the dataset cannot be read.
    """
    unit = _unit_of(config)
    images = write_some(dataset, config.training.split, 3 * unit * _BATCHES_OF_IMAGES, storage.join(folder, "images"))
    runs = [run for run in runs_of(config, compressions) if has_server or not run.strategy.has_server]
    observations: list[Observation] = []
    seconds_per_image = 0.0
    for number, run in enumerate(runs, start=1):
        tell(f"pilot {number}/{len(runs)}: {run.name}")
        wanted = _RUN_SECONDS / (seconds_per_image * run.global_batch_size) if observations else _FIRST_STEPS
        uri = storage.join(folder, run.name)
        train(images.uri, uri, _config_of(run, config, wanted))
        observations.append(observe(uri))
        if len(observations) == 1:
            seconds_per_image = observations[0].period_seconds / run.global_batch_size
            least = sum(_LEAST_STEPS * seconds_per_image * one.global_batch_size for one in runs[1:])
            if least > _LONG_SECONDS:
                tell(f"steps are long here: the pilot will take {least / 60:.0f} minutes or more")
    return observations


def runs_of(config: TrainConfig, compressions: Sequence[Compression]) -> Iterator[PilotRun]:
    """What a pilot for this training runs; the first one tells how long the others may be."""
    unit, workers = _unit_of(config), config.launch.workers
    small, large = unit, 3 * unit
    yield PilotRun(strategy=StrategyConfig(strategy="serial"), workers=1, global_batch_size=small)
    yield PilotRun(strategy=StrategyConfig(strategy="serial"), workers=1, global_batch_size=large)
    server = StrategyConfig(strategy="async", sync_every=_STEPS_OF_UNIT)
    yield PilotRun(strategy=server, workers=1, global_batch_size=small)
    if workers == 1:
        return
    yield PilotRun(strategy=server, workers=workers, global_batch_size=large)
    for several, compression in itertools.product(sorted({2, workers}), ("none", *compressions)):
        if several == workers or compression == "none":
            strategy = StrategyConfig(strategy="all_reduce", compression=compression)
            yield PilotRun(strategy=strategy, workers=several, global_batch_size=large)
    rounds = StrategyConfig(strategy="local_sgd", sync_every=_STEPS_OF_ROUND)
    yield PilotRun(strategy=rounds, workers=workers, global_batch_size=large)


def write_some(dataset: Dataset, split: str, count: int, uri: str) -> Dataset:
    """A dataset of `count` images of the split, the first ones as they are stored, again and again if they are few."""
    rows = itertools.islice(itertools.cycle(dataset.rows(split).tolist()), count)
    blocks: dict[int, list[bytes]] = {}

    def samples() -> Iterator[tuple[str, int, list[str], bytes]]:
        for number, row in enumerate(rows):
            block = dataset.block_of(row)
            if block not in blocks:
                blocks.clear()
                blocks[block] = dataset.read_block(block).images
            image = blocks[block][row - dataset.block_rows(block).start]
            yield f"{number}/{dataset.path_of(row)}", int(dataset.labels[row]), [_SPLIT], image

    return write_dataset(uri, samples(), classes=dataset.classes, split_names=(_SPLIT,))


def _unit_of(config: TrainConfig) -> int:
    """A quarter of the batch; two images of each worker at least."""
    return max(2 * config.launch.workers, config.training.global_batch_size // 4)


def _config_of(run: PilotRun, config: TrainConfig, wanted_steps: float) -> TrainConfig:
    """Of the real training all but how long it is, and who computes it together."""
    unit = _unit_of(config)
    steps_per_epoch = 3 * unit * _BATCHES_OF_IMAGES // run.global_batch_size
    every = run.strategy.steps_between_exchanges
    assert isinstance(every, int)
    steps = max(float(np.clip(wanted_steps, _LEAST_STEPS, _MOST_STEPS)), _EXCHANGES * every)
    return replace(
        config,
        strategy=run.strategy,
        validation=ValidationConfig(),
        launch=replace(config.launch, workers=run.workers, tracker="none"),
        training=replace(
            config.training,
            split=_SPLIT,
            epochs=-(-int(steps) // steps_per_epoch),
            global_batch_size=run.global_batch_size,
            replicas=0,
            checkpoint_every=10 * _MOST_STEPS,
        ),
    )
