"""Laws of the pulse: it brings the driver's word, and a worker without a driver leaves in time."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sunspark.parallel.rpc import RpcClient, RpcServer
from sunspark.training import pulse as pulse_module
from sunspark.training.pulse import Progress, Pulse

ANSWER: dict[str, Any] = {"farewell": "", "may_go": True, "lost": [], "abandoned": [], "waiting": [], "excused": []}
Answer = Callable[..., dict[str, Any]]


class Worker:
    """A pulse and what it was told."""

    def __init__(self, answer: Answer) -> None:
        self.server = RpcServer("127.0.0.1", 0, "a token", {"beat": answer})
        self.left: list[str] = []
        self.has_left = threading.Event()
        self.lost: list[tuple[frozenset[str], frozenset[str]]] = []
        self.pulse = Pulse(
            RpcClient(self.server.uri, "a token"),
            "0000.000001",
            Progress(),
            self._leave,
            lambda lost, abandoned: self.lost.append((lost, abandoned)),
        )

    def _leave(self, farewell: str) -> None:
        self.left.append(farewell)
        self.has_left.set()
        self.pulse.stop()


@pytest.fixture
def play() -> Iterator[Callable[[Answer], Worker]]:
    workers: list[Worker] = []

    def start(answer: Answer) -> Worker:
        workers.append(Worker(answer))
        workers[-1].pulse.start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.pulse.stop()
        worker.server.shutdown()


def test_the_drivers_word_is_heeded(play: Callable[[Answer], Worker]) -> None:
    worker = play(lambda **_: ANSWER | {"lost": ["0001.000001"], "abandoned": ["7-ab"]})
    assert worker.pulse.may_go.wait(5)
    assert worker.lost[0] == (frozenset({"0001.000001"}), frozenset({"7-ab"}))
    assert worker.pulse.lost == {"0001.000001"}
    assert not worker.left


@pytest.mark.parametrize("farewell", ["ended", "unwanted", "stop"])
def test_an_order_to_leave_is_obeyed(play: Callable[[Answer], Worker], farewell: str) -> None:
    worker = play(lambda **_: ANSWER | {"farewell": farewell})
    assert worker.has_left.wait(5)
    assert worker.left == [farewell]


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "hanging"])
def test_a_worker_whose_driver_falls_silent_leaves_in_time(
    play: Callable[[Answer], Worker], monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    monkeypatch.setattr(pulse_module, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(pulse_module, "_ANSWER_SECONDS", 1.0)
    hangs, released = threading.Event(), threading.Event()

    def answer(**_: object) -> dict[str, Any]:
        if hangs.is_set():
            released.wait(20)
        return ANSWER

    worker = play(answer)
    assert worker.pulse.may_go.wait(5)
    began = time.monotonic()
    if is_gone:
        worker.server.shutdown()
    else:
        hangs.set()
    assert worker.has_left.wait(8), "the worker waits for a driver that is not there"
    assert worker.left == ["orphaned"]
    assert time.monotonic() - began >= 0.9, "a single answer that is late is no reason to leave"
    released.set()
