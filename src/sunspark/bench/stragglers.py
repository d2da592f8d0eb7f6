"""For whom the others waited: where all meet to exchange, the one that waits least is the one that came last."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sunspark.bench.history import PHASES, steps_as_done
from sunspark.bench.words import duration, percent
from sunspark.records import Record, StepRecord

_LEAST_SHARE_OF_STEPS: Final = 2 / 3
"""Of two workers that are alike, each comes last in half of the steps."""
_LEAST_SHARE_OF_TIME: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Straggler:
    """A worker that the others have waited for."""

    worker: int
    waited_seconds: float
    """Of all others together, in the steps in which it came last."""
    share_of_steps: float
    """In how many of the steps of several workers it came last."""
    share_of_time: float
    """What part of the others' time in all these steps was spent on waiting for it."""


def straggler_of(records: Iterable[Record]) -> Straggler | None:
    """The worker that is clearly slower than the others; None where they are alike."""
    steps = [step for step in steps_as_done(records) if len(step) > 1]
    last = [min(step, key=lambda record: record.communication_seconds) for step in steps]
    if not last:
        return None
    worker, times = Counter(record.worker for record in last).most_common(1)[0]
    waited = sum(_waited(step, slow) for step, slow in zip(steps, last, strict=True) if slow.worker == worker)
    spent = sum(_seconds(record) for step in steps for record in step if record.worker != worker)
    found = Straggler(
        worker=worker,
        waited_seconds=waited,
        share_of_steps=times / len(steps),
        share_of_time=waited / spent if spent else 0.0,
    )
    is_clear = found.share_of_steps >= _LEAST_SHARE_OF_STEPS and found.share_of_time >= _LEAST_SHARE_OF_TIME
    return found if is_clear else None


def in_words(straggler: Straggler | None) -> str:
    """What a report says of it, and what to do; empty where nobody is waited for."""
    if straggler is None:
        return ""
    return (
        f"The others waited {duration(straggler.waited_seconds)} for worker {straggler.worker}, "
        f"{percent(straggler.share_of_time, 0)} of their time: it came last in "
        f"{percent(straggler.share_of_steps, 0)} of the steps. See what else runs on its host, and whether it has as "
        "many cores as the others have."
    )


def _waited(step: Sequence[StepRecord], slow: StepRecord) -> float:
    """What the others waited longer than the one that came last: what is left is the exchange itself."""
    return sum(record.communication_seconds - slow.communication_seconds for record in step)


def _seconds(record: StepRecord) -> float:
    return sum(float(getattr(record, f"{phase}_seconds")) for phase in PHASES)
