"""What a parallel strategy is to the trainer: it computes this worker's part of some steps, and applies the whole.

Between the two the trainer sums, over all workers, the gradients of what the state trains and stages, and the `Share`.
A strategy says which steps count together, what it holds of them when a quorum is asked for, and how the sum moves the
state.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sunspark.parallel.faults import Phase
from sunspark.parallel.ledger import Evidence
from sunspark.parallel.membership import Agreement
from sunspark.parallel.round import Held


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What was seen of the steps that count together, by one worker or, once summed, by all."""

    steps: range
    evidence: Tensor
    """int64, shape (steps, 3): samples, sample sum, pixel sum."""
    figures: Tensor
    """float64, shape (2, steps): `losses` and `norms`, which travel together."""

    @classmethod
    def empty(cls, steps: range) -> "Share":
        """Of nothing."""
        return cls(
            steps=steps,
            evidence=torch.zeros((len(steps), 3), dtype=torch.int64),
            figures=torch.zeros((2, len(steps)), dtype=torch.float64),
        )

    def add(self, step: int, evidence: Evidence, loss_sum: float, norm: float = 0.0) -> None:
        """Count some samples of `step`; `norm`: of the gradient of their mean loss."""
        index, figures = step - self.steps.start, self.figures.numpy()
        self.evidence.numpy()[index] += evidence.to_array()  # modulo 2^64
        figures[0, index] += loss_sum
        figures[1, index] += norm * evidence.samples

    def __iadd__(self, other: "Share") -> "Share":
        for mine, its in zip(self.tallies, other.tallies, strict=True):
            mine += its
        return self

    def copy(self) -> "Share":
        """With tallies of its own."""
        evidence, figures = (tally.clone() for tally in self.tallies)
        return Share(steps=self.steps, evidence=evidence, figures=figures)

    def figures_of(self, index: int, learning_rate: float) -> "Applied":
        """Of one of the steps: means over its samples."""
        samples = max(1, self.samples[index])
        return Applied(
            loss=float(self.losses[index]) / samples,
            learning_rate=learning_rate,
            gradient_norm=float(self.norms[index]) / samples,
        )

    @property
    def losses(self) -> Tensor:
        """Shape (steps,): the sum over the samples (nats)."""
        return self.figures[0]

    @property
    def norms(self) -> Tensor:
        """Shape (steps,): gradient norms times samples, where replicas have gradients of their own."""
        return self.figures[1]

    @property
    def tallies(self) -> tuple[Tensor, Tensor]:
        """What is summed over the workers."""
        return self.evidence, self.figures

    @property
    def evidences(self) -> list[Evidence]:
        """One for each step."""
        return [Evidence.from_array(row) for row in self.evidence.tolist()]

    @property
    def samples(self) -> list[int]:
        """Of each step."""
        return [samples for samples, _, _ in self.evidence.tolist()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What became of one step: the same on every worker."""

    loss: float
    """Mean over all samples of the step (nats)."""
    learning_rate: float
    gradient_norm: float


class Clock(Protocol):
    """The trainer, as a strategy sees it while it computes."""

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        """Enter a phase of the step at hand."""

    def at(self, step: int) -> None:
        """This step is computed from now on."""

    def before_last_backward(self) -> None:
        """The backward pass that follows is the last of this worker's part; what is summed is set but for gradients."""

    def is_called(self) -> bool:
        """Whether the others form another group, and wait for this worker to take part."""

    def note_redone(self, replicas: Sequence[int]) -> None:
        """These replicas of the steps at hand, which a lost worker had, are done again."""

    def note_unsaved(self, cause: str) -> None:
        """Something of the steps at hand is not on storage, or cannot be taken from there."""


class Strategy(Protocol):
    """How workers train one network together."""

    @property
    def is_local(self) -> bool:
        """Whether replicas take steps of their own, so that workers wait for each other once in many steps."""

    def held(self) -> Held:
        """What this worker has of the steps that count next."""

    def compute(self, agreement: Agreement, rank: int, clock: Clock) -> Share | None:
        """Do this worker's part; leaves it as gradients of the state. None when it was called away."""

    def apply(self, total: Share, quorum_id: int) -> list[Applied]:
        """Move the state by what was summed over all workers.

        Raises DivergedError, and leaves the state as it was, when that is not finite.
        """


class DivergedError(Exception):
    """What was summed is not finite; `step` is the first such, with its figures."""

    def __init__(self, step: int, figures: Applied) -> None:
        super().__init__(step, figures)
        self.step, self.figures = step, figures
