"""The geometry of charts: tables of ticks, paths and thinned lines."""

import math

import numpy as np
import pytest

from sunspark.bench.plot import Scale, extremes, line_path, nice_ticks, number, running_mean, time_ticks


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
