"""Speed-ups, efficiencies and intervals, on figures that are known."""

import math
import random
import statistics
from dataclasses import replace

import pytest

from sunspark.bench.intervals import mean_interval, ratio_interval
from sunspark.bench.sweep_results import Measurement, summaries

ROW = Measurement(
    setting="all_reduce, workers=4", repeat=0, status="measured", baseline="serial", cores=4, images_per_second=300.0
)
ALONE = Measurement(setting="serial", repeat=0, status="measured", cores=1, images_per_second=100.0)


def test_an_interval_of_known_figures() -> None:
    """Mean 10, deviation 1, three values: half of it is 4.303 / sqrt(3)."""
    low, high = mean_interval([9.0, 10.0, 11.0])
    assert (low, high) == pytest.approx((10 - 4.303 / math.sqrt(3), 10 + 4.303 / math.sqrt(3)), abs=1e-9)
    assert mean_interval([5.0]) == (-math.inf, math.inf)
    assert ratio_interval([2.0]) == (2.0, 0.0, math.inf)
    assert ratio_interval([1.0, 4.0])[0] == pytest.approx(2)


@pytest.mark.parametrize("count", [2, 3, 10, 40])
def test_nineteen_intervals_of_twenty_hold_the_truth(count: int) -> None:
    draw = random.Random(count)
    found = [mean_interval([draw.gauss(7, 2) for _ in range(count)]) for _ in range(4000)]
    assert statistics.fmean(low <= 7 <= high for low, high in found) == pytest.approx(0.95, abs=0.012)


def test_speed_up_is_over_the_baseline_of_the_same_repeat() -> None:
    rows = [ALONE, replace(ALONE, repeat=1, images_per_second=50.0), ROW, replace(ROW, repeat=1, images_per_second=150)]
    alone, together = summaries(rows)
    assert together.speed_up == pytest.approx(3), "both were half as fast in the second repeat"
    assert together.speed_up_interval == pytest.approx((3, 3))
    assert together.efficiency == pytest.approx(0.75)
    assert together.images_per_second == pytest.approx(225)
    assert (alone.speed_up, alone.efficiency) == (None, None)


def test_what_has_no_run_says_why_and_one_run_has_no_interval() -> None:
    refused = Measurement(setting="all_reduce, workers=64", repeat=-1, status="refused", reason="it wants 64 cores")
    lost = replace(ROW, setting="async", status="failed", reason="no memory", images_per_second=None)
    _, alone, nothing, failed = summaries([ALONE, ROW, refused, lost])
    assert (alone.runs, alone.speed_up_interval, alone.images_per_second_interval) == (1, None, None)
    assert (nothing.runs, nothing.reason, nothing.speed_up) == (0, "it wants 64 cores", None)
    assert (failed.runs, failed.reason) == (0, "no memory")
