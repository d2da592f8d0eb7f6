"""The order of samples: which step, and which replica of it, owns which samples.

Everything here is arithmetic on integers, decided before any byte is read. The order of an epoch is a pure
function of (dataset id, split, seed, epoch); a step owns a range of positions of that order; a replica owns a
part of the step; workers carry replicas. Who is alive, and how many, changes none of it.

Cost: `global` keeps the permutations of two epochs (`shuffle.py` says what one takes); `window` next to nothing
(`window_order.py`).
"""

import functools
from dataclasses import dataclass
from typing import Final, Literal

from sunspark.data.shuffle import Positions, shuffled
from sunspark.data.window_order import Epoch, SplitBlocks, rows_at
from sunspark.errors import ConfigError

OrderKind = Literal["global", "window"]
"""Samples in any order, or blocks in any order and samples in any order within a window of them."""

MOST_SAMPLES_IN_GLOBAL_ORDER: Final = 10_000_000
"""160 MB for the orders of two epochs, 320 MB more while another is made: less than a second."""

_LEAST_SLICE_SIZE = 2


def epoch_order(dataset_id: str, split: str, seed: int, epoch: int, num_samples: int) -> Positions:
    """The global order: a permutation of `range(num_samples)`, int64 (num_samples,), position -> index."""
    return shuffled(num_samples, "sunspark epoch order", dataset_id, split, int(seed), int(epoch))


_recent_epoch_order = functools.lru_cache(maxsize=2)(epoch_order)
"""Of the epoch at hand, and of the next one, which prefetching reaches into."""


def usual_order(num_samples: int) -> OrderKind:
    """The order of a training that asks for none."""
    return "global" if num_samples <= MOST_SAMPLES_IN_GLOBAL_ORDER else "window"


def even_split(items: range, part: int, num_parts: int) -> range:
    """Part number `part` of `items`: contiguous; parts cover all, differ by at most one, larger first."""
    if not 0 <= part < num_parts:
        raise ValueError(f"part must be in 0..{num_parts - 1}, got {part}")
    size, num_larger = divmod(len(items), num_parts)
    start = part * size + min(part, num_larger)
    return items[start : start + size + (part < num_larger)]


def replicas_of(rank: int, world_size: int, num_replicas: int) -> range:
    """The replicas that worker `rank` of `world_size` carries; empty for workers beyond the replicas."""
    return even_split(range(num_replicas), rank, world_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPlan:
    """Which samples belong to which step, for a whole training.

    Steps count from 0 through all epochs. Every position of every epoch belongs to exactly one step, and
    within the step to exactly one replica; the last step of an epoch is smaller when the batch size does not
    divide the number of samples. A plan is a value: equal plans say the same, on every machine.
    """

    dataset_id: str
    """Identity of the dataset: its content, not its place."""
    split: str
    """Name of the split that is trained on."""
    seed: int
    """Seed of the order."""
    num_samples: int
    """Samples in the split."""
    global_batch_size: int
    """Samples per step, over all replicas."""
    num_epochs: int
    """Passes over the split."""
    num_replicas: int
    """Slices that each step is cut into."""
    blocks: SplitBlocks | None = None
    """Of the split: then the order is `window`, and a function of them too. Without, it is `global`."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ConfigError(
                f"split {self.split!r} holds {self.num_samples} samples; choose a split with at least one"
            )
        if self.global_batch_size < 1:
            raise ConfigError(
                f"global_batch_size must be at least 1, got {self.global_batch_size}; use 64 when in doubt"
            )
        if self.num_epochs < 1:
            raise ConfigError(f"num_epochs must be at least 1, got {self.num_epochs}; use 1 for a single pass")
        if self.num_replicas < 1:
            raise ConfigError(f"num_replicas must be at least 1, got {self.num_replicas}; use the number of workers")
        if self.blocks is not None and self.blocks.num_samples != self.num_samples:
            raise ConfigError(f"the blocks hold {self.blocks.num_samples} samples, the split {self.num_samples}")

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one epoch, the smaller last one included."""
        return -(-self.num_samples // self.global_batch_size)

    @property
    def num_steps(self) -> int:
        """Steps in the whole training."""
        return self.steps_per_epoch * self.num_epochs

    @property
    def blocks_digest(self) -> str | None:
        """Of the blocks that the order is a function of; None where it is not."""
        return None if self.blocks is None else self.blocks.digest

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that `step` belongs to."""
        if not 0 <= step < self.num_steps:
            raise ValueError(f"step must be in 0..{self.num_steps - 1}, got {step}")
        return step // self.steps_per_epoch

    def samples_of(self, step: int) -> range:
        """The positions, in the order of the step's epoch, that `step` owns."""
        start = (step - self.epoch_of(step) * self.steps_per_epoch) * self.global_batch_size
        return range(start, min(start + self.global_batch_size, self.num_samples))

    def num_samples_of(self, step: int) -> int:
        """How many samples `step` owns, at least one."""
        return len(self.samples_of(step))

    def slice_of(self, step: int, replica: int) -> range:
        """The positions of `step` that `replica` takes.

        An empty range where a step has too few samples: it is then cut into fewer slices, so that each has two at
        least, since a batch norm learns nothing from one.
        """
        if not 0 <= replica < self.num_replicas:
            raise ValueError(f"replica must be in 0..{self.num_replicas - 1}, got {replica}")
        samples = self.samples_of(step)
        num_slices = min(self.num_replicas, max(1, len(samples) // _LEAST_SLICE_SIZE))
        return even_split(samples, replica, num_slices) if replica < num_slices else samples[len(samples) :]

    def rows_of(self, step: int) -> Positions:
        """The samples of `step` as indices into the split, shape (num_samples_of(step),)."""
        return self._rows_at(self.epoch_of(step), self.samples_of(step))

    def rows_of_slice(self, step: int, replica: int) -> Positions:
        """The samples of `slice_of(step, replica)` as indices into the split, one number each."""
        return self._rows_at(self.epoch_of(step), self.slice_of(step, replica))

    def _rows_at(self, epoch: int, positions: range) -> Positions:
        if self.blocks is None:
            order = _recent_epoch_order(self.dataset_id, self.split, self.seed, epoch, self.num_samples)
            return order[positions.start : positions.stop]
        of_blocks = Epoch(dataset_id=self.dataset_id, split=self.split, seed=self.seed, epoch=epoch, blocks=self.blocks)
        return rows_at(of_blocks, positions)
