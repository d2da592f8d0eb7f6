"""Laws of rounds: whatever the members hold, every replica is in the result once, and nothing is done twice in vain."""

import random
from collections import Counter

import pytest

from sunspark.parallel.round import Duty, Held, duties_of

NOTHING = Held()


def replicas_in_result(helds: list[Held], duties: list[Duty]) -> Counter[int]:
    counted: Counter[int] = Counter()
    for held, duty in zip(helds, duties, strict=True):
        counted.update(duty.replicas)
        if duty.keeps_finished:
            counted.update(held.finished)
    return counted


def drawn_holdings(dice: random.Random, num_replicas: int) -> list[Held]:
    """Of any number of members; also such as only partitions bring about, where two hold the same replica."""
    helds = []
    for _ in range(dice.randint(1, 6)):
        finished = tuple(dice.sample(range(num_replicas), dice.randint(0, num_replicas)))
        if dice.random() < 0.5:
            finished = finished[:1]
        others = [replica for replica in range(num_replicas) if replica not in finished]
        replica = dice.choice(others) if others and dice.random() < 0.6 else -1
        helds.append(Held(finished=finished, replica=replica, steps=dice.randint(0, 9) if replica >= 0 else 0))
    return helds


@pytest.mark.parametrize("seed", range(300))
def test_every_replica_is_in_the_result_once(seed: int) -> None:
    dice = random.Random(seed)
    num_replicas = dice.randint(1, 9)
    helds = drawn_holdings(dice, num_replicas)
    duties = duties_of(helds, num_replicas)
    assert replicas_in_result(helds, duties) == Counter(range(num_replicas))
    for held, duty in zip(helds, duties, strict=True):
        assert duty.goes_on == (held.replica >= 0 and duty.replicas[:1] == (held.replica,))


@pytest.mark.parametrize("seed", range(100))
def test_where_nobody_holds_what_another_holds_all_of_it_is_kept(seed: int) -> None:
    dice = random.Random(seed)
    num_replicas, num_members = dice.randint(1, 12), dice.randint(1, 5)
    owner = [dice.randrange(num_members) for _ in range(num_replicas)]
    done = [dice.random() < 0.5 for _ in range(num_replicas)]
    helds = []
    for member in range(num_members):
        mine = [replica for replica in range(num_replicas) if owner[replica] == member]
        open_ones = [replica for replica in mine if not done[replica]]
        helds.append(
            Held(
                finished=tuple(replica for replica in mine if done[replica]),
                replica=open_ones[0] if open_ones else -1,
                steps=dice.randint(0, 5) if open_ones else 0,
            )
        )
    duties = duties_of(helds, num_replicas)
    assert all(duty.keeps_finished for duty in duties)
    assert [duty.goes_on for duty in duties] == [held.replica >= 0 for held in helds]


@pytest.mark.parametrize(("num_replicas", "num_members"), [(4, 1), (4, 2), (4, 3), (4, 4), (2, 5), (16, 3)])
def test_a_new_round_is_spread_evenly(num_replicas: int, num_members: int) -> None:
    sizes = [len(duty.replicas) for duty in duties_of([NOTHING] * num_members, num_replicas)]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


def test_of_two_on_their_way_through_one_replica_the_further_goes_on() -> None:
    duties = duties_of([Held(replica=0, steps=2), Held(replica=0, steps=7)], 1)
    assert [duty.goes_on for duty in duties] == [False, True]
    assert [duty.replicas for duty in duties] == [(), (0,)]


def test_of_two_sums_with_the_same_replica_the_larger_is_kept() -> None:
    duties = duties_of([Held(finished=(0,)), Held(finished=(0, 1))], 3)
    assert [duty.keeps_finished for duty in duties] == [False, True]
    assert sum((duty.replicas for duty in duties), ()) == (2,)
