"""Memory that a worker shares with the parameter server of its host, in place of messages: parameters one way, their
change the other. Either has a place of its own, so that parameters stay there while the worker trains.
Shape legend: N numbers, as `FlatWeights` has them.
"""

from typing import Self, final

from torch import Tensor

from sunspark.parallel.shared_memory import SharedMemory, create_shared_memory, open_shared_memory
from sunspark.training.flat_weights import FlatWeights


@final
class Mailbox:
    """The two places, in one shared memory."""

    def __init__(self, memory: SharedMemory, weights: FlatWeights) -> None:
        self._memory = memory
        numbers = memory.tensor(weights.dtype, 0, 2 * weights.size)
        self.parameters_N: Tensor = numbers[: weights.size]
        """Written by the server."""
        self.change_N: Tensor = numbers[weights.size :]
        """Written by the worker."""

    @property
    def ticket(self) -> str:
        """What the worker needs to open it."""
        return self._memory.ticket

    @classmethod
    def create(cls, weights: FlatWeights) -> Self | None:
        """A new one, for the server; None where there is no memory to share."""
        memory = create_shared_memory(_num_bytes(weights))
        return None if memory is None else cls(memory, weights)

    @classmethod
    def open(cls, ticket: str, weights: FlatWeights) -> Self | None:
        """The server's, for the worker; None where it cannot be opened."""
        memory = open_shared_memory(ticket, _num_bytes(weights))
        if memory is None:
            return None
        memory.close_descriptor()
        return cls(memory, weights)


def _num_bytes(weights: FlatWeights) -> int:
    return 2 * weights.size * weights.dtype.itemsize
