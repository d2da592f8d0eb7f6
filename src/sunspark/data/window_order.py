"""The order of an epoch with little memory: blocks in any order, then samples in any order within windows of them.

The blocks of the dataset that hold samples of the split are permuted; some 262,144 rows of the dataset at a time, 1,024
blocks of 256, make a window, whose samples are permuted. So each block is fetched once an epoch, and of a dataset that
is larger than a node's cache about 8 GB have to be there at once (JPEGs of 256 px). Batches are well mixed even where
the dataset is sorted by class, which no dataset of ingest is.
Cost: 28 bytes a block, 110 MB for a billion samples in blocks of 256, and 2 MB for each of the last four windows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from sunspark.data.shuffle import Positions, shuffled

_WINDOW_ROWS: Final = 2**18


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitBlocks:
    """How the samples of a split lie in the blocks of its dataset."""

    sizes: bytes
    """Of each block that has any: how many, int32. As bytes, whose hash Python computes once."""
    blocks_a_window: int

    @property
    def num_samples(self) -> int:
        """Of the split."""
        return int(_places(self)[0].sum())

    @property
    def digest(self) -> str:
        """Differs where a dataset of the same samples has them in other blocks."""
        return hashlib.blake2b(self.sizes, salt=self.blocks_a_window.to_bytes(8), digest_size=16).hexdigest()


def split_blocks(first_rows: Sequence[int], rows: Positions) -> SplitBlocks:
    """Of a split that holds `rows` of the dataset, ascending; `first_rows` are those of each block, and the number of
    all rows."""
    sizes = np.diff(np.searchsorted(rows, first_rows))
    largest = int(np.diff(first_rows).max(initial=1))
    return SplitBlocks(sizes=sizes[sizes > 0].astype("<i4").tobytes(), blocks_a_window=max(1, _WINDOW_ROWS // largest))


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What the order of an epoch is a function of."""

    dataset_id: str
    split: str
    seed: int
    epoch: int
    blocks: SplitBlocks


def rows_at(epoch: Epoch, positions: range) -> Positions:
    """The samples at these positions of the epoch, as indices into the split, int64 (len(positions),)."""
    if not positions:
        return np.zeros(0, np.int64)
    starts = _turns(epoch)[1]
    first, last = np.searchsorted(starts, [positions[0], positions[-1]], side="right").tolist()
    parts = [
        _window(epoch, window)[max(0, positions.start - starts[window]) : positions.stop - starts[window]]
        for window in range(first - 1, last)
    ]
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _window(epoch: Epoch, window: int) -> Positions:
    """The samples of a window in their order."""
    a_window = epoch.blocks.blocks_a_window
    blocks = _turns(epoch)[0][window * a_window : (window + 1) * a_window]
    sizes, firsts = (of_blocks[blocks] for of_blocks in _places(epoch.blocks))
    rows = np.repeat(firsts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    name = ("sunspark window order", epoch.dataset_id, epoch.split, epoch.seed, epoch.epoch, window)
    return rows[shuffled(len(rows), *name)]


@lru_cache(maxsize=2)  # the epoch at hand, and the next one, which prefetching reaches into
def _turns(epoch: Epoch) -> tuple[Positions, Positions]:
    """The blocks in the order of their turns, and the first position of each window."""
    sizes, _ = _places(epoch.blocks)
    name = ("sunspark block order", epoch.dataset_id, epoch.split, epoch.seed, epoch.epoch)
    blocks = shuffled(len(sizes), *name)
    of_windows = np.add.reduceat(sizes[blocks], np.arange(0, len(blocks), epoch.blocks.blocks_a_window), dtype=np.int64)
    return blocks, np.cumsum(of_windows) - of_windows


@lru_cache(maxsize=2)
def _places(blocks: SplitBlocks) -> tuple[Positions, Positions]:
    """Of each block: how many samples of the split it holds, and the first of them as an index into the split."""
    sizes = np.frombuffer(blocks.sizes, "<i4")
    return sizes, np.cumsum(sizes, dtype=np.int64) - sizes
