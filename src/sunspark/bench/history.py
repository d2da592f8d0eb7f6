"""What a run's records say, step by step: the arrays behind the charts of a report.

Shape legend: S steps that were recorded, P phases of a step. Times are on the training clock: seconds since
the first worker had joined, without the times between two starts of a run, loading torch and Spark included.
Cost: one pass over the records and a few arrays of S.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sunspark.records import DRIVER, EventRecord, Record, StepRecord

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PHASES = ("backward", "forward", "optimizer", "data", "communication", "quorum")
"""The parts of a step, computing first, then waiting."""

ELSEWHERE = "elsewhere"
"""Time of workers outside the steps that counted: checkpoints, recovery, work that was done again."""

_LIFE_ENDS = frozenset({"lost", "restarted", "duplicate"})

PHASE_WORDS = {
    "backward": "backward",
    "forward": "forward",
    "optimizer": "optimizer",
    "data": "waiting for images",
    "communication": "communication",
    "quorum": "quorum",
    ELSEWHERE: "between steps",
}
"""What a report calls each phase, and the rest."""

_WORDS_WITH_SERVER = PHASE_WORDS | {"quorum": "waiting for the parameter server", "communication": "pull and push"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingClock:
    """Turns wall-clock times into seconds of training."""

    start_unix_seconds: float
    pauses: tuple[tuple[float, float], ...]
    """From the last sign of one start of the run to the first worker of the next (wall clock, in order)."""

    def seconds(self, time_unix_seconds: float) -> float:
        """Seconds of training until then."""
        idle = sum(max(0.0, min(end, time_unix_seconds) - start) for start, end in self.pauses)
        return max(0.0, time_unix_seconds - self.start_unix_seconds - idle)


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The steps of a run, in order; each once, as it was done last."""

    step_S: Integers
    epoch_S: Integers
    loss_S: Floats
    learning_rate_S: Floats
    gradient_norm_S: Floats
    samples_S: Integers
    """Samples of the step, all workers together."""
    finished_seconds_S: Floats
    """When its last worker had applied the step (training clock, never falling)."""
    num_workers_S: Integers
    phase_seconds_SP: Floats
    """Seconds per phase, mean over the workers of the step; P as in `PHASES`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """One incarnation of a worker, from its first to its last sign of life (training clock)."""

    worker: int
    incarnation: int
    start_seconds: float
    end_seconds: float


def phase_words(config: Mapping[str, Any]) -> dict[str, str]:
    """`PHASE_WORDS`, for a run of this configuration: with a parameter server there are no quorums."""
    return _WORDS_WITH_SERVER if has_server(config) else PHASE_WORDS


def has_server(config: Mapping[str, Any]) -> bool:
    """Whether workers of this configuration of a run exchange with a parameter server."""
    return config.get("work", {}).get("strategy", {}).get("strategy") in ("async", "hogwild")


def training_clock(records: Sequence[Record]) -> TrainingClock:
    """The clock of a run, from its records, oldest first."""
    joined = [r.time_unix_seconds for r in records if isinstance(r, EventRecord) and r.event == "joined"]
    starts = [0.0, *(r.time_unix_seconds for r in records if isinstance(r, EventRecord) and r.event == "resumed")]
    began = [next((time for time in joined if time >= start), start) for start in starts]
    before = [[r.time_unix_seconds for r in records if r.time_unix_seconds < start] for start in starts]
    ended = [max(times, default=start) for times, start in zip(before, starts, strict=True)]
    first = began[0] or (records[0].time_unix_seconds if records else 0.0)
    return TrainingClock(start_unix_seconds=first, pauses=tuple(zip(ended[1:], began[1:], strict=True)))


def step_history(records: Iterable[Record], clock: TrainingClock) -> History:
    """The arrays over steps."""
    groups = steps_as_done(records)
    ends = [clock.seconds(max(record.time_unix_seconds for record in group)) for group in groups]
    phases = [[_phase_seconds(record) for record in group] for group in groups]
    return History(
        step_S=np.array([group[0].step for group in groups], np.int64),
        epoch_S=np.array([group[0].epoch for group in groups], np.int64),
        loss_S=np.array([_loss(group) for group in groups], np.float64),
        learning_rate_S=np.array([group[0].learning_rate for group in groups], np.float64),
        gradient_norm_S=np.array([group[0].gradient_norm for group in groups], np.float64),
        samples_S=np.array([sum(record.samples for record in group) for group in groups], np.int64),
        finished_seconds_S=np.maximum.accumulate(np.array(ends, np.float64)),
        num_workers_S=np.array([len({record.worker for record in group}) for group in groups], np.int64),
        phase_seconds_SP=np.array([np.mean(rows, axis=0) for rows in phases]).reshape(len(groups), len(PHASES)),
    )


def steps_as_done(records: Iterable[Record]) -> list[list[StepRecord]]:
    """The steps in order, each as it was done last: the records of those who took part."""
    by_step: dict[int, list[StepRecord]] = defaultdict(list)
    for record in records:
        if isinstance(record, StepRecord):
            by_step[record.step].append(record)
    return [_last_attempt(by_step[step]) for step in sorted(by_step)]


def images_per_second(history: History, num_bins: int) -> tuple[Floats, Floats]:
    """Edges of time bins (seconds, B+1) and the images that counted per second in each (B).

    The images of a step are spread evenly over the time since the step before, so that the bins show the pace
    and not how steps fall into bins; the first step only says when the count begins.
    """
    ends_S = history.finished_seconds_S
    if len(ends_S) < 2 or ends_S[-1] <= ends_S[0]:
        return np.zeros(0), np.zeros(0)
    counted_S = np.cumsum(history.samples_S) - history.samples_S[0]
    edges = np.linspace(ends_S[0], ends_S[-1], num_bins + 1)
    return edges, np.diff(np.interp(edges, ends_S, counted_S)) / np.diff(edges)


def seconds_per_epoch(history: History) -> float:
    """Of the first epoch at the steady pace of all steps but the first one; 0 where there is no second one."""
    ends_S, samples_S = history.finished_seconds_S, history.samples_S
    if len(ends_S) < 2:
        return 0.0
    return float((ends_S[-1] - ends_S[0]) * samples_S[history.epoch_S == 0].sum() / samples_S[1:].sum())


def phase_totals(records: Iterable[Record], clock: TrainingClock) -> dict[str, float]:
    """Seconds of all workers per phase, and `ELSEWHERE` for what lay between the steps that counted."""
    by_life: dict[tuple[int, int], list[StepRecord]] = defaultdict(list)
    for record in records:
        if isinstance(record, StepRecord):
            by_life[record.worker, record.incarnation].append(record)
    totals = np.zeros(len(PHASES))
    elsewhere = 0.0
    for steps in by_life.values():
        seconds_SP = np.array([_phase_seconds(record) for record in steps])
        alive = clock.seconds(steps[-1].time_unix_seconds) - clock.seconds(steps[0].time_unix_seconds)
        elsewhere += max(0.0, alive - float(seconds_SP[1:].sum()))
        totals += seconds_SP.sum(axis=0)
    return dict(zip(PHASES, totals.tolist(), strict=True)) | {ELSEWHERE: elsewhere}


def lives(records: Iterable[Record], clock: TrainingClock) -> list[Life]:
    """When which worker was alive, by worker and incarnation."""
    times: dict[tuple[int, int], list[float]] = defaultdict(list)
    for record in records:
        alive = not (isinstance(record, EventRecord) and record.event in _LIFE_ENDS)
        if alive and record.worker != DRIVER:
            times[record.worker, record.incarnation].append(clock.seconds(record.time_unix_seconds))
    return [
        Life(worker=worker, incarnation=incarnation, start_seconds=min(seen), end_seconds=max(seen))
        for (worker, incarnation), seen in sorted(times.items())
    ]


def peak_memory(records: Iterable[Record]) -> dict[int, int]:
    """Largest memory of each worker over all its incarnations (bytes)."""
    peaks: dict[int, int] = {}
    for record in records:
        if isinstance(record, StepRecord):
            peaks[record.worker] = max(record.peak_memory_bytes, peaks.get(record.worker, 0))
    return dict(sorted(peaks.items()))


def steps_redone(events: Iterable[EventRecord], recorded_again: int) -> int:
    """How often a step was done again, as in the result of a training: its group broke, or all who knew it died."""
    return sum(event.event == "redone" for event in events) + recorded_again


def _last_attempt(records: list[StepRecord]) -> list[StepRecord]:
    """The records of the last time that a step was done.

    After everybody died, a step may be done again by other workers than before: their quorum had another
    size, or gave the ranks anew.
    """
    newest_first = sorted(records, key=lambda record: record.time_unix_seconds, reverse=True)
    parts: dict[tuple[int, int], StepRecord] = {}
    for record in newest_first:
        if record.replica >= 0:
            parts.setdefault((-1, record.replica), record)
        elif record.world_size == newest_first[0].world_size:
            parts.setdefault((record.rank, -1), record)
    return list(parts.values())


def _loss(group: Sequence[StepRecord]) -> float:
    """Of a step: its workers say the same, its replicas each their own."""
    samples = sum(record.samples for record in group)
    return sum(record.loss * record.samples for record in group) / samples if samples else group[0].loss


def _phase_seconds(record: StepRecord) -> list[float]:
    return [getattr(record, f"{phase}_seconds") for phase in PHASES]
