"""Laws of the order: every position of an epoch once, whatever the batch size, the replicas, the workers."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sunspark.data.order import StepPlan, epoch_order, even_split, replicas_of, usual_order
from sunspark.data.window_order import SplitBlocks, split_blocks
from sunspark.errors import ConfigError

_SOME_ORDER: dict[str, Any] = {"dataset_id": "ab" * 16, "split": "train", "seed": 0, "epoch": 0, "num_samples": 1000}


def plan_of(**changes: object) -> StepPlan:
    settings: dict[str, object] = {
        "dataset_id": "d",
        "split": "train",
        "seed": 3,
        "num_samples": 103,
        "global_batch_size": 16,
        "num_epochs": 3,
        "num_replicas": 4,
    }
    return StepPlan(**(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("items", "num_parts", "expected"),
    [
        (range(0, 8), 4, [(0, 2), (2, 4), (4, 6), (6, 8)]),
        (range(0, 10), 4, [(0, 3), (3, 6), (6, 8), (8, 10)]),
        (range(5, 7), 4, [(5, 6), (6, 7), (7, 7), (7, 7)]),
        (range(5, 5), 2, [(5, 5), (5, 5)]),
        (range(0, 9), 1, [(0, 9)]),
    ],
)
def test_even_split_table(items: range, num_parts: int, expected: list[tuple[int, int]]) -> None:
    parts = [even_split(items, part, num_parts) for part in range(num_parts)]
    assert [(part.start, part.stop) for part in parts] == expected


def test_even_split_covers_all_in_order_with_sizes_that_differ_by_at_most_one() -> None:
    draw = random.Random(0)
    for _ in range(300):
        start, size, num_parts = draw.randrange(100), draw.randrange(60), draw.randrange(1, 20)
        parts = [even_split(range(start, start + size), part, num_parts) for part in range(num_parts)]
        assert [item for part in parts for item in part] == list(range(start, start + size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("part", "num_parts"), [(-1, 2), (2, 2), (0, 0)])
def test_even_split_refuses_a_part_that_is_not_there(part: int, num_parts: int) -> None:
    with pytest.raises(ValueError, match="part must be in"):
        even_split(range(4), part, num_parts)


@pytest.mark.parametrize("num_samples", [0, 1, 2, 1000])
def test_epoch_order_is_a_permutation(num_samples: int) -> None:
    order = epoch_order(**_SOME_ORDER | {"num_samples": num_samples})
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_samples))


def test_epoch_order_is_the_same_everywhere_and_for_ever() -> None:
    order = epoch_order("0123", "train", seed=7, epoch=2, num_samples=12)
    # When these numbers change, no run that was begun before can be resumed or verified.
    assert order.tolist() == [5, 10, 7, 3, 0, 2, 6, 11, 1, 4, 9, 8]


@pytest.mark.parametrize("change", [{"dataset_id": "cd" * 16}, {"split": "test"}, {"seed": 1}, {"epoch": 1}])
def test_epoch_order_depends_on_each_part_of_its_key(change: dict[str, object]) -> None:
    first = epoch_order(**_SOME_ORDER)
    other = epoch_order(**_SOME_ORDER | change)
    assert (first == epoch_order(**_SOME_ORDER)).all()
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2


def test_parts_of_the_key_do_not_run_into_each_other() -> None:
    first = epoch_order("a", "bc", seed=0, epoch=0, num_samples=50)
    other = epoch_order("ab", "c", seed=0, epoch=0, num_samples=50)
    assert (first != other).any()


def test_every_sample_of_every_epoch_once_for_any_batch_size_replicas_and_world_size() -> None:
    draw = random.Random(1)
    for _ in range(60):
        num_samples = draw.randrange(1, 200)
        plan = plan_of(
            num_samples=num_samples,
            global_batch_size=draw.randrange(1, 64),
            num_epochs=draw.randrange(1, 4),
            num_replicas=draw.randrange(1, 12),
            blocks=draw.choice([None, split_blocks([0, 50, 300], np.arange(num_samples))]),
        )
        seen: dict[int, list[int]] = {epoch: [] for epoch in range(plan.num_epochs)}
        for step in range(plan.num_steps):
            world_size = draw.randrange(1, 20)  # workers come and go
            for rank in range(world_size):
                for replica in replicas_of(rank, world_size, plan.num_replicas):
                    seen[plan.epoch_of(step)].extend(plan.rows_of_slice(step, replica).tolist())
        for rows in seen.values():
            assert sorted(rows) == list(range(plan.num_samples))


@pytest.mark.parametrize("blocks", [None, split_blocks([0, 50, 103], np.arange(103))])
def test_replicas_of_a_step_in_order_are_the_step(blocks: SplitBlocks | None) -> None:
    plan = plan_of(blocks=blocks)
    for step in range(plan.num_steps):
        slices = [plan.rows_of_slice(step, replica) for replica in range(plan.num_replicas)]
        assert np.concatenate(slices).tolist() == plan.rows_of(step).tolist()
        assert [len(rows) for rows in slices] == [len(plan.slice_of(step, replica)) for replica in range(4)]


def test_the_steps_of_an_epoch_in_order_are_its_order() -> None:
    plan = plan_of()
    order = epoch_order("d", "train", 3, 1, 103)
    steps = range(plan.steps_per_epoch, 2 * plan.steps_per_epoch)
    assert np.concatenate([plan.rows_of(step) for step in steps]).tolist() == order.tolist()


def test_blocks_of_another_split_are_refused() -> None:
    with pytest.raises(ConfigError, match="the blocks hold 102 samples, the split 103"):
        plan_of(blocks=split_blocks([0, 50, 102], np.arange(102)))


@pytest.mark.parametrize(
    ("num_samples", "global_batch_size", "sizes"),
    [(103, 16, [16] * 6 + [7]), (32, 16, [16, 16]), (5, 16, [5]), (3, 1, [1, 1, 1])],
)
def test_the_tail_is_smaller_and_never_dropped(num_samples: int, global_batch_size: int, sizes: list[int]) -> None:
    plan = plan_of(num_samples=num_samples, global_batch_size=global_batch_size)
    assert plan.steps_per_epoch == len(sizes)
    assert [plan.num_samples_of(step) for step in range(plan.num_steps)] == sizes * 3


@pytest.mark.parametrize(
    ("world_size", "expected"),
    [
        (1, [range(0, 4)]),
        (2, [range(0, 2), range(2, 4)]),
        (3, [range(0, 2), range(2, 3), range(3, 4)]),
        (5, [range(0, 1), range(1, 2), range(2, 3), range(3, 4), range(4, 4)]),
    ],
)
def test_workers_share_the_replicas_and_those_beyond_get_none(world_size: int, expected: list[range]) -> None:
    assert [replicas_of(rank, world_size, 4) for rank in range(world_size)] == expected


@pytest.mark.parametrize("step", [-1, 21])
def test_a_step_outside_the_training_is_refused(step: int) -> None:
    for question in (plan_of().epoch_of, plan_of().samples_of, plan_of().rows_of):
        with pytest.raises(ValueError, match=r"step must be in 0\.\.20"):
            question(step)


@pytest.mark.parametrize("field", ["num_samples", "global_batch_size", "num_epochs", "num_replicas"])
def test_a_plan_without_anything_to_do_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=r"at least 1, got 0; use |; choose a split with at least one"):
        plan_of(**{field: 0})


def test_a_plan_is_a_value() -> None:
    plan = plan_of()
    assert plan == plan_of()
    assert hash(plan) == hash(plan_of())
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_shared_rows_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        plan_of().rows_of(0)[0] = 1


def test_threads_that_ask_at_once_get_the_same_answers() -> None:
    plan = plan_of(num_epochs=6)
    steps = list(range(plan.num_steps)) * 3
    random.Random(2).shuffle(steps)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda step: plan.rows_of(step).tolist(), steps))
    assert answers == [plan.rows_of(step).tolist() for step in steps]


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [(16, [4, 4, 4, 4]), (9, [3, 2, 2, 2]), (7, [3, 2, 2, 0]), (3, [3, 0, 0, 0]), (1, [1, 0, 0, 0])],
)
def test_no_slice_of_a_step_has_a_single_sample_out_of_several(num_samples: int, expected: list[int]) -> None:
    plan = plan_of(num_samples=num_samples, num_epochs=1)
    assert [len(plan.slice_of(0, replica)) for replica in range(4)] == expected
    taken = [position for replica in range(4) for position in plan.slice_of(0, replica)]
    assert taken == list(range(num_samples))


def test_up_to_ten_million_samples_the_usual_order_is_global() -> None:
    assert [usual_order(count) for count in (1, 10_000_000, 10_000_001)] == ["global", "global", "window"]
