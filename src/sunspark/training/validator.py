"""A worker's part of an evaluation while training: count its share of the split, and sum with the others."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from torch import Tensor, nn

from sunspark.data.loader import EvaluationLoader, without
from sunspark.data.order import StepPlan, even_split
from sunspark.errors import DatasetError
from sunspark.parallel.group import Group
from sunspark.training import validation
from sunspark.training.forward import logits_of
from sunspark.training.state import TrainingState
from sunspark.training.validation import Evaluation, ValidationConfig

_BATCH_SIZE_PER_WORKER: Final = 64


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Sums over samples, in tensors that can be summed over workers."""

    per_class: Tensor
    """int64 (3, K): samples, those whose class came first, those whose class was among the first five."""
    loss: Tensor
    """float64 (1,): cross-entropies (nats)."""

    @classmethod
    def nothing(cls, num_classes: int) -> "Counts":
        return cls(per_class=torch.zeros(3, num_classes, dtype=torch.int64), loss=torch.zeros(1, dtype=torch.float64))

    def add(self, logits_BK: Tensor, labels_B: Tensor) -> None:
        hits_B5 = logits_BK.topk(min(5, logits_BK.shape[1]), dim=1).indices == labels_B[:, None]
        for row, hits_B in enumerate((torch.ones_like(labels_B, dtype=torch.bool), hits_B5[:, 0], hits_B5.any(dim=1))):
            self.per_class[row] += torch.bincount(labels_B[hits_B], minlength=logits_BK.shape[1])
        self.loss.add_(nn.functional.cross_entropy(logits_BK, labels_B, reduction="sum").double())


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Validator:
    """Evaluates the state of a training, together with the other workers."""

    config: ValidationConfig
    plan: StepPlan
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    """The samples that are evaluated on, as rows of the dataset."""
    num_classes: int
    loader: EvaluationLoader | None
    """None where nothing is evaluated while training."""
    dtype: str
    """As in TrainingConfig, resolved."""
    excused: Callable[[], frozenset[int]]
    """The rows that are left out, as far as this worker has heard. Each row is of one worker's share, so it need not
    be agreed upon."""

    def is_due(self, state: TrainingState) -> bool:
        """Whether this state is to be evaluated before the next step."""
        plan = self.plan
        return validation.is_due(self.config, state.evaluations, state.step, plan.steps_per_epoch, plan.num_steps)

    def end_of(self, state: TrainingState) -> int:
        """The number of steps after which training ends, as far as it is known."""
        return validation.end_of(self.config, state.evaluations, self.plan.num_steps)

    def count(self, state: TrainingState, rank: int, world_size: int, on_move: Callable[[], None]) -> Counts:
        """What is right in this worker's share of the split; `on_move` is called for every batch."""
        assert self.loader is not None
        share = even_split(range(len(self.rows)), rank, world_size)
        rows = without(self.rows[share.start : share.stop], self.excused())
        counts = Counts.nothing(self.num_classes)
        state.statistics.restore()
        with evaluating(state.judged_model) as model, torch.inference_mode():
            for batch in self.loader.batches(rows, _BATCH_SIZE_PER_WORKER):
                counts.add(logits_of(model, batch, self.dtype), torch.from_numpy(batch.labels))
                on_move()
        return counts

    def reduce(self, counts: Counts, step: int, group: Group, timeout_seconds: float) -> Evaluation:
        """What all members of the group have found together.

        Raises GroupBrokenError, and DatasetError when no image is left to evaluate on.
        """
        group.wait([group.start_all_reduce(tensor, timeout_seconds) for tensor in (counts.per_class, counts.loss)])
        return evaluation_of(counts, step, self.config.split)


def evaluation_of(counts: Counts, step: int, split: str) -> Evaluation:
    """What was found of the weights after `step` steps. Raises DatasetError when no image is left to evaluate on."""
    samples_K, top1_K, top5_K = counts.per_class
    seen = samples_K > 0
    num_samples = int(samples_K.sum())
    if not num_samples:
        raise DatasetError(
            f"every image of the split {split!r} kills the process that decodes it; take these images out of the "
            "source and ingest into another folder, or evaluate on another split with --eval-split"
        )
    return Evaluation(
        step=step,
        samples=num_samples,
        top1=int(top1_K.sum()) / num_samples,
        top5=int(top5_K.sum()) / num_samples,
        mean_per_class=float((top1_K[seen] / samples_K[seen].double()).mean()),
        loss=float(counts.loss) / num_samples,
    )


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode; afterwards each part is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
