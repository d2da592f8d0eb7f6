"""The interval of a measured share, against values that were published."""

import pytest

from sunspark.bench.intervals import wilson_interval


def test_the_interval_of_an_accuracy_is_that_of_wilson() -> None:
    assert wilson_interval(110, 120) == pytest.approx((0.8534, 0.9541), abs=2e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    low, high = wilson_interval(50, 50)
    assert low == pytest.approx(0.9287, abs=2e-4)
    assert high == pytest.approx(1.0)
