"""Laws of the parameter server's judgement, in any interleaving: each unit is applied once, within the bound."""

import random
from collections import Counter
from typing import Any

import pytest

from sunspark.parallel.lease_desk import Accepted, Lease, LeaseDesk, Unit


def desk_of(num_rounds: int, num_replicas: int, **options: Any) -> LeaseDesk:
    desk = LeaseDesk(num_replicas, **options)
    desk.end_round = num_rounds
    return desk


def taken(desk: LeaseDesk, holder: str) -> Lease:
    lease = desk.ask(holder)
    assert lease is not None
    assert desk.begin(lease.number)
    return lease


def test_units_are_leased_in_order_and_end_with_the_last() -> None:
    desk = desk_of(2, num_replicas=2)
    units = []
    while (lease := desk.ask("0.1")) is not None:
        assert desk.begin(lease.number)
        assert desk.push("0.1", lease.number)
        units.append((lease.unit.round, lease.unit.replica))
    assert units == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_who_asks_again_before_it_has_begun_hears_of_the_same_lease() -> None:
    desk = desk_of(3, num_replicas=1)
    first = desk.ask("0.1")
    assert first == desk.ask("0.1")
    assert first is not None
    assert desk.begin(first.number)
    assert desk.ask("0.1") != first


def test_a_repeated_push_gets_its_first_answer_and_is_not_applied_again() -> None:
    desk = desk_of(3, num_replicas=1)
    slow, quick = taken(desk, "0.1"), taken(desk, "1.1")
    desk.push("1.1", quick.number)
    first = desk.push("0.1", slow.number)
    again = desk.push("0.1", slow.number)
    assert first == Accepted(unit=slow.unit, staleness=1)
    assert again == Accepted(unit=slow.unit, staleness=1, is_repeated=True)
    assert desk.version == 2


def test_a_lease_of_a_worker_that_is_gone_is_leased_again_and_its_push_counts_nowhere() -> None:
    desk = desk_of(3, num_replicas=1)
    lost, reserved = taken(desk, "0.1"), desk.ask("0.1")
    assert reserved is not None
    assert desk.release("0.1") == [lost.unit], "what was not begun need not be done again"
    assert taken(desk, "1.1").unit == lost.unit
    assert desk.push("0.1", lost.number) is None
    assert desk.push("0.1", reserved.number) is None
    assert not desk.is_held(lost.number)


def test_nobody_pushes_under_a_lease_of_another_or_one_that_was_not_begun() -> None:
    desk = desk_of(3, num_replicas=1)
    lease = desk.ask("0.1")
    assert lease is not None
    assert desk.push("0.1", lease.number) is None
    desk.begin(lease.number)
    assert desk.push("1.1", lease.number) is None
    assert desk.push("0.1", lease.number) is not None


def test_scale_falls_with_staleness() -> None:
    unit = Unit(round=0, replica=0)
    assert [Accepted(unit=unit, staleness=staleness).scale for staleness in (0, 3, 8)] == [1, 1 / 2, 1 / 3]


def test_bound_zero_lets_one_train_at_a_time() -> None:
    desk = desk_of(4, num_replicas=1, staleness_bound=0)
    first, second = taken(desk, "0.1"), desk.ask("1.1")
    assert second is not None
    assert not desk.begin(second.number)
    desk.push("0.1", first.number)
    third = desk.ask("0.1")
    assert third is not None
    assert not desk.begin(third.number), "who has waited longest goes first"
    assert desk.begin(second.number)


def test_an_update_that_is_not_applied_yet_counts_for_who_takes_the_parameters_without_it() -> None:
    desk = desk_of(4, num_replicas=1)
    first = taken(desk, "0.1")
    assert desk.push("0.1", first.number, settles=False) == Accepted(unit=first.unit, staleness=0)
    second = taken(desk, "1.1")
    desk.settle(first.number)
    third = taken(desk, "2.1")
    assert desk.push("2.1", third.number) == Accepted(unit=third.unit, staleness=0)
    assert desk.push("1.1", second.number) == Accepted(unit=second.unit, staleness=2)


def test_the_bound_counts_it_too() -> None:
    desk = desk_of(4, num_replicas=1, staleness_bound=0)
    first, second = taken(desk, "0.1"), desk.ask("1.1")
    assert second is not None
    desk.push("0.1", first.number, settles=False)
    assert not desk.begin(second.number)
    desk.settle(first.number)
    assert desk.begin(second.number)


