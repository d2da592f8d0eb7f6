"""Laws of `sunspark watch`: it says what the records say, however they come, and ends when the run does."""

import math
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark import run_directory
from sunspark.bench.live import LiveRun, RunState, watch
from sunspark.errors import RunError
from sunspark.records import DRIVER, EventName, EventRecord, RecordWriter, StepRecord, driver_file, worker_file
from tests.bench.made_run import CONFIG, MadeRun
from tests.test_records import STEP

pytestmark = pytest.mark.timeout(90)

START = {"time_unix_seconds": 990.0, "steps": 480, "epochs": 12, "steps_per_epoch": 40, "workers": 2}


@pytest.fixture
def run(tmp_path: Path) -> str:
    made = MadeRun(run=tmp_path / "run")
    made.put("config.json", CONFIG)
    made.put("start.json", START)
    return str(made.run)


def record(step: int, worker: int = 0, *, seconds: float | None = None, loss: float = 1.0) -> StepRecord:
    moment = 1000.0 + 0.5 * step if seconds is None else seconds
    return replace(STEP, step=step, worker=worker, time_unix_seconds=moment, loss=loss, samples=32)


def write(run: str, *records: StepRecord) -> None:
    for worker in {one.worker for one in records}:
        with RecordWriter(worker_file(run, worker, 1)) as writer:
            for one in records:
                if one.worker == worker:
                    writer.write(one)


def tell(run: str, event: EventName, step: int, seconds: float = 2000.0, worker: int = DRIVER) -> None:
    with RecordWriter(driver_file(run)) as writer:
        writer.write(
            EventRecord(worker=worker, incarnation=0, time_unix_seconds=seconds, step=step, event=event, detail="")
        )


def state_of(live: LiveRun) -> RunState:
    live.look()
    return live.state(now_unix_seconds=1100.0)


def test_a_run_without_a_step_waits(run: str) -> None:
    state = watch(run, once=True)
    assert (state.state, state.step, state.steps, state.epoch, state.epochs) == ("waiting", 0, 480, 1, 12)
    assert (state.loss, state.left_seconds, state.since_last_record_seconds) == (None, None, None)


def test_it_says_how_far_how_well_and_how_fast(run: str) -> None:
    write(run, *(record(step, worker, loss=3.0 - step / 100) for step in range(101) for worker in (0, 1)))
    state = state_of(LiveRun(run))
    assert (state.state, state.step, state.epoch, state.workers, state.workers_expected) == ("training", 101, 3, 2, 2)
    assert state.loss == pytest.approx(2.0)
    assert state.images_per_second == pytest.approx(64 / 0.5)
    assert state.left_seconds == pytest.approx((480 - 101) * 0.5)
    assert state.since_last_record_seconds == pytest.approx(1100.0 - 1050.0)


def test_workers_whose_records_come_later_do_not_set_the_run_back(run: str) -> None:
    live = LiveRun(run)
    for begin in range(0, 60, 10):
        write(run, *(record(step) for step in range(begin, begin + 10)))
        assert state_of(live).step == begin + 10
        write(run, *(record(step, 1) for step in range(begin, begin + 10)))
        assert state_of(live).step == begin + 10
    assert state_of(live).images_per_second == pytest.approx(64 / 0.5)


def test_a_run_that_goes_back_to_a_checkpoint_is_shown_where_it_is(run: str) -> None:
    live = LiveRun(run)
    write(run, *(record(step) for step in range(50)))
    assert state_of(live).step == 50
    write(run, *(record(step, seconds=1100.0 + step) for step in range(20, 31)))
    state = state_of(live)
    assert (state.step, state.left_seconds) == (31, pytest.approx(480 - 31))


