"""What a training would take and cost, for every way of making it parallel and any number of workers.

The costs are measured by a pilot (`pilot.py`) or read from finished runs; each row is a simulation with them
(`simulation.py`). On another kind of machine, computing is carried over by a factor of the price table, and the link is
the one in the table: the forecast says so.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sunspark.bench.forecasting.config import ForecastConfig
from sunspark.bench.forecasting.costs import Costs
from sunspark.bench.forecasting.pricing import ATTAINABLE, Instance, instances_of
from sunspark.bench.forecasting.simulation import Setting, seconds_per_step
from sunspark.data.dataset import Dataset
from sunspark.data.order import StepPlan
from sunspark.data.rounds import SyncEvery
from sunspark.errors import RunError
from sunspark.launch.config import TrainConfig
from sunspark.parallel.codec import Compression
from sunspark.training.config import plan_of
from sunspark.training.strategies.config import StrategyConfig

_LEAST_SLICE: Final = 2
"""Images of a slice: batch norms take two."""
_LINK_LATENCY_SECONDS: Final = 2e-4
"""Of a message between two machines, where the pilot's workers shared one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One way of training; times in seconds. None where it is not forecast, and `reason` says why."""

    strategy: str
    sync_every: SyncEvery
    compression: Compression
    workers: int
    instance: str
    """Empty: where the pilot ran."""
    seconds_per_epoch: float | None = None
    images_per_second: float | None = None
    speed_up: float | None = None
    """Over one worker that trains alone on the same kind of machine."""
    efficiency: float | None = None
    """Speed-up for each worker."""
    seconds: float | None = None
    """Of the whole training, its start included."""
    usd: float | None = None
    """Of the workers' machines and one more for the driver."""
    worker_bytes: int | None = None
    """Memory of a worker, as the pilot's had it."""
    is_knee: bool = False
    """The least cost times time, one worker alone included: more workers cost more than they save."""
    is_extrapolated: bool = False
    """More workers than the pilot had."""
    reason: str = ""

    @property
    def options(self) -> dict[str, object]:
        """Of a StrategyConfig."""
        chosen: dict[str, object] = {"strategy": self.strategy, "compression": self.compression}
        return chosen if self.strategy in ("serial", "all_reduce") else chosen | {"sync_every": self.sync_every}

    @property
    def name(self) -> str:
        """In words, without its number of workers."""
        words = [self.strategy]
        if self.strategy not in ("serial", "all_reduce"):
            words.append(
                {"epoch": "every epoch", 1: "every step"}.get(self.sync_every, f"every {self.sync_every} steps")
            )
        if self.compression != "none":
            words.append(self.compression)
        return ", ".join(words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is to be trained."""

    config: TrainConfig
    steps: StepPlan
    """Of the whole training, each a single slice."""
    judged_images: int
    """Of one evaluation while training; 0: there is none."""

    @classmethod
    def of(cls, dataset: Dataset, config: TrainConfig) -> "Work":
        """Raises ConfigError or DatasetError when `config` makes no sense with `dataset`."""
        validation = config.validation
        judged = len(dataset.rows(validation.split, "--eval-split")) if validation.eval_every else 0
        return cls(config=config, steps=steps_of(dataset, config), judged_images=judged)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pilot:
    """What is known of the place where it ran."""

    costs: Costs
    workers: int
    """The most that it had."""
    room: int | None
    """For so many workers; None: for more than it had, on machines that are added."""
    is_on_gpu: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Machine:
    """Where workers would be: their costs there, and how many machines that takes."""

    costs: Costs
    instance: Instance | None
    workers_each: int = 1
    room: int | None = None
    is_unknown: bool = False
    """Nothing that was measured says how fast its processor computes."""

    def usd(self, workers: int, seconds: float) -> float | None:
        """Of the machines of so many workers, and one for the driver."""
        if self.instance is None:
            return None
        machines = -(-workers // self.workers_each) + 1
        return machines * self.instance.usd_per_hour * seconds / 3600

    def why_not(self, workers: int, worker_bytes: int | None) -> str:
        """Why so many workers cannot be there, or nothing is known of them."""
        if self.is_unknown and self.instance:
            kind = "GPU" if self.instance.gpus else "processor"
            return f"what was measured says nothing of the {kind} of {self.instance.name}: make a pilot on one"
        if self.room is not None and workers > self.room:
            return f"this machine has room for {self.room}; --instance names others, --master a cluster"
        if self.instance and worker_bytes and self.workers_each * worker_bytes > self.instance.memory_gib * 2**30:
            return f"{self.instance.name} has {self.instance.memory_gib:g} GiB of memory, and its workers take more"
        return ""


def rows_of(work: Work, asked: ForecastConfig, pilot: Pilot) -> tuple[list[Row], list[str]]:
    """A row for each way of training, and what of it was not measured where it would run, in words.

    Raises ConfigError when an instance is not known or too small.
    """
    instances: list[Instance | None] = [*instances_of(asked.instance, asked.prices)] or [None]
    rows: list[Row] = []
    steps = work.steps.steps_per_epoch
    longer = [str(every) for every in asked.exchanges if every != "epoch" and every > steps]
    carried = [f"an epoch has {steps} steps: every {', '.join(longer)} steps is every epoch"] if longer else []
    for instance in instances:
        machine, words = _machine(instance, pilot, work.config)
        carried += words
        alone = seconds_per_epoch(replace(work, config=_serial(work.config)), machine.costs)
        rows += [
            _row(strategy, workers, work, machine, alone, asked.epochs or work.config.training.epochs)
            for strategy in _strategies(asked, work)
            for workers in _numbers_of_workers(strategy, asked)
        ]
    rows = [replace(row, is_extrapolated=row.workers > pilot.workers) for row in rows]
    return list(_with_knees(rows)), carried


def steps_of(dataset: Dataset, config: TrainConfig) -> StepPlan:
    """The steps of a training, whoever computes them: each a single slice."""
    return plan_of(dataset, replace(config, training=replace(config.training, replicas=1)).work)


def setting_of(config: TrainConfig, plan: StepPlan) -> Setting:
    """What a simulation needs of a configuration."""
    strategy = config.strategy
    every = strategy.steps_between_exchanges
    return Setting(
        strategy=strategy.strategy,
        workers=config.launch.workers,
        global_batch_size=config.training.global_batch_size,
        steps_per_exchange=plan.steps_per_epoch if every == "epoch" else min(every, plan.steps_per_epoch),
        replicas=config.training.replicas,
        compression=strategy.compression,
        exchanges_moments=strategy.is_local and strategy.becomes_of_moments != "reset",
    )


def seconds_per_epoch(work: Work, costs: Costs) -> float:
    """Of one configuration, with its share of the evaluations while training. Raises RunError when it is not known."""
    setting, steps = setting_of(work.config, work.steps), work.steps
    rounds, left = divmod(steps.steps_per_epoch, setting.steps_per_exchange)
    seconds = rounds * setting.steps_per_exchange * seconds_per_step(setting, costs)
    if left:  # the last round of an epoch is shorter
        seconds += left * seconds_per_step(replace(setting, steps_per_exchange=left), costs)
    missing = steps.steps_per_epoch * steps.global_batch_size - steps.num_samples  # images of the last step
    seconds -= missing * setting.slices / setting.num_replicas * costs.image_seconds * costs.crowded(setting.workers)
    return seconds + _evaluation_seconds(work, costs) / max(1, work.config.validation.eval_every)


def _evaluation_seconds(work: Work, costs: Costs) -> float:
    """Forward passes over the split, which all workers share."""
    workers = work.config.launch.workers
    return work.judged_images / workers * costs.image_seconds * (1 - costs.backward) * costs.crowded(workers)


def _strategies(asked: ForecastConfig, work: Work) -> Iterator[StrategyConfig]:
    """One worker alone, then every combination that makes sense; moments are exchanged as the configuration says."""
    yield StrategyConfig(strategy="serial")
    for name, compression in itertools.product(asked.strategies, asked.compressions):
        if name == "all_reduce":
            yield StrategyConfig(strategy=name, compression=compression)
            continue
        inner = work.config.strategy.inner_state if name in ("local_sgd", "diloco") else None
        steps = work.steps.steps_per_epoch
        for every in dict.fromkeys(
            "epoch" if every == "epoch" or every >= steps else every for every in asked.exchanges
        ):
            yield StrategyConfig(strategy=name, sync_every=every, compression=compression, inner_state=inner)


def _numbers_of_workers(strategy: StrategyConfig, asked: ForecastConfig) -> list[int]:
    """Those with which it is what its name says."""
    if strategy.strategy == "serial":
        return [1]
    return [workers for workers in asked.numbers_of_workers if workers > 1]


def _row(strategy: StrategyConfig, workers: int, work: Work, machine: _Machine, alone: float, epochs: int) -> Row:
    config, steps = work.config, work.steps
    worker_bytes = _memory(strategy, machine.costs)
    row = Row(
        strategy=strategy.strategy,
        sync_every=strategy.steps_between_exchanges,
        compression=strategy.compression,
        workers=workers,
        instance=machine.instance.name if machine.instance else "",
        worker_bytes=worker_bytes,
        reason=machine.why_not(workers, worker_bytes),
    )
    replicas = config.training.replicas or workers
    if steps.global_batch_size < _LEAST_SLICE * replicas:
        row = replace(row, reason=f"a global batch of {steps.global_batch_size} has less than two images for each")
    if workers > replicas:
        row = replace(row, reason=f"a step has --replicas {replicas}, and no work for more workers")
    if row.reason:
        return row
    mine = replace(config, strategy=strategy, launch=replace(config.launch, workers=workers))
    try:
        seconds = seconds_per_epoch(replace(work, config=mine), machine.costs)
    except RunError as error:
        return replace(row, reason=str(error))
    whole = machine.costs.start_seconds + epochs * seconds
    return replace(
        row,
        seconds_per_epoch=seconds,
        images_per_second=steps.num_samples / seconds,
        speed_up=alone / seconds,
        efficiency=alone / seconds / workers,
        seconds=whole,
        usd=machine.usd(workers, whole),
    )


def _serial(config: TrainConfig) -> TrainConfig:
    return replace(
        config,
        strategy=StrategyConfig(strategy="serial"),
        launch=replace(config.launch, workers=1),
        training=replace(config.training, replicas=0),
    )


def _memory(strategy: StrategyConfig, costs: Costs) -> int | None:
    """Of the pilot's runs of the same kind."""
    kinds = {"diloco": "local_sgd", "hogwild": "async"}
    return costs.memory_bytes.get(kinds.get(strategy.strategy, strategy.strategy))


def _with_knees(rows: Sequence[Row]) -> Iterator[Row]:
    """The knee of a strategy has the least cost times time of its numbers of workers; without prices, workers cost.

    One worker alone is one of them: where it has the least, there is no knee. The last number that was asked for is
    none either: what more workers would do is not known.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    known = [row for row in rows if row.seconds is not None]
    alone = {row.instance: row for row in known if row.strategy == "serial"}
    for row in known:
        groups[row.name, row.instance].append(row)
    knees = set()
    for (_, instance), group in groups.items():
        candidates = [alone[instance], *group] if instance in alone else group
        best = min(candidates, key=lambda row: (row.usd or row.workers * (row.seconds or 0.0)) * (row.seconds or 0.0))
        if best.strategy != "serial" and best is not group[-1]:
            knees.add(id(best))
    for row in rows:
        yield replace(row, is_knee=id(row) in knees)


def _machine(instance: Instance | None, pilot: Pilot, config: TrainConfig) -> tuple[_Machine, list[str]]:
    """The costs on that kind of machine, and what of them is a guess."""
    costs = pilot.costs
    if instance is None:
        return _Machine(costs=costs, instance=None, room=pilot.room), []
    cores = config.launch.cores_per_worker
    each = instance.workers_on_it(cores)
    words = [f"{instance.name}: {instance.usd_per_hour:.4g} USD an hour, {instance.source}"]
    factor = 1.0
    if costs.gigaflops is None:
        if pilot.is_on_gpu != (instance.gpus > 0):
            return _Machine(costs=costs, instance=instance, workers_each=each, is_unknown=True), []
        words.append(f"{instance.name}: computing is taken to be as fast as where the runs were made")
    else:
        attainable = ATTAINABLE * instance.gigaflops * (1 if instance.gpus else cores)
        factor = costs.gigaflops * cores / attainable
        what = "GPU" if instance.gpus else "cores"
        words.append(
            f"{instance.name}: computing is taken to need {factor:.2g} times the time of the pilot, by products of "
            f"matrices (measured here: {costs.gigaflops:.0f} gigaflops a core) and {ATTAINABLE:.0%} of the peak of its "
            f"{what} ({instance.gigaflops:.0f}); a pilot there would measure it"
        )
    image_seconds, slice_seconds = factor * costs.image_seconds, factor * costs.slice_seconds
    if instance.gpus and costs.decoding_seconds is not None:
        decoders = max(1, instance.cores // each)
        image_seconds = max(image_seconds, costs.decoding_seconds / decoders)
        slice_seconds = costs.slice_seconds
        words.append(
            f"{instance.name}: images are decoded by {decoders} of its cores for each GPU, at no more than "
            f"{decoders / costs.decoding_seconds:.0f} images/s, and what a step takes however few images it has is "
            "that of the pilot"
        )
    crowding = {str(number): costs.crowded(number) for number in range(1, each + 1)}
    if each > 1:
        words.append(
            f"{instance.name}: its {each} workers are taken to slow each other down as those of the pilot did, "
            f"{crowding[str(each)]:.2f} times"
        )
    link = 8e-9 / instance.gigabits_per_second
    words.append(
        f"{instance.name}: its link is taken to have {instance.gigabits_per_second:g} Gbit/s, for {each} "
        f"{'worker' if each == 1 else 'workers'}; what rounds, encoding, a server and starting take, and memory, are "
        "those of the pilot"
    )
    there = replace(
        costs,
        slice_seconds=slice_seconds,
        image_seconds=image_seconds,
        optimizer_seconds=factor * costs.optimizer_seconds,
        crowding=crowding,
        spread={"1": costs.spread_of(1)},
        byte_seconds=each * link,
        server_byte_seconds=link,
        latency_seconds=max(costs.latency_seconds or 0.0, _LINK_LATENCY_SECONDS),
    )
    return _Machine(costs=there, instance=instance, workers_each=each), words
