"""A trial of a search, on this machine: a training in a process of its own that is started again when it is killed.

Runs in the driver or in a task of Spark. A file `stop` beside the run ends it: whoever judges it has seen enough.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Final

from sunspark import storage

_LOOK_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 60.0
_MOST_KILLS: Final = 3
_KEPT_CHARACTERS: Final = 500


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


def run_trial(task: TrialTask) -> str:
    """Train it to its end, to its stop, or until it fails. Gives the reason of a failure; nothing otherwise."""
    told = {"dataset": task.dataset, "run": task.run, "config": task.config, "eval_split": ""}
    for _ in range(_MOST_KILLS):
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sunspark.bench.one_run"], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(told).encode())
                process.stdin.close()
                is_stopped = _wait(process, task)
            finally:
                process.kill()
                process.wait()
            if is_stopped or process.returncode == 0:
                return ""
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
        if process.returncode > 0:
            return (lines or [f"it ended with exit code {process.returncode}"])[-1][-_KEPT_CHARACTERS:]
    return f"its process was killed {_MOST_KILLS} times"


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
