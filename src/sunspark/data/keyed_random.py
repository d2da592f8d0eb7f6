"""Random numbers for a sample: the same in an epoch whoever asks, in whatever batch, before or after a resume.

Built on the raw words of Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), which NumPy
keeps for ever, not on its distributions, which it may change. Cost: about 20 microseconds per sample.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar, final

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


@final
class KeyedRandom:
    """Random numbers that depend on (seed, epoch, sample id) and on nothing else."""

    def __init__(self, seed: int, epoch: int, sample_id: int) -> None:
        text = f"sunspark augment {int(seed)} {int(epoch)} {int(sample_id)}"
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._bits = np.random.Philox(key=int.from_bytes(key, "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """The next number, uniform in [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def integer(self, limit: int) -> int:
        """The next whole number, uniform in 0..limit-1."""
        return int(self._bits.random_raw()) * limit >> 64

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def noise(self, count: int) -> npt.NDArray[np.uint8]:
        """The next `count` bytes, uniform in 0..255, uint8 (count,)."""
        words = self._bits.random_raw(-(-count // 8))
        return words.astype("<u8", copy=False).view(np.uint8)[:count]
