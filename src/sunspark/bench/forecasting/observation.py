"""What a finished run tells of what training costs where it ran: medians over its exchanges, warm-up left out.

Of all workers, the one that comes last to an exchange waits for nobody: its time there is what the exchange takes.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sunspark import run_directory
from sunspark.bench.history import TrainingClock, peak_memory, steps_as_done, training_clock
from sunspark.bench.words import plural
from sunspark.config import from_dict
from sunspark.data.order import StepPlan, replicas_of
from sunspark.data.rounds import Rounds
from sunspark.errors import RunError
from sunspark.launch.config import LaunchConfig
from sunspark.parallel.codec import Compression
from sunspark.records import StepRecord, read_records
from sunspark.training.config import WorkConfig

_WARMUP_EXCHANGES: Final = 2
"""In the first ones workers meet, and memory is taken for the first time."""
_LEAST_EXCHANGES: Final = 3
"""That are left to take a median of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One run; times in seconds."""

    run: str
    strategy: str
    workers: int
    """That took part."""
    replicas: int
    """Slices of a step."""
    slice_size: float
    """Images of a slice."""
    steps_per_exchange: int
    compression: Compression
    exchanges_moments: bool
    """Whether the optimizer's moments travel with the parameters."""
    compute_seconds: float
    """Waiting for images, forward and backward, for one slice."""
    backward_seconds: float
    """Of that."""
    optimizer_seconds: float
    """Of one step, of all slices that a worker has where each takes steps of its own."""
    spread: float
    """Standard deviation of the logarithm of the time that a worker computes at a step."""
    exchange_seconds: float
    """Waiting for it beyond what was hidden behind backward, by who came last."""
    hidden_seconds: float
    """By the same."""
    period_seconds: float
    """From one exchange to the next; with a server, from one of a worker to its next."""
    start_seconds: float
    """From the start of the driver to the end of the first step."""
    peak_worker_bytes: int

    @property
    def slices(self) -> int:
        """That the busiest worker computes at each step, one after the other."""
        return -(-self.replicas // self.workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Exchange:
    """What lies between two meetings; with a server, the same steps of all replicas."""

    number: int
    records: list[StepRecord]
    counts: bool
    """Whether it is as long as usual, after the warm-up, and all workers took part."""


def observe(run: str) -> Observation:
    """The costs in the records of `run`; what a lost worker or a short round has touched is left out.

    Raises RunError when too few exchanges are left.
    """
    stored = run_directory.read_config(run)
    work, launch = from_dict(WorkConfig, stored["work"]), from_dict(LaunchConfig, stored["launch"])
    records = read_records(run)
    groups, clock = steps_as_done(records), training_clock(records)
    if not groups:
        raise RunError(f"{run} has no steps, and tells nothing of what training costs")
    workers = statistics.mode(group[0].world_size for group in groups)
    strategy, replicas = work.strategy, work.training.replicas or launch.workers
    exchanges = _exchanges(groups, _rounds_of(groups, work), workers)
    counting = [exchange.records for exchange in exchanges if exchange.counts]
    if len(counting) < _LEAST_EXCHANGES:
        raise RunError(
            f"{run} has {plural(len(counting), 'exchange')} of {plural(workers, 'worker')} after its warm-up, and its "
            f"costs take {_LEAST_EXCHANGES} at least: train for more epochs"
        )

    def slices(record: StepRecord) -> int:
        return 1 if strategy.has_server else max(1, len(replicas_of(record.rank, workers, replicas)))

    steps = [record for exchange in counting for record in exchange]
    last = _last_to_come(counting, has_server=strategy.has_server)
    begun = float(run_directory.read_object(run_directory.start_file(run)).get("time_unix_seconds", 0.0))
    since = [record.time_unix_seconds for group in groups for record in group if record.time_unix_seconds >= begun]
    return Observation(
        run=run,
        strategy=strategy.strategy,
        workers=workers,
        replicas=replicas,
        slice_size=work.training.global_batch_size / replicas,
        steps_per_exchange=len({record.step for record in counting[0]}),
        compression=strategy.compression,
        exchanges_moments=strategy.is_local and strategy.becomes_of_moments != "reset",
        compute_seconds=statistics.median(_computing(record) / slices(record) for record in steps),
        backward_seconds=statistics.median(record.backward_seconds / slices(record) for record in steps),
        optimizer_seconds=statistics.median(record.optimizer_seconds for record in steps),
        spread=_spread([_computing(record) / slices(record) for record in steps]),
        exchange_seconds=statistics.median(communication for communication, _ in last),
        hidden_seconds=statistics.median(hidden for _, hidden in last),
        period_seconds=_period(exchanges, clock, work, run),
        start_seconds=min(since) - begun if begun and since else 0.0,
        peak_worker_bytes=max(peak_memory(records).values()),
    )


def _rounds_of(groups: Sequence[Sequence[StepRecord]], work: WorkConfig) -> Rounds:
    """The rounds of the run; the number of its samples follows from those of its first epoch."""
    samples = sum(record.samples for group in groups for record in group if group[0].epoch == 0)
    training = work.training
    plan = StepPlan(
        dataset_id="",
        split=training.split,
        seed=training.seed,
        num_samples=max(samples, training.global_batch_size),
        global_batch_size=training.global_batch_size,
        num_epochs=training.epochs,
        num_replicas=1,
    )
    return Rounds(plan=plan, sync_every=work.strategy.steps_between_exchanges)


def _exchanges(groups: Sequence[Sequence[StepRecord]], rounds: Rounds, workers: int) -> list[_Exchange]:
    """In order."""
    found: dict[int, list[StepRecord]] = defaultdict(list)
    for record in itertools.chain.from_iterable(groups):
        found[rounds.round_of(record.step)].append(record)
    usual = len(rounds.steps_of(0))
    return [
        _Exchange(
            number=number,
            records=records,
            counts=number >= _WARMUP_EXCHANGES
            and len(rounds.steps_of(number)) == usual == len({record.step for record in records})
            and {record.world_size for record in records} == {workers},
        )
        for number, records in sorted(found.items())
    ]


def _computing(record: StepRecord) -> float:
    return record.data_seconds + record.forward_seconds + record.backward_seconds


def _spread(seconds: Iterable[float]) -> float:
    """Half the distance between the 16th and the 84th percentile of the logarithms: outliers weigh little."""
    logs = sorted(math.log(max(1e-9, one)) for one in seconds)
    return (logs[int(0.84 * (len(logs) - 1))] - logs[int(0.16 * (len(logs) - 1))]) / 2


def _last_to_come(exchanges: Iterable[Sequence[StepRecord]], *, has_server: bool) -> list[tuple[float, float]]:
    """Seconds of communication, and of what was hidden, of the worker that waited least in each exchange.

    With a server, of every worker: none waits for another.
    """
    seconds: list[tuple[float, float]] = []
    for exchange in exchanges:
        by_worker: dict[tuple[int, int], list[StepRecord]] = defaultdict(list)
        for record in exchange:
            by_worker[record.worker, record.replica].append(record)
        sums = [
            (
                sum(record.communication_seconds for record in mine),
                sum(record.hidden_communication_seconds for record in mine),
            )
            for mine in by_worker.values()
        ]
        seconds += sums if has_server else [min(sums)]
    return seconds


def _period(exchanges: Sequence[_Exchange], clock: TrainingClock, work: WorkConfig, run: str) -> float:
    """The mean over neighbours that both count: what takes long now and then belongs to it.

    An evaluation between two epochs does not.
    """
    ends: dict[int, list[tuple[float, int, bool]]] = defaultdict(list)
    for exchange in exchanges:
        by_unit: dict[tuple[int, int], float] = defaultdict(float)
        for record in exchange.records:
            who = (record.worker, record.replica) if work.strategy.has_server else (0, 0)
            by_unit[who] = max(by_unit[who], clock.seconds(record.time_unix_seconds))
        for (worker, _), end in by_unit.items():
            ends[worker].append((end, exchange.records[0].epoch, exchange.counts))
    periods = [
        end - begin
        for mine in ends.values()
        for (begin, epoch, counts), (end, next_epoch, next_counts) in itertools.pairwise(sorted(mine))
        if counts and next_counts and (epoch == next_epoch or not work.validation.eval_every)
    ]
    if not periods:
        raise RunError(f"{run} has no two exchanges in a row that tell how long one takes: train for more epochs")
    return statistics.fmean(periods)
