"""What training moves in a network, as numbers in a row: the way parameters and their changes travel to and fro.

Trained parameters stand in front, in the order of their memory (which all workers share), batch statistics behind them.
The change of a parameter is a difference, and is added. That of a statistic is where it stands now: the server's moves
towards it, and so a variance stays one however many workers have seen it fall from the same start.
Shape legend: N numbers in all, T of them trained.
"""

import math
from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor

from sunspark.training.state import TrainingState

_PART_NUMBERS: Final = 1 << 17
"""So few are still in the processor's cache when they are looked at a second time."""


@final
class FlatWeights:
    """The weights of one state."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self._num_parameters = len(state.trained())
        self.num_trained = sum(parameter.numel() for parameter in state.trained())
        self._sizes = [tensor.numel() for tensor in self._tensors()]
        self.size = sum(self._sizes)
        self.dtype = next(state.model.parameters()).dtype

    def empty(self) -> Tensor:
        """Room for them, on the processor; shape (N,)."""
        return torch.empty(self.size, dtype=self.dtype)

    def read(self, out_N: Tensor | None = None) -> Tensor:
        """Copy them into `out_N`, or into a tensor of its own."""
        return self._copied(self._tensors(), out_N)

    def read_judged(self, out_N: Tensor | None = None) -> Tensor:
        """The same of the network that is evaluated and kept."""
        judged = self._state.judged_model
        if judged is self._state.model:
            return self.read(out_N)
        trained = [parameter for parameter in judged.parameters() if parameter.requires_grad]
        return self._copied([*trained, *self._state.statistics.moving_of(judged)], out_N)

    def change_since(self, start_N: Tensor, out_N: Tensor) -> float:
        """Write into `out_N` how far parameters have come from `start_N`, and where statistics stand; its norm."""
        squares, begin = 0.0, 0
        for index, (tensor, out) in enumerate(self._with_pieces(out_N)):
            start, begin = start_N[begin : begin + len(out)], begin + len(out)
            rows = (row.split(_PART_NUMBERS) for row in (tensor, start, out))
            for numbers, origin, change in zip(*rows, strict=True):
                if index < self._num_parameters:
                    torch.sub(numbers.cpu(), origin, out=change)
                else:
                    change.copy_(numbers)
                norm = float(torch.linalg.vector_norm(change))
                squares += norm * norm
        return math.sqrt(squares)

    @torch.no_grad()
    def write(self, numbers_N: Tensor) -> None:
        """Become `numbers_N`."""
        for tensor, piece in self._with_pieces(numbers_N):
            tensor.copy_(piece)
        self._state.statistics.restore()

    @torch.no_grad()
    def add(self, change_N: Tensor, scale: float) -> None:
        """Move by `change_N`, scaled: parameters along it, statistics towards it."""
        for index, (tensor, piece) in enumerate(self._with_pieces(change_N)):
            if index < self._num_parameters:
                tensor.add_(piece, alpha=scale)
            else:
                tensor.lerp_(piece, scale)
        self._state.statistics.restore()

    def _tensors(self) -> list[Tensor]:
        return [*self._state.trained(), *self._state.statistics.moving]

    def _copied(self, tensors: Sequence[Tensor], out_N: Tensor | None) -> Tensor:
        out_N = self.empty() if out_N is None else out_N
        for piece, tensor in zip(out_N.split(self._sizes), tensors, strict=True):
            piece.copy_(_in_memory_order(tensor))
        return out_N

    def _with_pieces(self, numbers_N: Tensor) -> list[tuple[Tensor, Tensor]]:
        tensors = [_in_memory_order(tensor) for tensor in self._tensors()]
        return list(zip(tensors, numbers_N.split(self._sizes), strict=True))


def _in_memory_order(tensor: Tensor) -> Tensor:
    """A flat view; weights are dense, contiguous or channels_last."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))
