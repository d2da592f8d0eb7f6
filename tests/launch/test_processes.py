"""Laws of work in processes: all of it is done once, a dead process is named and its work done again."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from sunspark.errors import FullDiskError, SilentStoreError, SourceError, StorageError, WorkerError
from sunspark.launch import processes
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.processes import process_engine
from tests.distributed.harness import wait_until
from tests.launch import deeds
from tests.launch.deeds import Deed, never


def deeds_in(folder: Path, count: int = 8) -> list[Deed]:
    return [Deed(str(folder), number) for number in range(count)]


def attempts(folder: Path) -> dict[int, int]:
    return {int(path.name): path.stat().st_size for path in folder.iterdir()}


def display() -> CountDisplay:
    return CountDisplay("images", 8)


def test_results_come_in_the_order_of_the_plans(tmp_path: Path) -> None:
    with process_engine(2) as engine:
        found = engine(deeds.process_of, deeds_in(tmp_path), display(), never)
        again = engine(deeds.process_of, deeds_in(tmp_path), display(), never)
    assert len(found) == 8
    assert set(found + again) <= set(found), "processes are kept"
    assert len(set(found)) == 2
    assert os.getpid() not in found
    assert attempts(tmp_path) == dict.fromkeys(range(8), 2)


def test_work_of_a_process_that_died_is_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with process_engine(2) as engine:
        assert engine(deeds.die_once, deeds_in(tmp_path), display(), never) == list(range(8))
    assert attempts(tmp_path) == {number: 2 if number % 3 == 0 else 1 for number in range(8)}
    assert "was ended by SIGKILL; image 3 to image 3 (1 image) are done again" in caplog.text


def test_work_that_kills_each_process_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(
            WorkerError, match=r"the process ingest-\d was ended by SIGSEGV while it worked on image 1 .*4 times"
        ),
        process_engine(2) as engine,
    ):
        engine(deeds.die_always, deeds_in(tmp_path), display(), never)
    assert attempts(tmp_path)[1] == 4


def test_trouble_that_may_pass_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_RETRY_SECONDS", 0.01)
    with process_engine(2) as engine:
        assert engine(deeds.storage_fails_twice, deeds_in(tmp_path, 2), display(), never) == [0, 1]
        assert attempts(tmp_path) == {0: 3, 1: 3}
        monkeypatch.setattr(processes, "_MOST_ATTEMPTS", 2)
        for path in tmp_path.iterdir():
            path.unlink()
        with pytest.raises(StorageError, match="the store is busy"):
            engine(deeds.storage_fails_twice, deeds_in(tmp_path, 1), display(), never)


@pytest.mark.parametrize("error", [SilentStoreError("no answer"), FullDiskError("no room")])
def test_what_waiting_does_not_mend_is_told_at_once(error: StorageError, tmp_path: Path) -> None:
    with process_engine(1) as engine, pytest.raises(type(error), match=str(error)):
        engine(partial(deeds.fail_with, error), deeds_in(tmp_path), display(), never)
    assert attempts(tmp_path) == {0: 1}


def test_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with process_engine(1) as engine:
        with pytest.raises(SourceError, match="this will not do"):
            engine(deeds.source_is_wrong, deeds_in(tmp_path), display(), never)
        assert attempts(tmp_path) == {0: 1}
    with (
        process_engine(1) as engine,
        pytest.raises(WorkerError, match=r"unexpected ZeroDivisionError in process \d+: nobody expected this"),
    ):
        engine(deeds.stumble, deeds_in(tmp_path), display(), never)


def test_a_failure_ends_what_others_are_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with process_engine(2) as engine, pytest.raises(SourceError, match="this will not do"):
        engine(deeds.first_fails_others_take_long, deeds_in(tmp_path), display(), never)
    assert time.monotonic() - started < 50, "a deed takes 60 s"
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.name.isdigit()} == {"0": 1, "1": 1}
    assert "done again" not in caplog.text


def test_processes_end_with_their_parent_whatever_they_are_at(tmp_path: Path) -> None:
    program = f"""
        from sunspark.launch.processes import process_engine
        from sunspark.launch.count_display import CountDisplay
        from tests.launch import deeds
        with process_engine(2) as engine:
            plans = [deeds.Deed({str(tmp_path)!r}, number) for number in range(8)]
            engine(deeds.sleep, plans, CountDisplay("images", 8), deeds.never)
    """

    def children() -> list[int]:
        return [int(path.name.removeprefix("process-")) for path in tmp_path.glob("process-*")]

    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.DEVNULL) as parent:
        wait_until(lambda: len(children()) == 2, 60, "both processes to work")
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children()), 20, "their end")


def test_idle_processes_end_with_their_parent(tmp_path: Path) -> None:
    program = f"""
        import time
        from sunspark.launch.processes import process_engine
        from sunspark.launch.count_display import CountDisplay
        from tests.launch import deeds
        with process_engine(2) as engine:
            plans = [deeds.Deed({str(tmp_path)!r}, number) for number in range(8)]
            print(*set(engine(deeds.process_of, plans, CountDisplay("images", 8), deeds.never)), flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 30, "the processes to end")
