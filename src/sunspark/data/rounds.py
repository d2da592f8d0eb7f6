"""Rounds: the steps between two exchanges, where workers do not communicate at every step. Arithmetic, like `order.py`.

A round is some steps in a row; the last one of an epoch is shorter where they do not divide it, so none reaches beyond.
"""

from dataclasses import dataclass
from typing import Literal

from sunspark.data.order import StepPlan

SyncEvery = int | Literal["epoch"]
"""Steps of a round, or all of an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounds:
    """All rounds of a training, counted from 0."""

    plan: StepPlan
    sync_every: SyncEvery

    def round_of(self, step: int) -> int:
        """The round that `step` belongs to."""
        epoch, index = divmod(step, self.plan.steps_per_epoch)
        return epoch * self._per_epoch + index // self._num_steps

    def steps_of(self, number: int) -> range:
        """The steps of round `number`."""
        epoch, index = divmod(number, self._per_epoch)
        begin = epoch * self.plan.steps_per_epoch
        end = begin + self.plan.steps_per_epoch
        start = begin + index * self._num_steps
        return range(start, min(start + self._num_steps, end))

    @property
    def _num_steps(self) -> int:
        return self.plan.steps_per_epoch if self.sync_every == "epoch" else self.sync_every

    @property
    def _per_epoch(self) -> int:
        return -(-self.plan.steps_per_epoch // self._num_steps)
