"""What the optimizers of replicas remember from one exchange to the next: averaged, or kept by each replica.

Moments travel beside the parameters, staged where a gradient would be, as batch statistics do.
Cost: with `average` as many numbers as the optimizer remembers; with `keep` so many for each replica, on every worker.
"""

from typing import Literal, final

import torch
from torch import Tensor, nn

from sunspark.errors import ConfigError
from sunspark.training import optimizer_state


@final
class InnerMoments:
    """The moments of all replicas, flat: one row for all (average), or a row for each (keep).

    The last number of a row is 1 where there are any: an optimizer that has taken no step remembers nothing.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, how: Literal["average", "keep"], num_replicas: int
    ) -> None:
        """`optimizer` has taken no step on `model`; it takes one here, and forgets it, to show what it remembers.

        Raises ConfigError when that is more than tensors by parameter.
        """
        self._how = how
        self._fresh = optimizer_state.counters_of(model, optimizer)
        self._kinds = _kinds_of(model, optimizer, how)
        optimizer_state.load(model, optimizer, {}, self._fresh)
        size = sum(kind.numel() for kind in self._kinds.values()) + 1
        like = next(model.parameters()).detach()
        self.committed = like.new_zeros((num_replicas if how == "keep" else 1, size))
        """What replicas start the next round with; shape (rows, numbers)."""
        self.staged = nn.Parameter(self.committed.clone(), requires_grad=False)
        """Carries what they have come to, weighted by samples, where a gradient would be."""

    def begin_round(self) -> None:
        """Forget what was staged."""
        self.staged.grad = torch.zeros_like(self.committed)

    def load_into(self, model: nn.Module, optimizer: torch.optim.Optimizer, replica: int) -> None:
        """Let `optimizer` remember what the replica starts the round with."""
        row = self.committed[self._row_of(replica)]
        tensors: dict[str, Tensor] = {}
        if row[-1] > 0:
            tensors = {name: piece.to(self._kinds[name].dtype) for name, piece in self._pieces_of(row).items()}
        optimizer_state.load(model, optimizer, tensors, self._fresh)

    def stage(self, model: nn.Module, optimizer: torch.optim.Optimizer, replica: int, samples: int) -> None:
        """Stage what the replica has come to with so many samples."""
        if not samples:
            return
        assert self.staged.grad is not None
        tensors, row = optimizer_state.tensors_of(model, optimizer), self.staged.grad[self._row_of(replica)]
        for name, piece in self._pieces_of(row).items():
            if (moment := tensors.get(name)) is not None:  # else forward does not use the parameter
                piece.add_(moment, alpha=samples)
        row[-1] += samples

    def commit(self) -> None:
        """Take over what the replicas have staged, summed over all workers; who had no samples keeps what it had."""
        assert self.staged.grad is not None
        for committed, staged in zip(self.committed, self.staged.grad, strict=True):
            if staged[-1] > 0:
                torch.div(staged, staged[-1], out=committed)
        self.staged.grad = None

    def _pieces_of(self, row: Tensor) -> dict[str, Tensor]:
        """The parts of a row, each in its tensor's shape, by name; they share the row's memory."""
        pieces = row[:-1].split([kind.numel() for kind in self._kinds.values()])
        return {name: piece.view(kind.shape) for (name, kind), piece in zip(self._kinds.items(), pieces, strict=True)}

    def _row_of(self, replica: int) -> int:
        return replica if self._how == "keep" else 0


def _kinds_of(model: nn.Module, optimizer: torch.optim.Optimizer, how: str) -> dict[str, Tensor]:
    """Name -> a tensor without numbers, for all that the optimizer remembers once it has taken a step."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    tensors = optimizer_state.tensors_of(model, optimizer)
    counters = optimizer_state.counters_of(model, optimizer)
    if counters["states"] or any(counters["groups"]) or any(name.startswith("optimizer-group.") for name in tensors):
        raise ConfigError(
            f"{type(optimizer).__name__} remembers more than tensors by parameter, which --inner-state {how} does not "
            "know how to exchange; use --inner-state reset, or another optimizer"
        )
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
