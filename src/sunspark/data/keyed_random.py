"""Random numbers for a sample: the same in an epoch whoever asks, in whatever batch, before or after a resume.

The words are digests of BLAKE2b (RFC 7693) over the key and a count. Noise, of which there is much, is the raw words of
Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), keyed by two of ours: NumPy keeps those for
ever, and its distributions not.

Cost: 3 microseconds for the eight words that most samples take (benchmarks/stages.py).
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final, TypeVar, final

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
_EIGHT_WORDS: Final = struct.Struct("<8Q")


@final
class KeyedRandom:
    """Random numbers that depend on (seed, epoch, sample id) and on nothing else."""

    def __init__(self, seed: int, epoch: int, sample_id: int) -> None:
        self._key = f"sunspark augment {int(seed)} {int(epoch)} {int(sample_id)}".encode()
        self._num_digests = 0
        self._words: list[int] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """The next number, uniform in [low, high)."""
        return low + (high - low) * ((self._word() >> 11) * 2.0**-53)

    def integer(self, limit: int) -> int:
        """The next whole number, uniform in 0..limit-1."""
        return self._word() * limit >> 64

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def noise(self, count: int) -> npt.NDArray[np.uint8]:
        """The next `count` bytes, uniform in 0..255, uint8 (count,)."""
        key = self._word() | self._word() << 64
        words = np.random.Philox(key=key).random_raw(-(-count // 8))
        return words.astype("<u8", copy=False).view(np.uint8)[:count]

    def _word(self) -> int:
        """The next 64 bits."""
        if not self._words:
            digest = hashlib.blake2b(self._key + b" %d" % self._num_digests).digest()
            self._num_digests += 1
            self._words = [*_EIGHT_WORDS.unpack(digest)]
        return self._words.pop()
