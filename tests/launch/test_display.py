"""Laws of the display: a line now and then without a terminal, redrawn in place on one, never in the way."""

import contextlib
import io
import math
import os
import pty
import select
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path
from struct import pack
from termios import TIOCSWINSZ

import pytest

from sunspark.launch.display import Display, ProgressSnapshot
from sunspark.launch.screen import PLAIN_SECONDS

pytestmark = pytest.mark.timeout(60)

SNAPSHOT = ProgressSnapshot(
    step=120, loss=1.23456, images_per_second=183.4, workers_alive=2, workers_expected=2, learning_rate=1e-3
)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def plain(clock: Clock) -> tuple[Display, io.StringIO]:
    stream = io.StringIO()
    return Display(1200, 12, 100, stream, clock=clock), stream


def test_without_a_terminal_there_is_a_line_every_few_seconds() -> None:
    clock = Clock()
    display, stream = plain(clock)
    for step in range(100):
        display.update(replace(SNAPSHOT, step=step))
        clock.now += 0.5
    lines = stream.getvalue().splitlines()
    assert len(lines) == 100 * 0.5 / PLAIN_SECONDS
    assert "\x1b" not in stream.getvalue()


def test_a_line_holds_all_there_is_to_know() -> None:
    clock = Clock()
    display, stream = plain(clock)
    display.update(replace(SNAPSHOT, step=100))
    clock.now += 10
    display.update(replace(SNAPSHOT, workers_alive=1))
    assert stream.getvalue().splitlines()[1] == (
        "epoch 2/12, step 120/1200, loss 1.235, 183 images/s, workers 1/2, learning rate 0.001, 9:00 left"
    )


def test_the_last_state_is_printed_once_at_the_end() -> None:
    clock = Clock()
    display, stream = plain(clock)
    display.update(SNAPSHOT)
    display.update(replace(SNAPSHOT, step=1200, loss=None))
    display.close()
    display.close()
    display.update(SNAPSHOT)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "epoch 12/12, step 1200/1200, loss -" in lines[1]
    assert lines[1].endswith("done")


def test_a_run_that_stopped_has_no_time_left() -> None:
    display, stream = plain(Clock())
    display.update(replace(SNAPSHOT, is_stopped=True))
    assert stream.getvalue().endswith(", stopped\n")


def test_events_are_lines_at_once_and_taken_literally() -> None:
    clock = Clock()
    with contextlib.closing(Display(10, 1, 10, stream := io.StringIO(), clock=clock)) as display:
        display.event("worker 1 was lost [bold]")
        assert stream.getvalue() == "worker 1 was lost [bold]\n"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_diverged_is_shown(loss: float) -> None:
    display, stream = plain(Clock())
    display.update(replace(SNAPSHOT, loss=loss))
    assert f"loss {loss}" in stream.getvalue()


def test_the_time_left_follows_the_pace_of_the_last_minute() -> None:
    clock = Clock()
    display, stream = plain(clock)
    for step in range(0, 200, 10):  # ten steps in 30 seconds, then ten in 5
        display.update(replace(SNAPSHOT, step=step))
        clock.now += 30 if step < 100 else 5
    for step in range(200, 400, 10):
        display.update(replace(SNAPSHOT, step=step))
        clock.now += 5
    assert stream.getvalue().splitlines()[-1].endswith(f"{(1200 - 390) // 2 // 60}:45 left")


def test_a_run_that_goes_back_to_a_checkpoint_has_no_negative_time() -> None:
    clock = Clock()
    display, stream = plain(clock)
    for step in (100, 200, 150, 160):
        display.update(replace(SNAPSHOT, step=step))
        clock.now += 10
    lines = stream.getvalue().splitlines()
    assert lines[2].endswith("time left unknown")
    assert lines[3].endswith("17:20 left")


def test_a_stream_that_is_gone_does_not_end_the_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with contextlib.closing(Display(1200, 12, 100, stream)) as display:
        display.update(SNAPSHOT)
        display.event("worker 1 was lost")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_many_threads_leave_whole_lines() -> None:
    clock = Clock()
    display, stream = plain(clock)

    def tell(worker: int) -> None:
        for number in range(200):
            display.event(f"worker {worker}: {number}")

    threads = [threading.Thread(target=tell, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    wanted = {f"worker {worker}: {number}" for worker in range(4) for number in range(200)}
    assert set(stream.getvalue().splitlines()) == wanted


PROGRAM = """
import contextlib, logging, threading, time
from sunspark.launch.display import Display, ProgressSnapshot
logging.basicConfig()
print("result")
with contextlib.closing(Display(1200, 12, 100)) as display:
    time.sleep(0.5)
    for step in range(600, 640):
        display.update(ProgressSnapshot(step=step, loss=1.5, images_per_second=183.4, workers_alive=1,
                                        workers_expected=2, learning_rate=0.001))
        if step == 620:
            display.event("worker 1 [bold] was lost")
            logging.warning("the disk is [nearly] full")
        time.sleep(0.03)
"""


def run_on_a_terminal(columns: int, environment: dict[str, str]) -> tuple[str, str]:
    """What the program shows on a terminal of so many columns, and its standard output."""
    master, slave = pty.openpty()
    ioctl(slave, TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))
    source = str(Path(__file__).parents[2] / "src")
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=variables | {"PYTHONPATH": source} | environment,
    ) as process:
        os.close(slave)
        shown = _read_all(master, time.monotonic() + 40)
        assert process.stdout is not None
        output = process.stdout.read().decode()
        assert process.wait(10) == 0
    os.close(master)
    return shown, output


def _read_all(descriptor: int, deadline: float) -> str:
    shown = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"the program did not end; it showed {shown[-500:]!r}"
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other side of a terminal ends like this
            return shown.decode()
        if not piece:
            return shown.decode()
        shown += piece


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_on_a_terminal_two_lines_are_redrawn_in_place(columns: int) -> None:
    shown, output = run_on_a_terminal(columns, {"TERM": "xterm"})
    assert output == "result\n"
    assert "waiting for the first step" in shown
    assert "\x1b[1A" in shown  # one line up: drawn over, not below
    plain_text = _without_escapes(shown)
    for said in ("worker 1 [bold] was lost", "WARNING:root:the disk is [nearly] full"):
        assert said in [line.strip() for line in plain_text.splitlines()]
    last = [line for line in plain_text.splitlines() if line.strip()][-2:]
    assert last[0].startswith("epoch 7/12 ━")
    assert last[0].endswith("left")
    assert last[1].startswith("step 639/1,200   loss 1.5")
    assert all(len(line) <= columns - len("^C") for line in last)
    assert ("workers 1/2" in last[1]) == (columns >= 80)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    shown, _ = run_on_a_terminal(80, {"TERM": "dumb"})
    assert "\x1b" not in shown
    assert "epoch 7/12, step 639/1200" in shown


def _without_escapes(text: str) -> str:
    """The text as it stands when each redrawing starts a new line."""
    parts = text.replace("\r", "\n").split("\x1b[")
    return parts[0] + "".join(part.lstrip("0123456789;?")[1:] for part in parts[1:])
