"""Laws of keyed random numbers: a function of the key, the same for ever, uniform."""

import numpy as np
import pytest

from sunspark.data.keyed_random import KeyedRandom


def test_random_numbers_are_the_same_everywhere_and_for_ever() -> None:
    rng = KeyedRandom(1, 2, 3)
    assert [rng.uniform() for _ in range(2)] == [0.707300113302076, 0.568556229537854]
    assert rng.integer(1000) == 773
    assert rng.integer(1000) == 471
    assert rng.shuffled("abcdef") == list("abfdec")
    assert rng.noise(11).tolist() == [53, 32, 99, 0, 163, 81, 106, 192, 226, 52, 50]
    assert rng.integer(1000) == 410


def test_random_numbers_are_uniform() -> None:
    generators = [KeyedRandom(0, 0, sample_id) for sample_id in range(4000)]
    draws = np.array([(rng.uniform(2, 4), rng.integer(4)) for rng in generators])
    assert np.histogram(draws[:, 0], bins=4, range=(2, 4))[0] == pytest.approx([1000] * 4, abs=150)
    assert np.bincount(draws[:, 1].astype(int)) == pytest.approx([1000] * 4, abs=150)


def test_every_order_of_a_shuffle_is_as_likely_as_another() -> None:
    orders = ["".join(KeyedRandom(0, 0, sample_id).shuffled("abc")) for sample_id in range(3000)]
    assert sorted(set(orders)) == ["abc", "acb", "bac", "bca", "cab", "cba"]
    assert [orders.count(order) for order in set(orders)] == pytest.approx([500] * 6, abs=100)


def test_a_shuffle_keeps_what_it_is_given() -> None:
    items = [3, 1, 2]
    assert sorted(KeyedRandom(0, 0, 0).shuffled(items)) == [1, 2, 3]
    assert items == [3, 1, 2]
    assert KeyedRandom(0, 0, 0).shuffled([]) == []


@pytest.mark.parametrize("count", [0, 1, 8, 9])
def test_noise_is_as_long_as_it_is_asked_for(count: int) -> None:
    noise = KeyedRandom(0, 0, 0).noise(count)
    assert (noise.shape, noise.dtype) == ((count,), np.uint8)


def test_noise_is_uniform() -> None:
    noise = KeyedRandom(0, 0, 0).noise(256 * 1000)
    assert np.bincount(noise, minlength=256) == pytest.approx([1000] * 256, abs=150)
