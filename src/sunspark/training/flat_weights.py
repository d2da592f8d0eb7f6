"""What training moves in a network, as numbers in a row: the way parameters and their changes travel to and fro.

Trained parameters stand in front, in the order of their memory (which all workers share), batch statistics behind them.
Shape legend: N numbers in all, T of them trained.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from sunspark.training.state import TrainingState


@final
class FlatWeights:
    """The weights of one state."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self.num_trained = sum(parameter.numel() for parameter in state.trained())
        self.size = self.num_trained + sum(buffer.numel() for buffer in state.statistics.moving)
        self.dtype = next(state.model.parameters()).dtype

    def read(self) -> Tensor:
        """A copy of them, on the processor; shape (N,)."""
        return self._concatenated(self._tensors())

    def read_judged(self) -> Tensor:
        """The same of the network that is evaluated and kept."""
        judged = self._state.judged_model
        if judged is self._state.model:
            return self.read()
        trained = [parameter for parameter in judged.parameters() if parameter.requires_grad]
        return self._concatenated([*trained, *self._state.statistics.moving_of(judged)])

    @torch.no_grad()
    def write(self, numbers_N: Tensor) -> None:
        """Become `numbers_N`."""
        for tensor, piece in self._with_pieces(numbers_N):
            tensor.copy_(piece)
        self._state.statistics.restore()

    @torch.no_grad()
    def add(self, change_N: Tensor, scale: float) -> None:
        """Move by `change_N`, scaled."""
        for tensor, piece in self._with_pieces(change_N):
            tensor.add_(piece, alpha=scale)
        self._state.statistics.restore()

    def _tensors(self) -> list[Tensor]:
        return [*self._state.trained(), *self._state.statistics.moving]

    def _concatenated(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([_in_memory_order(tensor).cpu() for tensor in tensors])

    def _with_pieces(self, numbers_N: Tensor) -> list[tuple[Tensor, Tensor]]:
        tensors = [_in_memory_order(tensor) for tensor in self._tensors()]
        pieces = numbers_N.split([len(tensor) for tensor in tensors])
        return list(zip(tensors, pieces, strict=True))


def _in_memory_order(tensor: Tensor) -> Tensor:
    """A flat view; weights are dense, contiguous or channels_last."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))
