"""Laws of the nursery: workers start from it, it may die, and nobody waits for one that hangs."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sunspark.errors import DeadlineError
from sunspark.launch import nursery as nursery_module
from sunspark.launch.nursery import Nursery


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(1)
    yield nursery
    if nursery._process is not None:
        nursery._process.kill()
    nursery.close()


def start(nursery: Nursery, spec: bytes) -> tuple[int, str]:
    """A worker that is given `spec` and nothing more: its process id, and all that it said."""
    stdin_reader, stdin_writer = os.pipe()
    stderr_reader, stderr_writer = os.pipe()
    pid = nursery.start_worker(stdin_reader, stderr_writer)
    os.close(stdin_reader)
    os.close(stderr_writer)
    os.write(stdin_writer, spec + b"\n")
    os.close(stdin_writer)
    with open(stderr_reader) as stream:
        return pid, stream.read()


def kill_and_wait(nursery: Nursery) -> None:
    assert nursery._process is not None
    nursery._process.kill()
    deadline = time.monotonic() + 10
    while nursery._socket is not None and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_worker_that_cannot_even_begin_says_why_and_ends(nursery: Nursery) -> None:
    pid, words = start(nursery, b"no spec")
    assert nursery.wait(pid, 10) == 1
    assert "JSONDecodeError" in words


def test_a_nursery_that_was_killed_is_started_again(nursery: Nursery) -> None:
    first, _ = start(nursery, b"no spec")
    kill_and_wait(nursery)
    second, _ = start(nursery, b"no spec")
    assert first != second
    assert nursery.wait(second, 10) == 1


@pytest.mark.laws
def test_a_nursery_that_hangs_is_not_waited_for_for_ever(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    start(nursery, b"no spec")
    assert nursery._process is not None
    nursery._process.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(nursery_module, "_START_SECONDS", 0.5)
        with pytest.raises(DeadlineError, match="nursery"):
            start(nursery, b"no spec")
    pid, _ = start(nursery, b"no spec")
    assert nursery.wait(pid, 10) == 1, "another one was started in its place"


def test_a_worker_waits_for_its_turn_without_loss_of_its_own_time(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(nursery, b"no spec")
    monkeypatch.setattr(nursery_module, "_START_SECONDS", 2.0)
    with nursery._asking, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(start, nursery, b"no spec")
        time.sleep(2.5)
        nursery._asking.release()
        pid, _ = asked.result(20)
        nursery._asking.acquire()
    assert nursery.wait(pid, 10) == 1


def test_a_worker_of_a_nursery_that_was_replaced_can_still_be_asked_for(nursery: Nursery) -> None:
    stdin_reader, stdin_writer = os.pipe()
    with open(os.devnull, "w") as stderr:
        pid = nursery.start_worker(stdin_reader, stderr.fileno())
    kill_and_wait(nursery)
    start(nursery, b"no spec")
    assert nursery.wait(pid, 10) == -signal.SIGKILL
    os.close(stdin_reader)
    os.close(stdin_writer)
