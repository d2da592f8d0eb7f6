"""A place has one worker: a second task leaves, a stopped worker is replaced and finds itself unwanted."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from sunspark.errors import SunsparkError, WorkerError
from sunspark.launch import job as launch_job
from sunspark.launch.train import train
from sunspark.parallel.faults import Fault
from sunspark.parallel.membership import Lighthouse, Membership, Position
from sunspark.parallel.rpc import RpcServer
from sunspark.training.spec import WorkerSpec
from tests.distributed.harness import descendants, events, is_running, joined, train_and_watch, wait_until
from tests.distributed.laws import Optimizer, assert_nothing_was_lost, distance, law_config

pytestmark = pytest.mark.timeout(200)

_SUPERVISOR = """
import sys
from sunspark.launch.supervisor import supervise
from sunspark.training.spec import WorkerSpec
print(supervise(WorkerSpec.from_json(sys.stdin.read())))
"""


class ProcessLauncher:
    """Supervisors as processes, as Spark has them; the test can stop them and start more."""

    specs: ClassVar[list[WorkerSpec]] = []
    supervisors: ClassVar[list["subprocess.Popen[str]"]] = []

    def start(self, spec: WorkerSpec, num_workers: int) -> None:
        self.specs.clear()
        self.supervisors.clear()
        for worker in range(num_workers):
            self.specs.append(spec.for_worker(worker, 0))
            self.supervisors.append(start_supervisor(self.specs[-1]))

    def join(self, timeout_seconds: float) -> None:
        for process in self.supervisors:
            outcome_of(process, timeout_seconds)


def start_supervisor(spec: WorkerSpec) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(spec.to_json())
    process.stdin.close()
    process.stdin = None
    return process


def outcome_of(process: "subprocess.Popen[str]", timeout_seconds: float) -> str:
    assert process.stdout is not None
    process.wait(timeout_seconds)
    if process.stdout.closed:
        return ""
    with process.stdout:
        return process.stdout.read().strip()


def test_a_stopped_worker_is_replaced_and_finds_itself_unwanted(
    law_dataset: str,
    undisturbed: Callable[[Optimizer], str],
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch_job, "LocalLauncher", ProcessLauncher)
    seen: dict[str, object] = {}

    def stop_and_continue() -> None:
        wait_until(lambda: joined(run_folder, 1, 1), 60, "worker 1 to join")
        time.sleep(1)
        supervisor = ProcessLauncher.supervisors[1]
        frozen = [supervisor.pid, *descendants(supervisor.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        second = start_supervisor(ProcessLauncher.specs[1])
        seen["early"] = outcome_of(second, 30)  # the place is still held: it leaves
        time.sleep(6)
        ProcessLauncher.supervisors.append(start_supervisor(ProcessLauncher.specs[1]))
        wait_until(lambda: joined(run_folder, 1, 2), 60, "its replacement to join")
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not any(map(is_running, frozen[1:])), 30, "the continued worker to leave")
        seen["old"] = outcome_of(supervisor, 40)

    result = train_and_watch(
        law_dataset,
        run_folder,
        law_config("adam", workers=2),
        until=lambda: "old" in seen,
        on_start=stop_and_continue,
    )
    assert seen == {"early": "duplicate", "old": "lost place"}
    assert any(event["event"] == "duplicate" for event in events(run_folder))
    assert result.recoveries >= 1
    assert_nothing_was_lost(str(run_folder), undisturbed("adam"))


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
