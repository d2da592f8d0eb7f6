"""Laws of color jitter: what has no strength stays, factors keep to their bounds, every order occurs."""

import numpy as np
import pytest

from sunspark.data import color_jitter as module
from sunspark.data.color_jitter import color_jitter
from sunspark.data.keyed_random import KeyedRandom
from tests.data.pictures import picture

STRENGTHS = (0.4, 1.5, 0.2, 0.1)
BOUNDS = {"brightness": (0.6, 1.4), "contrast": (0.0, 2.5), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1)}


def test_without_strength_nothing_changes_and_nothing_is_drawn() -> None:
    pixels, rng = picture(20, 20), KeyedRandom(0, 0, 0)
    assert color_jitter(pixels, rng, (0.0, 0.0, 0.0, 0.0)) is pixels
    assert rng.uniform() == KeyedRandom(0, 0, 0).uniform()


@pytest.mark.parametrize("only", range(4))
def test_each_strength_is_its_own(only: int) -> None:
    """A gray image has no colour to change, a black one no brightness; the mean of a uniform one is itself."""
    strengths = tuple(0.5 * (index == only) for index in range(4))
    name = list(BOUNDS)[only]
    gray, dark = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8, 3), np.uint8)
    rng = [KeyedRandom(0, 0, 5) for _ in range(3)]
    assert np.array_equal(color_jitter(gray, rng[0], strengths), gray) == (name != "brightness")
    assert np.array_equal(color_jitter(dark, rng[1], strengths), dark)
    assert not np.array_equal(color_jitter(picture(20, 20), rng[2], strengths), picture(20, 20))


def test_amounts_fill_their_bounds_and_every_order_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float]] = []
    for name in BOUNDS:
        monkeypatch.setattr(module, name, lambda pixels, amount, name=name: calls.append((name, amount)) or pixels)
    for sample_id in range(1000):
        color_jitter(picture(3, 3), KeyedRandom(0, 0, sample_id), STRENGTHS)
    orders = {tuple(name for name, _ in calls[start : start + 4]) for start in range(0, len(calls), 4)}
    assert len(orders) == 24
    assert all(set(order) == set(BOUNDS) for order in orders)
    for name, (low, high) in BOUNDS.items():
        amounts = [amount for called, amount in calls if called == name]
        assert low <= min(amounts) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(amounts) <= high
        assert np.mean(amounts) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
