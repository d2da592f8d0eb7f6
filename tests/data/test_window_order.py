"""Laws of the window order: each sample once, mixed within windows, with next to no memory."""

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from sunspark.data.order import OrderKind, StepPlan
from sunspark.data.shuffle import shuffled
from sunspark.data.window_order import Epoch, SplitBlocks, rows_at, split_blocks

BLOCK_SIZE, WINDOW_BLOCKS = 256, 1024
WINDOW_SIZE = BLOCK_SIZE * WINDOW_BLOCKS
NUM_CLASSES = 397


def whole_blocks(num_samples: int) -> SplitBlocks:
    """Of a split that is the whole dataset, but for the last blocks as `split_blocks` makes them."""
    sizes = np.full(-(-num_samples // BLOCK_SIZE), BLOCK_SIZE, "<i4")
    sizes[-1] -= -num_samples % BLOCK_SIZE
    return SplitBlocks(sizes=sizes.tobytes(), blocks_a_window=WINDOW_BLOCKS)


def epoch_of(num_samples: int, **changes: object) -> Epoch:
    settings: dict[str, object] = {"dataset_id": "d", "split": "train", "seed": 3, "epoch": 1}
    return Epoch(**(settings | {"blocks": whole_blocks(num_samples)} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "num_samples", [1, 255, 256, 257, 1000, WINDOW_SIZE - 1, WINDOW_SIZE, WINDOW_SIZE + 1, 3 * WINDOW_SIZE + 300]
)
def test_every_sample_has_one_position_however_they_are_asked_for(num_samples: int) -> None:
    epoch = epoch_of(num_samples)
    whole = rows_at(epoch, range(num_samples))
    assert whole.dtype == np.int64
    assert np.array_equal(np.sort(whole), np.arange(num_samples))
    size = max(1, num_samples // 7)
    parts = [rows_at(epoch, range(start, min(start + size, num_samples))) for start in range(0, num_samples, size)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_it_is_the_same_everywhere_and_for_ever() -> None:
    # When these numbers change, no run that was begun before can be resumed or verified.
    assert rows_at(epoch_of(700), range(350, 360)).tolist() == [16, 352, 126, 52, 151, 441, 19, 269, 637, 311]
    assert rows_at(epoch_of(10**9), range(5 * 10**8, 5 * 10**8 + 4)).tolist() == [
        821091570,
        717532388,
        34469688,
        908491852,
    ]


@pytest.mark.parametrize("change", [{"dataset_id": "e"}, {"split": "test"}, {"seed": 4}, {"epoch": 2}])
def test_it_depends_on_each_part_of_its_name(change: dict[str, object]) -> None:
    one, other = (rows_at(epoch_of(2000, **each), range(2000)) for each in ({}, change))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_what_is_read_together_lies_in_the_blocks_of_a_window() -> None:
    epoch = epoch_of(4 * WINDOW_SIZE)
    rows = rows_at(epoch, range(WINDOW_SIZE, 2 * WINDOW_SIZE))
    assert len(np.unique(rows // BLOCK_SIZE)) == WINDOW_BLOCKS
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.02, "samples of a block follow one another"
    assert abs(np.corrcoef(rows, np.arange(WINDOW_SIZE))[0, 1]) < 0.02


@pytest.mark.parametrize("fraction", [1.0, 0.8, 0.5, 0.01])
def test_each_block_of_the_dataset_is_fetched_once_an_epoch_whatever_part_of_it_the_split_is(fraction: float) -> None:
    """Blocks of images less those that were bad, so that none begins at a multiple of anything."""
    draw = np.random.default_rng(0)
    first_rows = np.concatenate([[0], np.cumsum(BLOCK_SIZE - draw.integers(0, 4, 3000))])
    rows = np.flatnonzero(draw.random(first_rows[-1]) < fraction)
    blocks = split_blocks(first_rows.tolist(), rows)
    assert blocks.blocks_a_window == WINDOW_BLOCKS
    order = rows[rows_at(epoch_of(1, blocks=blocks), range(len(rows)))]
    assert np.array_equal(np.sort(order), rows)
    block_of = np.searchsorted(first_rows, order, side="right") - 1
    held = np.unique(block_of)
    first, last = (np.full(3000, side) for side in (len(rows), -1))
    np.minimum.at(first, block_of, np.arange(len(rows)))
    np.maximum.at(last, block_of, np.arange(len(rows)))
    for position in np.linspace(0, len(rows) - 1, 500).astype(int).tolist():
        begun = (first[held] <= position) & (position < last[held])
        assert begun.sum() <= WINDOW_BLOCKS


def test_windows_of_large_blocks_hold_no_more_samples() -> None:
    rows = np.arange(2_000_000)
    assert split_blocks([0, *range(65_536, 2_000_000, 65_536), 2_000_000], rows).blocks_a_window == 4
    assert split_blocks([0, 2_000_000], rows).blocks_a_window == 1


def test_the_digest_tells_where_the_same_samples_lie_in_other_blocks() -> None:
    rows = np.arange(100)
    digests = [split_blocks(first_rows, rows).digest for first_rows in ([0, 50, 100], [0, 49, 100], [0, 50, 100])]
    assert digests[0] == digests[2] != digests[1]


def test_a_billion_samples_take_less_memory_than_their_blocks() -> None:
    epoch = epoch_of(10**9)  # whose sizes, 4 bytes a block, are there already
    tracemalloc.start()
    for position in np.linspace(0, 10**9 - 64, 12).astype(int).tolist():
        assert len(rows_at(epoch, range(position, position + 64))) == 64
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 20 * 10**9 / BLOCK_SIZE + 5 * 8 * WINDOW_SIZE


@pytest.mark.parametrize(("order", "least"), [("global", 0.99), ("window", 0.97)])
def test_batches_of_rows_that_are_sorted_by_class_hold_many_classes(order: OrderKind, least: float) -> None:
    """Ideal: what batches of independent samples hold on average; the rows of a dataset of ingest are mixed already."""
    num_samples, batch = 2_000_000, 256
    plan = StepPlan(
        dataset_id="d",
        split="train",
        seed=0,
        num_samples=num_samples,
        global_batch_size=batch,
        num_epochs=1,
        num_replicas=1,
        blocks=whole_blocks(num_samples) if order == "window" else None,
    )
    class_of = np.arange(num_samples) * NUM_CLASSES // num_samples
    steps = np.linspace(0, plan.num_steps - 2, 300).astype(int).tolist()
    found = np.mean([entropy(class_of[plan.rows_of(step)]) for step in steps])
    independent = shuffled(num_samples, "independent").reshape(-1)[: 300 * batch].reshape(300, batch)
    ideal = np.mean([entropy(class_of[rows]) for rows in independent])
    assert found >= least * ideal
    assert entropy(class_of[:batch]) < 0.2 * ideal, "the rows are not sorted by class"


def entropy(classes: npt.NDArray[np.int64]) -> float:
    """Of the classes of a batch, in bits."""
    shares = np.unique_counts(classes).counts / len(classes)
    return float(-(shares * np.log2(shares)).sum())
