"""A worker's part of a step: forward and backward of the replicas that it carries.

Whatever depends on who computes belongs to the replica: its samples, its masks and mixing (torch's random numbers,
seeded from seed, step and replica), its batch statistics. A slice that is too large to be computed at once is cut
into parts whose gradients add up, in the same way whoever computes it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from sunspark.data.decode_pool import Batch
from sunspark.data.order import StepPlan, even_split
from sunspark.parallel.ledger import Evidence, evidence_of
from sunspark.training.loss import Loss
from sunspark.training.state import TrainingState
from sunspark.training.step_clock import EnterPhase


def _nothing() -> None:
    """What is done before most backward passes."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Computation:
    """Leaves gradients in the state's parameters, and statistics beside them."""

    state: TrainingState
    plan: StepPlan
    loss: Loss
    dtype: str
    """As in TrainingConfig, resolved."""
    micro_batch_size: int
    """As in TrainingConfig."""

    def run(
        self,
        step: int,
        replicas: range,
        batches: list[Batch],
        num_samples: int,
        enter: EnterPhase,
        before_last_backward: Callable[[], None] = _nothing,
    ) -> tuple[Evidence, float]:
        """Leave the gradient of the samples' losses, each divided by `num_samples`, in the parameters.

        `before_last_backward` is called, if there are samples, when all is done but the backward pass of the last part.
        Returns the evidence of the samples and the sum of their losses (nats).
        """
        self.state.optimizer.zero_grad(set_to_none=True)
        self.state.statistics.begin_step()
        evidence, loss_sum = Evidence(samples=0, sample_sum=0, pixel_sum=0), 0.0
        parts = [
            (random_seed_of(self.plan.seed, step, replica, index), _cut(batch, part))
            for replica, batch in zip(replicas, batches, strict=True)
            for index, part in enumerate(parts_of(len(batch), self.micro_batch_size))
        ]
        for number, (seed, part) in enumerate(parts, start=1):
            torch.manual_seed(seed)
            before_backward = before_last_backward if number == len(parts) else _nothing
            loss_sum += self._run_part(part, num_samples, enter, before_backward)
        with enter("forward"):
            for batch in batches:
                evidence += evidence_of(batch.sample_ids, batch.labels, batch.pixels, self.plan.epoch_of(step))
        return evidence, loss_sum

    def _run_part(
        self, batch: Batch, num_samples: int, enter: EnterPhase, before_backward: Callable[[], None]
    ) -> float:
        statistics = self.state.statistics
        with enter("forward"):
            statistics.begin_slice(len(batch))
            loss = self.loss.summed(self.state.model, batch, self.dtype)
            statistics.end_slice(len(batch) / num_samples)
        with enter("backward"):
            before_backward()
            (loss / num_samples).backward()
            return float(loss.detach())


def parts_of(num_samples: int, most: int) -> list[range]:
    """A slice in even parts of at most `most` samples (0: any number), but never of one sample out of several."""
    if num_samples == 0:
        return []
    num_parts = min(-(-num_samples // most), max(1, num_samples // 2)) if most else 1
    return [even_split(range(num_samples), part, num_parts) for part in range(num_parts)]


def random_seed_of(seed: int, step: int, replica: int, part: int) -> int:
    """A seed for all that is random in one part of a replica's slice of a step."""
    digest = hashlib.blake2b(f"{seed} {step} {replica} {part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _cut(batch: Batch, part: range) -> Batch:
    where = slice(part.start, part.stop)
    return Batch(sample_ids=batch.sample_ids[where], labels=batch.labels[where], pixels=batch.pixels[where])