def test_who_has_begun_and_asks_again_whether_it_may_does_not_wait_for_those_that_wait_for_it() -> None:
    desk = desk_of(4, num_replicas=1, staleness_bound=0)
    first, second = taken(desk, "0.1"), desk.ask("1.1")
    assert second is not None
    assert not desk.begin(second.number)
    assert desk.begin(first.number), "the first reply was lost"
    desk.push("0.1", first.number)
    assert desk.begin(second.number)


def test_who_has_nothing_gets_the_unit_that_another_does_not_train_on_yet() -> None:
    desk = desk_of(1, num_replicas=2)
    first, reserved = taken(desk, "0.1"), desk.ask("0.1")
    assert reserved is not None
    moved = desk.ask("1.1")
    assert moved is not None
    assert (moved.unit, desk.is_held(reserved.number)) == (reserved.unit, False)
    assert desk.ask("0.1") is None
    assert desk.ask("2.1") is None, "who holds only one keeps it"
    assert desk.begin(moved.number)
    assert desk.push("0.1", reserved.number) is None
    assert desk.push("1.1", moved.number)
    assert desk.push("0.1", first.number)


def test_units_beyond_the_end_wait_and_what_is_applied_is_left_out() -> None:
    desk = desk_of(3, num_replicas=2, applied={Unit(round=0, replica=1), Unit(round=1, replica=0)})
    desk.end_round = 1
    lease = taken(desk, "0.1")
    assert lease.unit == Unit(round=0, replica=0)
    assert desk.ask("0.1") is None
    desk.push("0.1", lease.number)
    assert desk.ask("0.1") is None
    desk.end_round = 3
    assert taken(desk, "0.1").unit == Unit(round=1, replica=1)


@pytest.mark.parametrize("bound", [None, 0, 1, 3, 7])
@pytest.mark.parametrize("seed", range(20))
def test_any_interleaving_applies_every_unit_once_within_the_bound(seed: int, bound: int | None) -> None:
    """Workers of any speed ask, begin, push, repeat themselves, die, and push after their death."""
    draw = random.Random(seed)
    desk = desk_of(8, num_replicas=3, staleness_bound=bound)
    incarnations = Counter({worker: 1 for worker in range(4)})
    leases: dict[str, list[Lease]] = {}
    begun: dict[str, Lease] = {}
    zombies: list[tuple[str, Lease]] = []
    applied: Counter[Unit] = Counter()
    unsettled: list[int] = []
    for _ in range(20_000):
        worker = draw.randrange(4)
        holder = f"{worker}.{incarnations[worker]}"
        mine = leases.setdefault(holder, [])
        if unsettled and draw.random() < 0.4:
            desk.settle(unsettled.pop(draw.randrange(len(unsettled))))
        match draw.choices(["go on", "again", "die", "haunt"], [90, 5, 1, 4])[0]:
            case "die":
                zombies += [(holder, lease) for lease in mine]
                desk.release(holder)
                incarnations[worker] += 1
            case "haunt" if zombies:
                ghost, lease = draw.choice(zombies)
                answer = desk.push(ghost, lease.number)
                assert answer is None
            case "again" if holder in begun:
                answer = desk.push(holder, begun[holder].number)
                assert answer is None or answer.is_repeated or mine
                if answer is not None and not answer.is_repeated:
                    applied[answer.unit] += 1
                    mine.remove(begun[holder])
            case _:
                if not mine:
                    if lease := desk.ask(holder):
                        mine.append(lease)
                elif not desk.is_held(mine[0].number):
                    mine.pop(0)  # somebody had nothing to do
                elif holder in begun and begun[holder] == mine[0]:
                    if draw.random() < 0.3:
                        assert desk.begin(mine[0].number), "it has begun already"
                    if len(mine) == 1 and (lease := desk.ask(holder)):
                        mine.append(lease)
                    number, settles = mine.pop(0).number, draw.random() < 0.7
                    answer = desk.push(holder, number, settles=settles)
                    unsettled += [] if settles else [number]
                    assert answer is not None
                    assert not answer.is_repeated
                    assert bound is None or answer.staleness <= bound
                    applied[answer.unit] += 1
                elif desk.begin(mine[0].number):
                    begun[holder] = mine[0]
                    assert bound is None or len(unsettled) <= bound
        if desk.version == 8 * 3:
            break
    assert applied == {Unit(round=number, replica=replica): 1 for number in range(8) for replica in range(3)}
