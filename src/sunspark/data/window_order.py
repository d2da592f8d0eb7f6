"""The order of an epoch with little memory: blocks in any order, then samples in any order within windows of them.

Samples lie in blocks of 256 in the dataset's own order. The blocks are permuted; 1,024 of them at a time make a window,
whose samples are permuted. So what is read together lies together, and of a dataset that is larger than a node's cache
about 8 GB have to be there at once (JPEGs of 256 px). Batches are well mixed even where the dataset is sorted by class,
which no dataset of ingest is.
Cost: 8 bytes for 256 samples, 31 MB for a billion, and 2 MB for each of the last four windows; 30 ms for a window.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from sunspark.data.shuffle import Positions, shuffled

BLOCK_SIZE: Final = 256
WINDOW_BLOCKS: Final = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What the order of an epoch is a function of."""

    dataset_id: str
    split: str
    seed: int
    epoch: int
    num_samples: int


def rows_at(epoch: Epoch, positions: range) -> Positions:
    """The samples at these positions of the epoch, as indices into the split, int64 (len(positions),)."""
    if not positions:
        return np.zeros(0, np.int64)
    windows = range(_window_of(epoch, positions[0]), _window_of(epoch, positions[-1]) + 1)
    parts = []
    for window in windows:
        start = _start_of(epoch, window)
        parts.append(_window(epoch, window)[max(0, positions.start - start) : positions.stop - start])
    return np.concatenate(parts)


def _window_of(epoch: Epoch, position: int) -> int:
    """The window that holds a position."""
    short_slot, lacking = _short_block(epoch)
    is_behind = position >= _slot_start(epoch, short_slot + 1)
    return (position + lacking * is_behind) // BLOCK_SIZE // WINDOW_BLOCKS


def _start_of(epoch: Epoch, window: int) -> int:
    """The first position of a window."""
    return _slot_start(epoch, window * WINDOW_BLOCKS)


def _slot_start(epoch: Epoch, slot: int) -> int:
    """The first position of the block that comes `slot`th."""
    short_slot, lacking = _short_block(epoch)
    return slot * BLOCK_SIZE - (lacking if slot > short_slot else 0)


@lru_cache(maxsize=4)
def _window(epoch: Epoch, window: int) -> Positions:
    """The samples of a window in their order."""
    blocks = _blocks(epoch)[window * WINDOW_BLOCKS : (window + 1) * WINDOW_BLOCKS]
    rows = (blocks[:, np.newaxis] * BLOCK_SIZE + np.arange(BLOCK_SIZE)).reshape(-1)
    rows = rows[rows < epoch.num_samples]  # the last block is shorter
    name = ("sunspark window order", epoch.dataset_id, epoch.split, epoch.seed, epoch.epoch, window)
    return rows[shuffled(len(rows), *name)]


@lru_cache(maxsize=2)  # the epoch at hand, and the next one, which prefetching reaches into
def _blocks(epoch: Epoch) -> Positions:
    """The blocks in the order of their turns."""
    num_blocks = -(-epoch.num_samples // BLOCK_SIZE)
    return shuffled(num_blocks, "sunspark block order", epoch.dataset_id, epoch.split, epoch.seed, epoch.epoch)


@lru_cache(maxsize=2)
def _short_block(epoch: Epoch) -> tuple[int, int]:
    """When the turn of the last block comes, and how many samples it lacks."""
    blocks = _blocks(epoch)
    return int(np.flatnonzero(blocks == len(blocks) - 1)[0]), len(blocks) * BLOCK_SIZE - epoch.num_samples
