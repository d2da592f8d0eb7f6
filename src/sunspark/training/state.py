"""The state of a training: weights, optimizer, ledger, evaluations, changed by whole steps only.

One lock guards it. A step is applied under the lock; checkpoints, candidates and recovering peers take a snapshot
under it, so that nobody ever sees half a step.
"""

import copy
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final, final

import torch
from torch import Tensor, nn

from sunspark.errors import RunError
from sunspark.parallel.ledger import Evidence, Ledger, LedgerLine
from sunspark.parallel.open_steps import OpenSteps
from sunspark.parallel.recovery import Snapshot
from sunspark.training import optimizer_state, state_file
from sunspark.training.batch_statistics import BatchStatistics
from sunspark.training.strategies.moments import InnerMoments
from sunspark.training.validation import Evaluation

_GENTLE: Final = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimizers that only read gradients."""


@final
class TrainingState:
    """What a worker would have to lose."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float = 0.0,
        ema_decay: float = 0.0,
        moments: InnerMoments | None = None,
    ) -> None:
        """`clip_norm` and `ema_decay` as in OptimConfig; `moments` of replicas that take steps of their own."""
        self.model = model
        self.optimizer = optimizer
        self.statistics = BatchStatistics(model)
        self.moments = moments
        self.ledger = Ledger()
        self.open_steps = OpenSteps()
        """What is applied of steps that the ledger does not hold yet."""
        self.evaluations: tuple[Evaluation, ...] = ()
        self.lock = threading.RLock()
        self.is_whole = True
        """False once applying a step, or loading a state, has failed half-way."""
        self._clip_norm = clip_norm
        self._ema_decay = ema_decay
        self._average = copy.deepcopy(model) if ema_decay else None

    @property
    def step(self) -> int:
        """The next step; all before it are applied."""
        return len(self.ledger)

    @property
    def lineage(self) -> str:
        """Names the one history that led here."""
        return state_file.lineage_of(self.ledger, self.evaluations)

    @property
    def judged_model(self) -> nn.Module:
        """The network that is evaluated and kept: the average of the weights where there is one."""
        return self.model if self._average is None else self._average

    def trained(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def staged(self) -> list[nn.Parameter]:
        """What travels beside them: statistics of batch norms, moments of replicas."""
        statistics = [self.statistics.staged] if self.statistics else []
        return [*statistics, *([self.moments.staged] if self.moments else [])]

    def scale_gradients(self, factor: float) -> None:
        """Scale what was summed in this step, but for moments, which know their weight."""
        if factor != 1.0:
            _scale([self.statistics.staged, *self.trained()], factor)

    def gradient_norm(self) -> float:
        """The L2 norm of the gradient over all parameters; not finite where training has diverged."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    def apply(
        self, learning_rate: float, quorum_id: int, evidences: Sequence[Evidence], gradient_norm: float = math.nan
    ) -> None:
        """Take the optimizer's step with the gradients that are there, and write into the ledger what led to it.

        `evidences`: of the steps that count together, one each. `gradient_norm` is that of these gradients; only
        clipping needs it.
        """
        with self.lock:
            self.is_whole = False
            if any(evidence.samples for evidence in evidences):  # else all are excused
                self.take_step(learning_rate, gradient_norm, seed=self.step, num_steps=len(evidences))
            for evidence in evidences:
                self.ledger.append(LedgerLine(step=self.step, quorum_id=quorum_id, evidence=evidence))
            self.is_whole = True

    def take_step(self, learning_rate: float, gradient_norm: float, *, seed: int, num_steps: int = 1) -> None:
        """Move weights, statistics, moments and average, and nothing else; `seed` for optimizers that draw numbers."""
        scale = self._clip_norm / gradient_norm if 0 < self._clip_norm < gradient_norm else 1.0
        if scale < 1 or not isinstance(self.optimizer, _GENTLE):
            _scale(self.model.parameters(), scale)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        torch.manual_seed(seed)
        self.optimizer.step()
        if self.statistics:
            self.statistics.commit(num_steps)
        if self.moments:
            self.moments.commit()
        self.move_average(num_steps)

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Write down what an evaluation of this state has found."""
        with self.lock:
            self.evaluations = (*self.evaluations, evaluation)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with these weights."""
        with self.lock:
            self.model.load_state_dict(weights)
            self.statistics.take_over()
            if self._average is not None:
                self._average.load_state_dict(weights)

    def snapshot(self) -> Snapshot:
        """The whole state as bytes."""
        with self.lock:
            tensors = {f"model.{name}": tensor for name, tensor in self.weights().items()}
            if self._average is not None:
                tensors |= {f"average.{name}": tensor for name, tensor in self._average.state_dict().items()}
            if self.moments is not None:
                tensors["moments"] = self.moments.committed
            tensors |= optimizer_state.tensors_of(self.model, self.optimizer)
            tensors["ledger"] = torch.from_numpy(self.ledger.to_array())
            if self.open_steps:
                tensors["open_steps"] = torch.from_numpy(self.open_steps.to_array())
            metadata = {
                "step": str(self.step),
                "lineage": self.lineage,
                "optimizer": type(self.optimizer).__name__,
                "counters": optimizer_state.counters_of(self.model, self.optimizer),
                "evaluations": [asdict(evaluation) for evaluation in self.evaluations],
            }
            return Snapshot(step=self.step, lineage=self.lineage, body=state_file.write(tensors, metadata))

    def load(self, body: bytes | memoryview, source: str) -> None:
        """Become the state in `body`.

        Raises RunError, naming `source`, when it is no state, or one of another network or optimizer; this state is
        then unchanged.
        """
        contents = state_file.read(body, source)
        metadata, evaluations, ledger = contents.metadata, contents.evaluations, contents.ledger
        if (state_file.lineage_of(ledger, evaluations), str(len(ledger))) != (metadata["lineage"], metadata["step"]):
            raise RunError(f"{source} contradicts itself: its ledger does not lead to its step {metadata['step']}")
        weights = state_file.part_of(contents.tensors, "model.")
        average = state_file.part_of(contents.tensors, "average.")
        self.check(weights, metadata["optimizer"], source)
        if bool(average) != (self._average is not None):
            raise RunError(f"{source} {'holds an' if average else 'lacks the'} average of the weights")
        moments = contents.tensors.get("moments")
        if (None if moments is None else moments.shape) != (self.moments and self.moments.committed.shape):
            raise RunError(f"{source} holds other moments of replicas than this run keeps")
        parts = contents.tensors.get("open_steps")
        open_steps = OpenSteps() if parts is None else OpenSteps.from_array(parts.numpy(), source)
        with self.lock:
            self.is_whole = False
            self.model.load_state_dict(weights)
            self.statistics.take_over()
            if self._average is not None:
                self._average.load_state_dict(average)
            if self.moments is not None and moments is not None:
                self.moments.committed.copy_(moments)
            optimizer_state.load(self.model, self.optimizer, contents.tensors, metadata["counters"])
            self.ledger, self.open_steps, self.evaluations = ledger, open_steps, evaluations
            self.is_whole = True

    def check(self, weights: dict[str, Tensor], optimizer: str, source: str) -> None:
        """Raise RunError, naming `source`, when these are weights of another network, or were trained otherwise."""
        mine = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        its = {name: tensor.shape for name, tensor in weights.items()}
        if mine != its:
            name = min(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))
            raise RunError(
                f"{source} holds another network: {name} is {_shape(its.get(name))} there, "
                f"{_shape(mine.get(name))} here"
            )
        if optimizer != type(self.optimizer).__name__:
            raise RunError(f"{source} was trained with the optimizer {optimizer}, not {type(self.optimizer).__name__}")

    def weights(self) -> dict[str, Tensor]:
        """The network's tensors as they were when the last step was applied, whatever a forward pass does now."""
        return self.model.state_dict() | self.statistics.committed

    @torch.no_grad()
    def move_average(self, num_steps: float) -> None:
        """Let the average of the weights, if there is one, follow them for so many steps."""
        if self._average is None:
            return
        ours = self.model.state_dict()
        for name, average in self._average.state_dict().items():
            if average.is_floating_point():
                average.lerp_(ours[name], 1 - self._ema_decay**num_steps)
            else:
                average.copy_(ours[name])


def _scale(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Scale gradients, into copies: those that were reduced may lie in memory that all workers read."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = parameter.grad * factor


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(tuple(shape))
