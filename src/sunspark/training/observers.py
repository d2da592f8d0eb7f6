"""Who is told what the main thread of a worker does."""

from collections.abc import Callable
from dataclasses import dataclass

from sunspark.parallel.faults import FaultInjector
from sunspark.records import EvaluationRecord, StepRecord
from sunspark.training.pulse import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Observers:
    """Of one worker process."""

    progress: Progress
    write: Callable[[StepRecord | EvaluationRecord], None]
    """Keep the record of a step that counts, or of an evaluation."""
    faults: FaultInjector