def test_a_run_that_stopped_and_goes_on(run: str) -> None:
    live = LiveRun(run)
    write(run, *(record(step) for step in range(50)))
    tell(run, "stopped", 50)
    assert state_of(live).state == "stopped"
    tell(run, "resumed", 40, 3000.0)
    assert (state_of(live).state, state_of(live).step) == ("waiting", 40)
    write(run, record(40, seconds=3001.0))
    assert (state_of(live).state, state_of(live).step) == ("training", 41)
    tell(run, "finished", 480, 4000.0)
    assert (state_of(live).state, state_of(live).step) == ("finished", 480)


def test_a_run_that_stopped_and_is_being_started_again_has_not_stopped(run: str) -> None:
    write(run, *(record(step) for step in range(3)))
    tell(run, "stopped", 3, 2000.0)
    live = LiveRun(run)
    assert state_of(live).state == "stopped"
    MadeRun(run=Path(run)).put("start.json", START | {"time_unix_seconds": 2001.0, "workers": 1})
    state = state_of(live)
    assert (state.state, state.step, state.workers_expected) == ("waiting", 0, 1)
    write(run, record(0, seconds=2010.0))
    assert (state_of(live).state, state_of(live).step) == ("training", 1)


def test_a_loss_that_diverged_is_shown(run: str) -> None:
    write(run, record(0, loss=math.nan))
    loss = watch(run, once=True).loss
    assert loss is not None
    assert math.isnan(loss)


def test_events_are_told_once(run: str) -> None:
    live = LiveRun(run)
    tell(run, "lost", 3, worker=1)
    assert [event.event for event in live.look()] == ["lost"]
    assert live.look() == []


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        watch(str(tmp_path / "nothing"))


def test_a_start_that_something_else_wrote_is_named(run: str) -> None:
    MadeRun(run=Path(run)).put("start.json", {"steps": 480, "epochs": 12, "workers": 2})
    with pytest.raises(RunError, match=r"start\.json lacks steps_per_epoch, time_unix_seconds"):
        watch(run, once=True)


def test_where_there_is_no_terminal_it_says_where_the_run_is_and_ends(run: str) -> None:
    write(run, *(record(step) for step in range(7)))
    done = subprocess.run(
        [sys.executable, "-m", "sunspark.cli", "watch", run], capture_output=True, text=True, timeout=60, check=True
    )
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert (lines["run"], lines["state"], lines["step"], lines["loss"]) == (run, "training", "7", "1")
    assert done.stderr == ""


def test_on_a_terminal_it_follows_the_run_to_its_end(run: str) -> None:
    os.remove(run_directory.start_file(run))
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "sunspark.cli", "watch", run, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=environment, text=True) as process:
        os.close(slave)
        shown = _Shown(master)
        shown.wait_for("waiting for the workers to be started")
        MadeRun(run=Path(run)).put("start.json", START)
        shown.wait_for("waiting for the first step")
        write(run, *(record(step, worker) for step in range(100) for worker in (0, 1)))
        shown.wait_for("step 100/480")
        tell(run, "lost", 100, 1900.0, worker=1)
        shown.wait_for("worker 1 lost at step 100")
        tell(run, "finished", 480)
        shown.wait_for("step 480/480")
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert '"state": "finished", "step": 480' in output
    shown.join()
    os.close(master)


class _Shown:
    """What a terminal shows, read as it comes."""

    def __init__(self, descriptor: int) -> None:
        self._text = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._reader.start()

    def join(self) -> None:
        self._reader.join(10)
        assert not self._reader.is_alive()

    def wait_for(self, words: str, timeout_seconds: float = 40.0) -> None:
        with self._news:
            there = self._news.wait_for(lambda: words in self._text, timeout_seconds)
        assert there, f"{words!r} was not shown; there was {self._text[-2000:]!r}"

    def _read(self, descriptor: int) -> None:
        for piece in _pieces(descriptor, time.monotonic() + 80):
            with self._news:
                self._text += piece
                self._news.notify_all()


def _pieces(descriptor: int, deadline: float) -> Iterator[str]:
    while time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                yield os.read(descriptor, 65536).decode(errors="replace")
            except OSError:  # the other side of a terminal ends like this
                return
