"""A place has one worker: a second task waits, a stopped worker is replaced and finds itself unwanted."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sunspark.errors import SunsparkError, WorkerError
from sunspark.launch import job as launch_job
from sunspark.launch.train import train
from sunspark.parallel.faults import Fault
from sunspark.parallel.membership import Lighthouse, Membership, Position
from sunspark.parallel.rpc import RpcServer
from tests.distributed.harness import descendants, events, is_running, joined, train_and_watch, wait_until
from tests.distributed.laws import Optimizer, distance, law_config
from tests.distributed.strategies import NUM_STEPS, STEPS_PER_EPOCH, STRATEGIES, assert_exactly_once, config_of
from tests.distributed.supervisors import ProcessLauncher, outcome_of, start_supervisor

pytestmark = pytest.mark.timeout(200)


@pytest.mark.parametrize("strategy", [pytest.param(name, marks=pytest.mark.laws) for name in STRATEGIES])
def test_a_zombie_that_wakes_up_past_its_lease_finds_itself_unwanted(
    law_dataset: str,
    alone: Callable[[str], str],
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    """A second task for its place waits while it works, and takes over when it has stalled for too long."""
    monkeypatch.setattr(launch_job, "LocalLauncher", ProcessLauncher)
    seen: dict[str, object] = {}

    def stop_and_continue() -> None:
        wait_until(lambda: joined(run_folder, 1, 1), 60, "worker 1 to join")
        supervisor = ProcessLauncher.supervisors[1]
        ProcessLauncher.supervisors.append(start_supervisor(ProcessLauncher.specs[1]))
        wait_until(lambda: "duplicate" in [event["event"] for event in events(run_folder)], 60, "a second supervisor")
        frozen = [supervisor.pid, *descendants(supervisor.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: joined(run_folder, 1, 2), 60, "its replacement to join")
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not any(map(is_running, frozen[1:])), 30, "the continued worker to leave")
        seen["old"] = outcome_of(supervisor, 40)

    result = train_and_watch(
        law_dataset,
        run_folder,
        config_of(strategy, workers=2),
        until=lambda: "old" in seen,
        on_start=stop_and_continue,
        hold_at_step=NUM_STEPS - STEPS_PER_EPOCH,
    )
    assert seen == {"old": "lost place"}
    assert result.recoveries >= 1
    assert_exactly_once(run_folder, strategy, alone)


@pytest.mark.laws
def test_a_worker_that_hangs_in_silence_is_replaced_by_its_supervisor(
    law_dataset: str, undisturbed: Callable[[Optimizer], str], run_folder: Path
) -> None:
    faults = [Fault(worker=1, phase="backward", step=50, action="stop")]
    result = train_and_watch(
        law_dataset, run_folder, law_config("adam", workers=2), faults, until=lambda: joined(run_folder, 1, 2)
    )
    assert any(event["event"] == "lost" and "silent" in str(event["detail"]) for event in events(run_folder))
    assert result.recoveries >= 1
    assert distance(str(run_folder), undisturbed("adam")) <= 1e-9


def test_a_worker_that_always_fails_ends_the_run_with_its_cause(law_dataset: str, run_folder: Path) -> None:
    faults = [Fault(worker=0, phase="backward", incarnation=0, action="raise")]
    with pytest.raises(WorkerError, match="injected fault"):
        train(law_dataset, str(run_folder), law_config("adam", workers=1), faults)


def test_a_stranger_in_the_quorum_is_refused_and_gets_no_token(
    law_dataset: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lighthouse lets in anyone; the workers do not."""
    lighthouses: list[Lighthouse] = []
    asked: list[str] = []
    is_over = threading.Event()

    def open_lighthouse(host: str, port: int) -> Lighthouse:
        lighthouses.append(Lighthouse(host, port))
        return lighthouses[0]

    def describe(**_: object) -> dict[str, object]:
        asked.append("state")
        return {}

    def intrude() -> None:
        wait_until(lambda: joined(run_folder, 1, 1), 60, "the workers to join")
        stranger = Membership(lighthouses[0].address, "0009.000001", server.uri)
        far_ahead = Position(step=10**6, lineage="f" * 32, counted=10**6, failures=0)
        while not is_over.is_set():
            with contextlib.suppress(SunsparkError):
                stranger.heartbeat()
                stranger.agree(far_ahead, 1)

    server = RpcServer("127.0.0.1", 0, "a guess", {"describe_state": describe})
    monkeypatch.setattr(launch_job, "Lighthouse", open_lighthouse)
    intruder = threading.Thread(target=intrude, daemon=True)
    intruder.start()
    with pytest.raises(WorkerError, match=r"did not start take part.*0009\.000001 at .*; close the lighthouse"):
        train(law_dataset, str(run_folder), law_config("adam", workers=2))
    assert not asked
    is_over.set()
    intruder.join(20)
    server.shutdown()
