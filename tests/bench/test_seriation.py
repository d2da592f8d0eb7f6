"""Laws of the seriation: everything once, what is alike together, however it was numbered."""

import itertools

import numpy as np
import pytest

from sunspark.bench.seriation import seriate


def blocks(sizes: list[int], seed: int) -> tuple[np.ndarray, list[set[int]]]:
    """Groups of things that are alike among themselves, shuffled, with noise; and the groups."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    draw.shuffle(owner)
    similarity = (owner[:, None] == owner[None, :]) * draw.uniform(0.5, 1, (len(owner), len(owner)))
    similarity += draw.uniform(0, 0.1, similarity.shape)
    return similarity + similarity.T, [set(np.flatnonzero(owner == one).tolist()) for one in range(len(sizes))]


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_are_alike_stand_together(seed: int) -> None:
    similarity, wanted = blocks([3, 8, 5, 12, 7, 2], seed)
    order, groups = seriate(similarity, 12)
    assert sorted(order) == list(range(37))
    for group in wanted:
        places = sorted(order.index(one) for one in group)
        assert places[-1] - places[0] == len(group) - 1
    assert any(set(group) == wanted[3] for group in groups)


@pytest.mark.parametrize("size", [1, 2, 12, 13, 50])
def test_groups_cut_the_order_into_stretches_that_are_small_enough(size: int) -> None:
    similarity = np.random.default_rng(size).random((size, size))
    order, groups = seriate(similarity + similarity.T, 12)
    assert [one for group in groups for one in group] == order
    assert max(map(len, groups)) <= 12


def test_a_chain_is_found() -> None:
    """Things on a line, each like its neighbours only: the order is the line, from one end or the other."""
    line = np.random.default_rng(3).permutation(20)
    place = np.argsort(line)
    order, _ = seriate(np.exp(-np.abs(place[:, None] - place[None, :])), 5)
    assert sum(abs(int(place[one]) - int(place[other])) == 1 for one, other in itertools.pairwise(order)) >= 16


def test_where_nothing_is_alike_the_order_stays() -> None:
    assert seriate(np.zeros((7, 7)), 3)[0] == list(range(7))


def test_of_nothing_there_is_no_order() -> None:
    assert seriate(np.zeros((0, 0)), 3) == ([], [])
