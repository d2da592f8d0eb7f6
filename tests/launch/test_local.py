"""Laws of the local launcher."""

import threading
import time

import pytest

from sunspark.config import to_dict
from sunspark.launch import local
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.local import LocalLauncher
from sunspark.launch.nursery import Nursery
from sunspark.launch.roster import Ending, Roster
from sunspark.launch.supervisor import Outcome, supervise
from sunspark.training.config import WorkConfig
from sunspark.training.spec import WorkerSpec


def test_a_supervisor_that_fails_of_something_unforeseen_comes_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = threading.Semaphore(0)
    has_failed: list[bool] = []

    def fail_first(spec: WorkerSpec, nursery: Nursery) -> Outcome:
        attempts.release()
        if not has_failed:
            has_failed.append(True)
            raise KeyError(4711)
        return supervise(spec, nursery)

    monkeypatch.setattr(local, "supervise", fail_first)
    monkeypatch.setattr(local, "_PAUSE_SECONDS", 0.1)
    coordinator = Coordinator(host="127.0.0.1", port=0, token="a token", roster=Roster(1, 60.0, time.monotonic()))
    coordinator.stop(Ending(is_finished=False, cause="enough"))
    spec = WorkerSpec(
        task="train", coordinator=coordinator.uri, lighthouse="http://127.0.0.1:1", token="a token", worker=0,
        run="no run", dataset="no such dataset", split="train", cores=1, gradient_path="auto",
        work=to_dict(WorkConfig()),
    )  # fmt: skip
    launcher = LocalLauncher()
    launcher.start(spec, num_workers=1)
    assert all(attempts.acquire(timeout=10) for _ in range(2))
    launcher.join(10)
    coordinator.close()
    assert "the supervisor of worker 0 failed (KeyError: 4711)" in caplog.text
