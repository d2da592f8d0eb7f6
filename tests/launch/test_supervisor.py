"""Laws of the supervisor that need a coordinator and at most one real worker process."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.config import to_dict
from sunspark.errors import WorkerError
from sunspark.launch import supervisor
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.nursery import Nursery
from sunspark.launch.roster import CLAIM_SECONDS, Ending, Roster
from sunspark.launch.supervisor import supervise
from sunspark.training.config import WorkConfig
from sunspark.training.spec import WorkerSpec
from tests.distributed.laws import law_config


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    roster = Roster(1, 60.0, time.monotonic())
    coordinator = Coordinator(host="127.0.0.1", port=0, token="a token", roster=roster)
    yield coordinator
    coordinator.close()


def spec_of(coordinator: Coordinator, folder: Path) -> WorkerSpec:
    return WorkerSpec(
        task="train", coordinator=coordinator.uri, lighthouse="http://127.0.0.1:1", token="a token", worker=0,
        run=str(folder / "run"), dataset=str(folder / "no such dataset"), split="train", cores=1,
        gradient_path="auto", work=to_dict(WorkConfig()),
    )  # fmt: skip


def test_a_second_supervisor_of_a_living_worker_waits_until_the_first_has_left(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.roster.claim(0, "the first", time.monotonic())
    outcomes: list[str] = []
    second = threading.Thread(target=lambda: outcomes.append(supervise(spec_of(coordinator, tmp_path))))
    second.start()
    second.join(1.5)
    coordinator.stop(Ending(is_finished=False, cause="enough"))
    assert coordinator.roster.renew(0, "the first", time.monotonic()) == "go on"
    second.join(1.5)
    assert not outcomes, "Spark would kill the first, which still saves its state"
    coordinator.roster.release(0, "the first")
    second.join(10)
    assert outcomes == ["ended"]
    assert [note.event for note in coordinator.take_notes()] == ["duplicate"]


def test_a_supervisor_that_comes_after_the_end_leaves_at_once(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.stop(Ending(is_finished=False, cause="enough"))
    assert supervise(spec_of(coordinator, tmp_path)) == "ended"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("change", [{"token": "a guess"}, {"coordinator": "grpc://127.0.0.1:1"}])
def test_a_supervisor_without_a_coordinator_says_so(
    coordinator: Coordinator, tmp_path: Path, change: dict[str, str]
) -> None:
    with pytest.raises(WorkerError):
        supervise(replace(spec_of(coordinator, tmp_path), **change))  # type: ignore[arg-type]


def test_a_workers_mistake_of_the_user_reaches_the_driver(coordinator: Coordinator, tmp_path: Path) -> None:
    assert supervise(spec_of(coordinator, tmp_path)) == "ended"
    ending = coordinator.roster.ending
    assert ending is not None
    assert ending.is_users_mistake
    assert "no such dataset" in ending.cause
    assert "Traceback" not in ending.cause
    events = [note.event for note in coordinator.take_notes()]
    assert events == ["started", "lost"]


def test_a_nursery_that_dies_while_it_is_asked_costs_one_incarnation(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_worker = Nursery.start_worker
    attempts: list[int] = []

    def die_first(self: Nursery, stdin: int, stderr: int) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise WorkerError("the nursery of the workers died")
        return start_worker(self, stdin, stderr)

    monkeypatch.setattr(Nursery, "start_worker", die_first)
    assert supervise(spec_of(coordinator, tmp_path)) == "ended"
    notes = [(note.event, note.incarnation) for note in coordinator.take_notes()]
    assert notes[:3] == [("started", 1), ("lost", 1), ("restarted", 2)]


def test_a_supervisor_that_has_lost_its_place_does_not_say_that_the_run_has_ended(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever believed it would start no other one."""

    def lose_the_place(self: Nursery, stdin: int, stderr: int) -> int:  # noqa: ARG001
        coordinator.roster._places[0].supervisor = "another"
        raise WorkerError("the nursery of the workers died")

    monkeypatch.setattr(Nursery, "start_worker", lose_the_place)
    assert supervise(spec_of(coordinator, tmp_path)) == "lost place"


def test_a_process_that_ends_the_moment_it_is_killed_is_no_error(coordinator: Coordinator, tmp_path: Path) -> None:
    nursery = Nursery(1)
    process = supervisor._WorkerProcess(spec_of(coordinator, tmp_path), nursery)
    assert process.wait(60)
    code = process.code
    process.code = nursery._codes[process._pid] = None  # the nursery's word of its end is still on its way
    process.kill()
    nursery._codes[process._pid] = code
    assert process.let_go() == code
    nursery.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("hangs", [False, True], ids=["worker leaves", "worker hangs"])
def test_a_supervisor_whose_driver_falls_silent_ends_with_its_worker(
    law_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr(supervisor, "_DRIVER_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "_FAREWELL_SECONDS", 2.0)
    has_joined, released = threading.Event(), threading.Event()

    def keep_waiting(_is_alone: bool) -> None:
        has_joined.set()
        released.wait(50)

    roster = Roster(1, 60.0, time.monotonic())
    coordinator = Coordinator(host="127.0.0.1", port=0, token="a token", roster=roster, find_resume=keep_waiting)
    nursery = Nursery(1)
    outcomes: list[str] = []
    work = to_dict(law_config("sgd", workers=1).work)
    spec = replace(spec_of(coordinator, tmp_path), dataset=law_dataset, work=work)
    watching = threading.Thread(target=lambda: outcomes.append(supervise(spec, nursery)))
    watching.start()
    assert has_joined.wait(30)
    (pid,) = nursery._codes
    if hangs:
        os.kill(pid, signal.SIGSTOP)
    threading.Thread(target=coordinator.close, daemon=True).start()
    watching.join(20)
    assert not watching.is_alive(), "the supervisor waits for a driver that is gone"
    assert outcomes == ["lost place"]
    assert (nursery._codes[pid] == -signal.SIGKILL) == hangs
    released.set()
    nursery.close()


@pytest.mark.laws
def test_a_place_is_held_while_a_death_is_examined(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_deserted: list[bool] = []

    def examine(*_: object) -> dict[int, str]:
        time.sleep(CLAIM_SECONDS + 1)
        is_deserted.append(coordinator.is_deserted(0))
        return {}

    monkeypatch.setattr(supervisor, "find_poison_of", examine)
    assert supervise(spec_of(coordinator, tmp_path)) == "ended"
    assert is_deserted == [False]
