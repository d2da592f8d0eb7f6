"""Laws of the nursery: workers start from it, it may die, and nobody waits for one that hangs."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from sunspark.errors import DeadlineError, WorkerError
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


def test_a_worker_that_cannot_even_begin_says_why_and_ends(nursery: Nursery) -> None:
    pid, words = start(nursery, b"no spec")
    assert nursery.wait(pid, 10) == 1
    assert "JSONDecodeError" in words


def test_a_nursery_that_was_killed_is_started_again(nursery: Nursery) -> None:
    first, _ = start(nursery, b"no spec")
    process = nursery._process
    assert process is not None
    process.kill()
    deadline = time.monotonic() + 10
    while nursery._socket is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    second, _ = start(nursery, b"no spec")
    assert first != second
    assert nursery.wait(second, 10) == 1


def test_a_nursery_that_hangs_is_not_waited_for_for_ever(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    start(nursery, b"no spec")
    assert nursery._process is not None
    nursery._process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(nursery_module, "_START_SECONDS", 0.5)
    with pytest.raises((DeadlineError, WorkerError), match="nursery"):
        start(nursery, b"no spec")
