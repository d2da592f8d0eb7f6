"""Waits at the end of a run: for storage, for the leader, for a candidate to be saved. Each ends in time."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from sunspark.errors import DeadlineError, StorageError
from sunspark.parallel.faults import FaultInjector
from sunspark.parallel.recovery import Snapshot
from sunspark.parallel.rpc import RpcClient, RpcServer
from sunspark.training import checkpoint, driver_link, publisher
from sunspark.training.config import TrainingConfig, WorkConfig
from sunspark.training.driver_link import DriverLink
from sunspark.training.publisher import Publisher
from sunspark.training.pulse import Progress, Pulse
from sunspark.training.state import TrainingState
from sunspark.training.validation import Evaluation, ValidationConfig

LEADER = "0000.000001"


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    server = RpcServer("127.0.0.1", 0, "a token", {"note": lambda **_: {}})
    yield Pulse(RpcClient(server.uri, "a token"), "0001.000001", Progress(), lambda _: None)
    server.shutdown()


@pytest.fixture
def driver(pulse: Pulse) -> DriverLink:
    return DriverLink(pulse._coordinator, "0001.000001", pulse)


def a_state() -> TrainingState:
    model = nn.Linear(1, 1)
    return TrainingState(model, torch.optim.SGD(model.parameters(), lr=0.1))


def a_publisher(driver: DriverLink) -> Publisher:
    return Publisher("file:///nowhere", WorkConfig(), None, driver.note, FaultInjector((), 0, 1))  # type: ignore[arg-type]


def test_a_leader_that_never_publishes_the_end_is_not_waited_for_for_ever(
    driver: DriverLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_link, "_END_SECONDS", 0.3)
    with pytest.raises(DeadlineError, match="worker 0 did not publish"):
        driver.wait_for_end(LEADER)


def test_a_leader_that_is_lost_is_not_waited_for(driver: DriverLink, pulse: Pulse) -> None:
    pulse.lost = frozenset({LEADER})
    began = time.monotonic()
    driver.wait_for_end(LEADER)
    assert time.monotonic() - began < 5


def test_storage_that_does_not_take_the_end_fails_the_leader(
    driver: DriverLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_WRITE_SECONDS", 0.3)
    released = threading.Event()

    def hang(_run: str, _snapshot: Snapshot, _best_step: int) -> str:
        released.wait(20)
        raise StorageError("too late")

    monkeypatch.setattr(checkpoint, "publish", hang)
    with pytest.raises(DeadlineError, match="file:///nowhere"):
        a_publisher(driver).publish_end(a_state())
    released.set()


def test_an_error_of_storage_at_the_end_is_the_leaders(driver: DriverLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_run: str, _snapshot: Snapshot, _best_step: int) -> str:
        raise StorageError("the disk is full")

    monkeypatch.setattr(checkpoint, "publish", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        a_publisher(driver).publish_end(a_state())


def test_a_checkpoint_that_storage_does_not_take_is_told_and_tried_again_later(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int, str]] = []
    attempts: list[int] = []

    def refuse(_run: str, snapshot: Snapshot, _best_step: int) -> str:
        attempts.append(snapshot.step)
        raise StorageError("the disk is full")

    driver = DriverLink(pulse._coordinator, "0001.000001", pulse)
    monkeypatch.setattr(DriverLink, "note", lambda _, *event: told.append(event))
    monkeypatch.setattr(checkpoint, "publish", refuse)
    work = WorkConfig(training=TrainingConfig(checkpoint_every=1))
    publisher_ = Publisher("file:///nowhere", work, None, driver.note, FaultInjector((), 0, 1))  # type: ignore[arg-type]
    publisher_.published_step = -1
    for _ in range(3):
        publisher_.publish_when_due(a_state())
        assert publisher_._writing is not None
        publisher_._writing.join(5)
    assert attempts == [0], "not at every step"
    assert told == [("unsaved", 0, "no checkpoint: the disk is full")]
    publisher_._not_before = 0.0
    publisher_.publish_when_due(a_state())
    publisher_._writing.join(5)
    assert len(attempts) == 2
    assert publisher_.published_step == -1


@pytest.mark.parametrize("refusals", [2, 1000])
def test_nobody_goes_on_before_the_best_state_is_on_storage(
    driver: DriverLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    monkeypatch.setattr(publisher, "_PATIENT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "_PATIENT_SECONDS", 1.0)
    attempts: list[int] = []
    write = checkpoint.publish

    def refuse(run: str, snapshot: Snapshot, best_step: int) -> str:
        attempts.append(snapshot.step)
        if len(attempts) <= refusals:
            raise StorageError("the disk is full")
        return write(run, snapshot, best_step)

    monkeypatch.setattr(checkpoint, "publish", refuse)
    state = a_state()
    state.add_evaluation(Evaluation(step=0, samples=1, top1=1.0, top5=1.0, mean_per_class=1.0, loss=0.5))
    work = WorkConfig(validation=ValidationConfig(eval_every=1, keep="best"))
    publisher_ = Publisher(str(tmp_path), work, None, driver.note, FaultInjector((), 0, 1))  # type: ignore[arg-type]
    publisher_.published_step = -1
    if refusals == 2:
        publisher_.publish_when_due(state)
        assert [saved.step for saved in checkpoint.checkpoints(str(tmp_path))] == [0]
    else:
        with pytest.raises(StorageError, match="the disk is full"):
            publisher_.publish_when_due(state)
    assert len(attempts) > 2


def test_a_worker_that_leaves_is_gone_in_time_whatever_it_waits_for() -> None:
    program = (
        "import time; from sunspark.training.worker import _exit_after; _exit_after(0.5, 4); time.sleep(60)"  # saves
    )
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], timeout=50, check=False)
    assert ended.returncode == 4
    assert time.monotonic() - began < 40


def test_who_alone_holds_the_state_tries_again_when_storage_fails_at_the_end(
    driver: DriverLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def refuse(_run: str, snapshot: Snapshot, _best_step: int) -> str:
        attempts.append(snapshot.step)
        raise StorageError("the disk is full")

    monkeypatch.setattr(checkpoint, "publish", refuse)
    monkeypatch.setattr(publisher, "_PATIENT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "_PATIENT_SECONDS", 0.3)
    with pytest.raises(StorageError, match="the disk is full"):
        a_publisher(driver).publish_end_patiently(a_state())
    assert len(attempts) > 2
