"""What a worker writes down of the steps that it has applied together."""

import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sunspark.data.order import StepPlan
from sunspark.records import StepRecord
from sunspark.training.strategies.strategy import Applied

_PHASES: Final[Mapping[str, tuple[str, ...]]] = {
    "quorum_seconds": ("quorum", "connect", "recovery", "lease"),
    "data_seconds": ("data",),
    "forward_seconds": ("forward",),
    "backward_seconds": ("backward",),
    "communication_seconds": ("reduce", "pull", "push"),
    "optimizer_seconds": ("optimizer",),
}
"""Field of a record -> phases of a worker."""


def step_records(
    plan: StepPlan,
    steps: range,
    samples: Sequence[int],
    figures: Sequence[Applied],
    seconds: Mapping[str, float],
    **others: Any,
) -> list[StepRecord]:
    """A record for each of the steps, with this worker's samples of it; `others` are fields that all have.

    What the steps have taken together (`seconds`, by phase) is spread over them.
    """
    ended, took = time.time(), sum(seconds.values())
    spread: dict[str, Any] = {
        field: sum(seconds.get(phase, 0.0) for phase in phases) / len(steps) for field, phases in _PHASES.items()
    }
    return [
        StepRecord(
            time_unix_seconds=ended - took * (steps.stop - 1 - step) / len(steps),
            step=step,
            epoch=plan.epoch_of(step),
            loss=applied.loss,
            learning_rate=applied.learning_rate,
            gradient_norm=applied.gradient_norm,
            samples=count,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            **spread,
            **others,
        )
        for step, count, applied in zip(steps, samples, figures, strict=True)
    ]
