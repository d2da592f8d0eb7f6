"""The geometry of charts: tables of ticks, paths and thinned lines."""

import math

import numpy as np
import pytest

from sunspark.bench.plot import (
    Dot,
    Scale,
    extremes,
    joined,
    line_path,
    nice_ticks,
    number,
    running_mean,
    size_ticks,
    stairs,
    time_ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 1.79, [0, 0.5, 1.0, 1.5]),
        (0, 480, [0, 100, 200, 300, 400]),
        (-3, 3, [-2, 0, 2]),
        (0, 3e-5, [0, 1e-5, 2e-5, 3e-5]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("seconds", "labels", "unit"),
    [
        (0.5, ["0"], "s"),
        (8, ["0", "2", "4", "6", "8"], "s"),
        (75, ["0", "15", "30", "45", "60", "75"], "s"),
        (600, ["0", "2", "4", "6", "8", "10"], "min"),
        (7200, ["0", "30", "60", "90", "120"], "min"),
        (90_000, ["0", "6", "12", "18", "24"], "h"),
        (900_000, ["0", "72", "144", "216"], "h"),
    ],
)
def test_time_has_round_ticks_in_one_unit(seconds: float, labels: list[str], unit: str) -> None:
    ticks, label = time_ticks(Scale(low=0, high=seconds))
    assert ([tick.label for tick in ticks], label) == (labels, unit)
    assert all(0 <= tick.at <= 1 for tick in ticks)


@pytest.mark.parametrize(
    ("num_bytes", "labels", "unit"),
    [
        (16, ["0", "5", "10", "15"], "B"),
        (45_000, ["0", "10", "20", "30", "40"], "kB"),
        (2.5e9, ["0", "0.5", "1", "1.5", "2", "2.5"], "GB"),
    ],
)
def test_sizes_have_round_ticks_in_one_unit(num_bytes: float, labels: list[str], unit: str) -> None:
    ticks, label = size_ticks(Scale(low=0, high=num_bytes))
    assert ([tick.label for tick in ticks], label) == (labels, unit)
    assert all(0 <= tick.at <= 1 for tick in ticks)


def dot(number: int, x: float, y: float, style: str = "blue") -> Dot:
    return Dot(x=x, y=y, style=style, label=str(number), text=f"setting {number}")


def test_dots_that_hide_each_other_become_one_and_none_is_lost() -> None:
    dots = joined([dot(1, 0.5, 0.5), dot(2, 0.9, 0.5), dot(3, 0.5, 0.5), dot(4, 0.51, 0.5, "red")])
    assert [(one.label, one.style) for one in dots] == [("1, 3, 4", ""), ("2", "blue")]
    assert dots[0].text == "setting 1\nsetting 3\nsetting 4"
    (many,) = joined([dot(number, 0.2, 0.2) for number in range(7)])
    assert many.label == "0, 1, 2, 3 +3"
    assert all(f"setting {number}" in many.text for number in range(7))


def test_stairs_keep_a_value_until_the_next_place() -> None:
    x, y = stairs(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 7.0]))
    assert list(zip(x.tolist(), y.tolist(), strict=True)) == [(0, 5), (1, 5), (1, 7), (2, 7), (2, 7)]


def test_a_line_breaks_where_there_is_no_value() -> None:
    x = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    y = np.array([0.0, 1.0, math.nan, 0.5, 0.25])
    assert line_path(x, y) == "M0.0 1000.0L250.0 0.0M750.0 500.0L1000.0 750.0"


def test_thinning_keeps_every_peak() -> None:
    values = np.zeros(10_000)
    values[[17, 5003, 9999]] = 5.0, -3.0, 7.0
    kept = extremes(values, 100)
    assert len(kept) <= 200
    assert {17, 5003, 9999} <= set(kept.tolist())


def test_a_running_mean_leaves_out_what_is_not_finite() -> None:
    values = np.array([1.0, math.nan, 3.0, math.inf, 5.0])
    assert running_mean(values, 3).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.001, "0.001"),
        (2e-5, "2·10⁻⁵"),
        (0.30000000000000004, "0.3"),
        (123456.0, "123,456"),
        (math.nan, "not finite"),
    ],
)
def test_numbers_on_an_axis_read_well(value: float, words: str) -> None:
    assert number(value) == words
