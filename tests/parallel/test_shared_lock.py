"""Many share it, one has it alone, and who wants it alone comes before those who ask later."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

from sunspark.parallel.shared_lock import SharedLock


def test_those_who_share_it_are_there_together() -> None:
    lock, together = SharedLock(), threading.Barrier(3)

    def share() -> None:
        with lock.shared():
            together.wait(10)

    with ThreadPoolExecutor(3) as pool:
        for sharing in [pool.submit(share) for _ in range(3)]:
            sharing.result(10)


def test_who_has_it_alone_waits_for_all_others_and_goes_before_the_later_ones() -> None:
    lock, order = SharedLock(), list[str]()

    def alone() -> None:
        with lock.exclusive():
            order.append("alone")

    def later() -> None:
        with lock.shared():
            order.append("later")

    with ThreadPoolExecutor(2) as pool:
        with lock.shared():
            first = pool.submit(alone)
            while not lock._num_waiting:
                assert not first.done()
            second = pool.submit(later)
            assert not wait([first, second], timeout=0.2).done
        first.result(10)
        second.result(10)
    assert order == ["alone", "later"]
