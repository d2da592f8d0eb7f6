"""Supervisors as processes, as Spark has them, on this machine: a test can stop them, kill them and start more."""

import os
import signal
import subprocess
import sys
from typing import ClassVar

from sunspark.training.spec import WorkerSpec
from tests.distributed.harness import descendants, is_running, wait_until

_SUPERVISOR = """
import sys
from sunspark.launch.supervisor import supervise
from sunspark.training.spec import WorkerSpec
print(supervise(WorkerSpec.from_json(sys.stdin.read())))
"""


class ProcessLauncher:
    """In the place of the local launcher, whose supervisors are threads of the driver."""

    specs: ClassVar[list[WorkerSpec]] = []
    supervisors: ClassVar[list["subprocess.Popen[str]"]] = []

    def start(self, spec: WorkerSpec, num_workers: int) -> None:
        self.specs[:] = [spec.for_worker(worker, 0) for worker in range(num_workers)]
        self.supervisors[:] = [start_supervisor(one) for one in self.specs]

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


def kill_with_its_workers(supervisor: "subprocess.Popen[str]") -> None:
    """All of it at once, as where a host is lost."""
    family = [supervisor.pid, *descendants(supervisor.pid)]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, family)), 30, "the end of a supervisor and its workers")


def outcome_of(process: "subprocess.Popen[str]", timeout_seconds: float) -> str:
    assert process.stdout is not None
    process.wait(timeout_seconds)
    if process.stdout.closed:
        return ""
    with process.stdout:
        return process.stdout.read().strip()
