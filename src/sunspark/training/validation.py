"""Evaluations while training: when they are due, what they found, which was the best, when training ends early.

An evaluation belongs to the state between two steps, as a step does to the ledger: all workers share the split, sum
what they counted, and write the same result into their states. Whether training goes on is a function of the results
alone, so every worker, a resume, and `verify` come to the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sunspark.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """Evaluations while training."""

    eval_every: int = 0
    """Epochs between two evaluations; the last step is followed by one too. 0: none while training."""
    eval_split: str | None = None
    """Split to evaluate on; if not given, test."""
    patience: int = 0
    """Evaluations without a new best top-1 after which training ends early; 0: it never does."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the finished model: the last ones, or those with the best top-1 (the earliest of equals)."""

    def __post_init__(self) -> None:
        for name in ("eval_every", "patience"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.eval_every:
            return
        for name, is_set in (
            ("eval_split", self.eval_split is not None),
            ("patience", self.patience > 0),
            ("keep", self.keep == "best"),
        ):
            if is_set:
                raise ConfigError(f"{name} {getattr(self, name)} has no effect without evaluations; give --eval-every")

    @property
    def split(self) -> str:
        """The split that is evaluated on."""
        return self.eval_split or "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What an evaluation found of the weights after `step` steps; shares between 0 and 1, loss in nats."""

    step: int
    samples: int
    top1: float
    top5: float
    mean_per_class: float
    loss: float


def is_due(
    config: ValidationConfig, evaluations: Sequence[Evaluation], step: int, steps_per_epoch: int, num_steps: int
) -> bool:
    """Whether the weights after `step` steps are to be evaluated, and have not been."""
    if not config.eval_every or step == 0 or (evaluations and evaluations[-1].step == step):
        return False
    return step % (config.eval_every * steps_per_epoch) == 0 or step == num_steps


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest top-1, the earliest of equals."""
    return max(evaluations, key=lambda evaluation: evaluation.top1, default=None)


def end_of(config: ValidationConfig, evaluations: Sequence[Evaluation], num_steps: int) -> int:
    """The number of steps after which training ends, as far as the evaluations so far tell."""
    if config.patience:
        for count in range(config.patience + 1, len(evaluations) + 1):
            best = best_of(evaluations[:count])
            assert best is not None
            if count - 1 - evaluations.index(best) >= config.patience:
                return evaluations[count - 1].step
    return num_steps
