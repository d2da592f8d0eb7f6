"""The comparison of accuracies: known answers, known figures."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.accuracy import ARMS, Result, compare, problems, runs_of, table
from benchmarks.paired import Difference, difference, from_hex, to_hex

RESULT = Result(
    arm="serial",
    workers=1,
    seed=0,
    epochs=10,
    seconds=100.0,
    top1=0.5,
    exactly_once=True,
    dataset_id="made-up",
    num_images=400,
    right="f" * 50 + "0" * 50,
)


@pytest.mark.parametrize("num_images", [1, 4, 7, 8, 9, 750])
def test_answers_come_back_from_their_digits(num_images: int) -> None:
    right = np.random.default_rng(num_images).random(num_images) < 0.7
    digits = to_hex(right)
    assert len(digits) == math.ceil(num_images / 4)
    assert (from_hex(digits, num_images) == right).all()


def test_the_interval_of_one_seed_is_that_of_paired_shares() -> None:
    """McNemar's table: of n = 100 images, b = 10 right for one alone, c = 4 for the other alone."""
    ours, theirs = np.zeros((1, 100), np.bool_), np.zeros((1, 100), np.bool_)
    ours[0, :10] = theirs[0, 10:14] = True
    half = 1.96 * 100 * math.sqrt((14 - 36 / 100) / (100 * 99))
    found = difference(ours, theirs)
    assert (found.points, found.low, found.high) == pytest.approx((6.0, 6.0 - half, 6.0 + half))


def test_seeds_that_disagree_widen_the_interval_and_copies_of_a_seed_do_not() -> None:
    theirs = np.random.default_rng(0).random((3, 500)) < 0.5
    better, worse = theirs.copy(), theirs.copy()
    better[:, :50] = True
    worse[:, :50] = False
    mixed = np.stack([better[0], worse[1], theirs[2]])
    alike = difference(np.tile(better[:1], (3, 1)), np.tile(theirs[:1], (3, 1)))
    assert _width(alike) == pytest.approx(_width(difference(better[:1], theirs[:1])))
    assert _width(difference(mixed, theirs)) > 2 * _width(difference(better, theirs))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Trainings and test images drawn anew 400 times, from a known truth, with noise of seeds and of images."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        ease_I, luck_S = rng.normal(0.5, 1.0, 750), rng.normal(0, 0.02, (2, 40, 1))
        right = rng.normal(size=(2, 40, 750)) < ease_I + luck_S
        found = difference(right[0], right[1])
        held += found.low <= 0.0 <= found.high
    assert held >= 0.92 * 400


@pytest.mark.parametrize(("high", "is_worse"), [(-1.6, True), (-1.5, False), (0.5, False)])
def test_an_arm_fails_only_when_its_whole_interval_is_beyond_the_bound(high: float, is_worse: bool) -> None:
    assert Difference(-4.0, -6.0, high).is_worse_than(1.5) == is_worse


def test_an_arm_is_paired_with_serial_of_its_seed_and_reported_when_it_is_worse() -> None:
    serial = [replace(RESULT, seed=0), replace(RESULT, seed=1, right="0" * 50 + "f" * 50)]
    same = [replace(one, arm="all_reduce", workers=2) for one in serial]
    poor = [replace(one, arm="diloco_16", workers=4, right="0" * 100) for one in serial]
    comparisons = compare([*poor, *same, *serial])
    assert [one.arm for one in comparisons] == ["serial", "all_reduce", "diloco_16"]
    assert comparisons[1].difference == Difference(0.0, 0.0, 0.0)
    assert [line.split(":")[0] for line in problems(comparisons)] == ["diloco_16, 4 workers"]
    assert "| `diloco_16` | 4 | 2 |" in table(comparisons)


def test_serial_is_run_once_a_seed_and_every_arm_on_two_cores() -> None:
    runs = list(runs_of(list(ARMS), [2, 4], [0, 1, 2]))
    assert runs[:3] == [("serial", 1, 0), ("serial", 1, 1), ("serial", 1, 2)]
    assert len(runs) == len(set(runs)) == 3 + 6 * (len(ARMS) - 1)
    assert ARMS["serial"].words(1)[2:] == ["--workers", 1, "--cores-per-worker", 2, "--replicas", 1]
    assert ARMS["diloco_16"].words(4)[4:] == ["--workers", 2, "--cores-per-worker", 1, "--replicas", 4]


def _width(found: Difference) -> float:
    return found.high - found.low
