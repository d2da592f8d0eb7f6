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
from sunspark.bench.history import peak_memory, steps_as_done, training_clock
from sunspark.config import from_dict
from sunspark.data.order import StepPlan
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
    slices: int
    """Of each step, that a worker computes one after the other."""
    slice_size: float
    """Images of one of them."""
    steps_per_exchange: int
    compression: Compression
    exchanges_moments: bool
    """Whether the optimizer's moments travel with the parameters."""
    compute_seconds: float
    """Waiting for images, forward and backward, for one slice."""
    backward_seconds: float
    """Of that, for all slices of a step."""
    optimizer_seconds: float
    """Of one step."""
    spread: float
    """Standard deviation of the logarithm of the time that a worker computes at a step."""
    exchange_seconds: float
    """Waiting for it beyond what was hidden behind backward, by who came last."""
    hidden_seconds: float
    period_seconds: float
    """From one exchange to the next; with a server, from one of a worker to its next."""
    start_seconds: float
    """From the start of the driver to the end of the first step."""
    peak_worker_bytes: int


def observe(run: str) -> Observation:
    """The costs in the records of `run`.

    Raises RunError when it has too few exchanges, or lost workers, so that its times are not those of its setting.
    """
    stored = run_directory.read_config(run)
    work, launch = from_dict(WorkConfig, stored["work"]), from_dict(LaunchConfig, stored["launch"])
    records = read_records(run)
    groups = steps_as_done(records)
    if not groups:
        raise RunError(f"{run} has no steps, and tells nothing of what training costs")
    workers = statistics.mode(group[0].world_size for group in groups)
    replicas = work.training.replicas or launch.workers
    strategy = work.strategy
    rounds = _rounds_of(groups, work)
    exchanges = _exchanges(groups, rounds)[_WARMUP_EXCHANGES:]
    whole = [exchange for exchange in exchanges if {record.world_size for record in exchange} == {workers}]
    if len(whole) < _LEAST_EXCHANGES:
        raise RunError(
            f"{run} has {len(whole)} exchanges of {workers} workers after its warm-up, and its costs "
            f"take {_LEAST_EXCHANGES} at least: train for more epochs"
        )
    steps = [record for exchange in whole for record in exchange]
    slices = 1 if strategy.has_server else -(-replicas // workers)
    num_steps = statistics.median(len({record.step for record in exchange}) for exchange in whole)
    start = training_clock(records).start_unix_seconds
    first = min(record.time_unix_seconds for record in groups[0])
    begun = run_directory.read_object(run_directory.start_file(run)).get("time_unix_seconds", start)
    return Observation(
        run=run,
        strategy=strategy.strategy,
        workers=workers,
        slices=slices,
        slice_size=work.training.global_batch_size / replicas,
        steps_per_exchange=round(num_steps),
        compression=strategy.compression,
        exchanges_moments=strategy.is_local and strategy.becomes_of_moments != "reset",
        compute_seconds=statistics.median(map(_computing, steps)) / slices,
        backward_seconds=statistics.median(record.backward_seconds for record in steps),
        optimizer_seconds=statistics.median(record.optimizer_seconds for record in steps),
        spread=_spread(whole),
        exchange_seconds=_exchange_seconds(whole, has_server=strategy.has_server),
        hidden_seconds=statistics.median(record.hidden_communication_seconds for record in steps) * num_steps,
        period_seconds=_period(whole, has_server=strategy.has_server),
        start_seconds=max(0.0, first - float(begun)),
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


def _exchanges(groups: Sequence[Sequence[StepRecord]], rounds: Rounds) -> list[list[StepRecord]]:
    """The records of each exchange, in order; the last one of an epoch that is shorter is left out."""
    found: dict[int, list[StepRecord]] = defaultdict(list)
    for record in itertools.chain.from_iterable(groups):
        found[rounds.round_of(record.step)].append(record)
    usual = len(rounds.steps_of(0))
    return [found[number] for number in sorted(found) if len(rounds.steps_of(number)) == usual]


def _computing(record: StepRecord) -> float:
    return record.data_seconds + record.forward_seconds + record.backward_seconds


def _spread(exchanges: Iterable[Sequence[StepRecord]]) -> float:
    """Half the distance between the 16th and the 84th percentile of the logarithms: outliers weigh little."""
    logs = sorted(math.log(max(1e-9, _computing(record))) for exchange in exchanges for record in exchange)
    return (logs[int(0.84 * (len(logs) - 1))] - logs[int(0.16 * (len(logs) - 1))]) / 2


def _exchange_seconds(exchanges: Iterable[Sequence[StepRecord]], *, has_server: bool) -> float:
    """The median over exchanges of what the last to come took, who waits for nobody; with a server, of all."""
    seconds: list[float] = []
    for exchange in exchanges:
        by_worker: dict[tuple[int, int], float] = defaultdict(float)
        for record in exchange:
            by_worker[record.worker, record.replica] += record.communication_seconds
        seconds += by_worker.values() if has_server else [min(by_worker.values())]
    return statistics.median(seconds)


def _period(exchanges: Sequence[Sequence[StepRecord]], *, has_server: bool) -> float:
    """The mean of all of them: what takes long now and then belongs to it."""
    ends: dict[int, list[float]] = defaultdict(list)
    for exchange in exchanges:
        by_unit: dict[tuple[int, int], float] = defaultdict(float)
        for record in exchange:
            who = (record.worker, record.replica) if has_server else (0, 0)
            by_unit[who] = max(by_unit[who], record.time_unix_seconds)
        for (worker, _), end in by_unit.items():
            ends[worker].append(end)
    periods = [(max(times) - min(times)) / (len(times) - 1) for times in ends.values() if len(times) > 1]
    if not periods:
        raise RunError("the exchanges that are left tell no period: train for more epochs")
    return statistics.fmean(periods)
