"""Laws of the leases of an evaluation: every range is counted once."""

import random
from typing import Any

import pytest

from sunspark.parallel.leases import LeaseBook


@pytest.mark.parametrize("seed", range(20))
def test_every_range_is_counted_once_whoever_is_lost_or_late(seed: int) -> None:
    draw = random.Random(seed)
    counted: list[dict[str, Any]] = []
    book = LeaseBook(ranges=[(begin, begin + 10) for begin in range(0, 200, 10)], count=counted.append)
    now, held = 0.0, []
    for _ in range(5000):
        now += draw.random() * 3
        match draw.choice(["lease", "lease", "hand in", "hand in again", "lose", "wait"]):
            case "lease":
                holder = f"worker {draw.randrange(4)}"
                if (leased := book.lease(holder, now)) is not None:
                    held.append((holder, *leased))
            case "hand in" if held:
                holder, begin, _ = held.pop(draw.randrange(len(held)))
                book.hand_in(begin, {"begin": begin, "by": holder})
            case "hand in again" if held:
                holder, begin, _ = draw.choice(held)  # and stays held: handed in late a second time
                book.hand_in(begin, {"begin": begin, "by": holder})
            case "lose":
                lost = f"worker {draw.randrange(4)}"
                book.give_back(lost)
                held = [lease for lease in held if lease[0] != lost or draw.random() < 0.5]  # some are only slow
            case _:
                now += draw.random() * 40
        if book.is_complete:
            break
    assert book.is_complete
    assert sorted(tally["begin"] for tally in counted) == list(range(0, 200, 10))
    assert book.lease("worker 0", now + 1e6) is None


def test_a_range_is_with_one_worker_until_it_is_lost_or_too_slow() -> None:
    counted: list[dict[str, Any]] = []
    book = LeaseBook(ranges=[(0, 10), (10, 20)], count=counted.append)
    assert [book.lease(name, 0.0) for name in ("a", "b", "c")] == [(0, 10), (10, 20), None]
    book.give_back("b")
    assert book.lease("c", 1.0) == (10, 20)
    assert book.lease("d", 59.0) is None
    assert book.lease("d", 60.5) == (0, 10)
    book.hand_in(0, {"by": "d"})
    book.hand_in(0, {"by": "a"})
    assert counted == [{"by": "d"}]
