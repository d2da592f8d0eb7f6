"""A worker's part of an evaluation while training: count its share of the split, and sum with the others."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from torch import nn

from sunspark.data.loader import EvaluationLoader
from sunspark.data.order import StepPlan, even_split
from sunspark.parallel.group import Group
from sunspark.training import validation
from sunspark.training.evaluate import Tally, sum_of, tally_of
from sunspark.training.forward import logits_of
from sunspark.training.state import TrainingState
from sunspark.training.validation import Evaluation, ValidationConfig

_BATCH_SIZE_PER_WORKER: Final = 64


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

    def is_due(self, state: TrainingState) -> bool:
        """Whether this state is to be evaluated before the next step."""
        plan = self.plan
        return validation.is_due(self.config, state.evaluations, state.step, plan.steps_per_epoch, plan.num_steps)

    def end_of(self, state: TrainingState) -> int:
        """The number of steps after which training ends, as far as it is known."""
        return validation.end_of(self.config, state.evaluations, self.plan.num_steps)

    def count(self, state: TrainingState, rank: int, world_size: int, on_move: Callable[[], None]) -> Tally:
        """The tally of this worker's share of the split; `on_move` is called for every batch."""
        assert self.loader is not None
        share = even_split(range(len(self.rows)), rank, world_size)
        tallies = [_no_tally(self.num_classes)]
        state.statistics.restore()
        with evaluating(state.judged_model) as model, torch.inference_mode():
            for batch in self.loader.batches(self.rows[share.start : share.stop], _BATCH_SIZE_PER_WORKER):
                tallies.append(tally_of(logits_of(model, batch, self.dtype), torch.from_numpy(batch.labels)))
                on_move()
        return sum_of(tallies)

    def reduce(self, tally: Tally, step: int, group: Group, timeout_seconds: float) -> Evaluation:
        """What all members of the group have found together. Raises GroupBrokenError."""
        counts = torch.tensor([tally.samples, tally.top1, tally.top5], dtype=torch.int64)
        loss_sum = torch.tensor([tally.loss_sum], dtype=torch.float64)
        group.wait([group.start_all_reduce(tensor, timeout_seconds) for tensor in (counts, loss_sum)])
        samples_K, top1_K, top5_K = counts
        seen = samples_K > 0
        num_samples = int(samples_K.sum())
        return Evaluation(
            step=step,
            samples=num_samples,
            top1=int(top1_K.sum()) / num_samples,
            top5=int(top5_K.sum()) / num_samples,
            mean_per_class=float((top1_K[seen] / samples_K[seen].double()).mean()),
            loss=float(loss_sum) / num_samples,
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


def _no_tally(num_classes: int) -> Tally:
    return Tally(samples=[0] * num_classes, top1=[0] * num_classes, top5=[0] * num_classes, loss_sum=0.0)
