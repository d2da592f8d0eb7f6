"""A trial of a search, on this machine: a training in a process of its own that is started again when it is killed.

Runs in the driver or in a task of Spark. A file `stop` beside the run ends it: whoever judges it has seen enough.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

from sunspark import run_directory, storage
from sunspark.errors import DeadlineError, StorageError

_LOOK_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 60.0
_UNLOCK_SECONDS: Final = 60.0
"""How long a run is waited for on which the process of an earlier start still works."""
_MOST_KILLS: Final = 3
_KEPT_CHARACTERS: Final = 500
EXIT_STORAGE: Final = os.EX_IOERR
"""Of a training whose storage did not answer as it should: no fault of what is trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialTask:
    """What is to be trained."""

    dataset: str
    run: str
    config: dict[str, Any]
    """Of a TrainConfig."""

    @property
    def stop_file(self) -> str:
        """Written when the trial is to end."""
        return f"{self.run}.stop"


@contextlib.contextmanager
def one_run(told: Mapping[str, Any], stdout: int | IO[bytes], stderr: IO[bytes]) -> "Iterator[subprocess.Popen[bytes]]":
    """A training in a process (`bench/one_run.py`) that ends when this one does, and at the end of the block."""
    command = [sys.executable, "-m", "sunspark.bench.one_run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr) as process:
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already, and its exit code tells
                os.write(process.stdin.fileno(), json.dumps(told).encode() + b"\n")
            yield process
        finally:
            process.kill()


def run_trial(task: TrialTask) -> str:
    """Train it to its end, to its stop, or until it fails. Gives the reason of a failure; nothing otherwise.

    Raises StorageError when its storage does not answer: a disk is full, say; DeadlineError when another process works
    on the run, and does not come to its end.
    """
    told = {"dataset": task.dataset, "run": task.run, "config": task.config, "eval_split": ""}
    for _ in range(_MOST_KILLS):
        wait_until_free(task.run)
        with tempfile.TemporaryFile() as log:
            with one_run(told, log, log) as process:
                is_stopped = _wait(process, task)
            if is_stopped or process.returncode == 0:
                return ""
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
        reason = (lines or [f"it ended with exit code {process.returncode}"])[-1][-_KEPT_CHARACTERS:]
        if process.returncode == EXIT_STORAGE:
            raise StorageError(f"{reason}; see to it, and give the same command again: the search goes on")
        if process.returncode > 0:
            return reason
    return f"its process was killed {_MOST_KILLS} times"


def wait_until_free(run: str) -> None:
    """Until the process of an earlier start, whose parent was killed, has left. Raises DeadlineError when it stays."""
    deadline = time.monotonic() + _UNLOCK_SECONDS
    while run_directory.is_training(run):
        if time.monotonic() > deadline:
            raise DeadlineError(
                f"another process still works on {run} after {_UNLOCK_SECONDS:.0f} s; end it, and start again"
            )
        time.sleep(_LOOK_SECONDS)


def _wait(process: "subprocess.Popen[bytes]", task: TrialTask) -> bool:
    """Whether it was stopped before its end."""
    while True:
        try:
            process.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            if not storage.exists(task.stop_file):
                continue
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            return True
        return False
