"""What is recorded: the steps of each worker, evaluations, events."""

from dataclasses import dataclass
from typing import Literal, get_args

from sunspark.errors import ConfigError

DRIVER = -1
"""The worker number in what the driver records about the run as a whole."""

EventName = Literal[
    "started",
    "joined",
    "lost",
    "redone",
    "recovered",
    "restarted",
    "evaluated",
    "diverged",
    "excused",
    "checkpoint",
    "unsaved",
    "resumed",
    "finished",
    "stopped",
    "duplicate",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """What one worker did in one step that it applied."""

    worker: int
    """Number of the worker, 0 and up."""
    incarnation: int
    """Which process of this worker it is; rises with every process, over all starts of the run."""
    time_unix_seconds: float
    """When the worker had applied the step."""
    step: int
    epoch: int
    loss: float
    """Mean loss over all samples of the step (nats), the same on every worker; of `replica`, over its own."""
    learning_rate: float
    gradient_norm: float
    """L2 norm of the step's gradient over all parameters, before it is clipped."""
    samples: int
    """Samples that this worker computed; the sum over the workers is the size of the step."""
    quorum_seconds: float
    data_seconds: float
    """Waiting for the loader."""
    forward_seconds: float
    backward_seconds: float
    communication_seconds: float
    """Waiting for the reduction, beyond what hid behind the backward pass."""
    optimizer_seconds: float
    peak_memory_bytes: int
    """Largest resident memory of the process so far."""
    world_size: int
    """Workers in the quorum of this step; of `replica`, those that held leases when it was applied."""
    rank: int
    bytes_sent: int = 0
    """To other workers, by collectives; what travels in shared memory is not sent. To and from a parameter server."""
    hidden_communication_seconds: float = 0.0
    """For how long gradients were on their way while this worker still ran its backward pass."""
    replica: int = -1
    """Whose part of the step this is, where a parameter server leases parts; else -1."""
    kind: Literal["step"] = "step"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRecord:
    """What an evaluation while training has found: the same from every worker, or from the driver if it keeps the
    parameters."""

    worker: int
    incarnation: int
    time_unix_seconds: float
    step: int
    """Steps that had been applied."""
    epoch: int
    """Epochs that were over."""
    split: str
    samples: int
    top1: float
    top5: float
    mean_per_class: float
    loss: float
    """Mean cross-entropy (nats)."""
    excused: int = 0
    """Samples of the split that were left out, because decoding them kills the process that does it."""
    kind: Literal["evaluation"] = "evaluation"


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRecord:
    """Something that happened to a worker, or to the run."""

    worker: int
    """The worker that it happened to, whoever wrote it down; `DRIVER` when it concerns the whole run."""
    incarnation: int
    time_unix_seconds: float
    step: int
    event: EventName
    detail: str
    kind: Literal["event"] = "event"

    def __post_init__(self) -> None:
        if self.event not in get_args(EventName):
            known = ", ".join(get_args(EventName))
            raise ConfigError(f"an event must be one of {known}; got {self.event!r}")


Record = StepRecord | EvaluationRecord | EventRecord
