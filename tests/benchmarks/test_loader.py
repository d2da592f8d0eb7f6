"""How the benchmark of the loader comes to its verdict."""

import pytest

from benchmarks.loader import missed


@pytest.mark.parametrize(("least", "is_missed"), [(1.5, False), (2.0, False), (2.01, True)])
def test_the_median_of_pairs_is_held_to_the_bound(least: float, is_missed: bool) -> None:
    rates = {"ours": [100.0, 200.0, 900.0], "theirs": [100.0, 100.0, 100.0]}
    assert (missed(rates, "ours", "theirs", least) is not None) == is_missed
