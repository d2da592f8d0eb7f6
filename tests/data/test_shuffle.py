"""Laws of permutations: each item once, and the same as ever."""

import numpy as np
import pytest

from sunspark.data.shuffle import shuffled, stable_argsort


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 255, 256, 100_000])
@pytest.mark.parametrize("num_random_bits", [0, 1, 5, 20, 63, 64])
def test_it_sorts_as_numpy_does_whatever_the_ties(count: int, num_random_bits: int) -> None:
    words = np.random.Philox(key=count).random_raw(count)
    mask = np.uint64(2**num_random_bits - 1)
    for few in (words & mask, (words & mask) << np.uint64(64 - num_random_bits) if num_random_bits else words & mask):
        order = stable_argsort(few)
        assert order.dtype == np.int64
        assert np.array_equal(order, np.argsort(few, kind="stable"))


def test_a_permutation_depends_on_its_name_and_holds_each_item_once() -> None:
    one, same, other = shuffled(500, "a", 1), shuffled(500, "a", 1), shuffled(500, "a", 2)
    assert np.array_equal(np.sort(one), np.arange(500))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1
