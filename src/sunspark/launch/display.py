"""The driver's view of a run while it trains: in place on a terminal, a line every few seconds elsewhere.

On standard error by default, so that standard output stays free for results. Any thread may call it.
A stream that is gone (a terminal that was closed) is written to in vain; it never ends a run.
"""

import contextlib
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO, final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sunspark.records import DRIVER, EventRecord

PLAIN_SECONDS: Final = 5.0
"""Time between two lines where there is no terminal (seconds)."""

_PACE_SECONDS = 60.0
_REDRAWS_PER_SECOND = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressSnapshot:
    """How far the run is."""

    step: int
    """Steps that count so far."""
    loss: float | None
    """Mean loss of the last step (nats); None before the first."""
    images_per_second: float
    workers_alive: int
    workers_expected: int
    learning_rate: float | None
    is_finished: bool = False
    """Whether the run has ended as it should, at its last step or early."""


@final
class Display:
    """Shows epoch, step, loss, images per second, workers and the time that is left.

    Use it as a context manager, or call `close`, which leaves the last state on the screen.
    """

    def __init__(
        self,
        total_steps: int,
        total_epochs: int,
        steps_per_epoch: int,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps = total_steps
        self._total_epochs = total_epochs
        self._steps_per_epoch = steps_per_epoch
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._lock = threading.RLock()  # the drawing thread of rich takes it too
        self._snapshot: ProgressSnapshot | None = None
        self._pace: deque[tuple[float, int]] = deque()  # when which step was reached, over the last minute
        self._printed: tuple[float, int] | None = None
        self._closed = False
        self._live = self._start_live()

    def update(self, snapshot: ProgressSnapshot) -> None:
        """Show a new state; as often as one likes."""
        with self._lock:
            if self._closed:
                return
            now = self._clock()
            self._snapshot = snapshot
            self._note_pace(now, snapshot.step)
            if self._live is None and (self._printed is None or now - self._printed[0] >= PLAIN_SECONDS):
                self._print_line(now, snapshot)

    def event(self, text: str) -> None:
        """Say that something happened, on a line of its own that stays."""
        if self._live is not None and not self._closed:
            with contextlib.suppress(OSError):
                self._live.console.print(Text(text))
        else:
            self._write(text)

    def close(self) -> None:
        """Stop drawing; the last state stays. Closing twice does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            snapshot = self._snapshot
            if self._live is None and snapshot and (self._printed or (0, -1))[1] != snapshot.step:
                self._print_line(self._clock(), snapshot)
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()  # outside the lock: it waits for the drawing thread

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield self._draw(options.max_width)

    def _start_live(self) -> Live | None:
        if not self._stream.isatty():
            return None
        console = Console(file=self._stream, highlight=False)
        if console.is_dumb_terminal:
            return None
        live = Live(
            self,
            console=console,
            refresh_per_second=_REDRAWS_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def _draw(self, width: int) -> Table | Text:
        """Two lines: how far and how long still, then how well and how fast."""
        snapshot = self._snapshot
        if snapshot is None:
            return Text("waiting for the first step", style="dim")
        top = Table.grid(expand=True, padding=(0, 1))
        top.add_column(no_wrap=True)
        top.add_column(ratio=1)
        top.add_column(no_wrap=True, justify="right")
        bar = ProgressBar(total=max(1, self._total_steps), completed=snapshot.step)
        top.add_row(Text(self._epoch_text(snapshot), style="bold"), bar, self._left_text(snapshot))
        whole = Table.grid(expand=True)
        whole.add_row(top)
        whole.add_row(self._state_text(snapshot, width))
        return whole

    def _state_text(self, snapshot: ProgressSnapshot, width: int) -> Text:
        workers = Text(f"workers {snapshot.workers_alive}/{snapshot.workers_expected}")
        if snapshot.workers_alive < snapshot.workers_expected:
            workers.stylize("bold yellow")
        parts = [
            Text(f"step {snapshot.step:,}/{self._total_steps:,}"),
            Text(f"loss {_number(snapshot.loss)}"),
            Text(f"{snapshot.images_per_second:.0f} images/s"),
            workers,
            Text(f"lr {_number(snapshot.learning_rate)}", style="dim"),
        ]
        while len(parts) > 1 and sum(len(part) + 3 for part in parts) - 3 > width:
            parts.pop()  # the least important comes last
        return Text("   ", end="").join(parts)

    def _print_line(self, now: float, snapshot: ProgressSnapshot) -> None:
        self._printed = (now, snapshot.step)
        self._write(
            f"{self._epoch_text(snapshot)}, step {snapshot.step}/{self._total_steps}, "
            f"loss {_number(snapshot.loss)}, {snapshot.images_per_second:.0f} images/s, "
            f"workers {snapshot.workers_alive}/{snapshot.workers_expected}, "
            f"learning rate {_number(snapshot.learning_rate)}, {self._left_text(snapshot)}"
        )

    def _write(self, text: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._stream.write(text + "\n")
            self._stream.flush()

    def _epoch_text(self, snapshot: ProgressSnapshot) -> str:
        """The epoch that is being trained, or was last, counted from 1."""
        step = snapshot.step - snapshot.is_finished
        epoch = min(self._total_epochs, step // max(1, self._steps_per_epoch) + 1)
        return f"epoch {epoch}/{self._total_epochs}"

    def _left_text(self, snapshot: ProgressSnapshot) -> str:
        if snapshot.is_finished or snapshot.step >= self._total_steps:
            return "done"
        (first_time, first_step), (last_time, last_step) = self._pace[0], self._pace[-1]
        if last_step <= first_step or last_time <= first_time:
            return "time left unknown"
        seconds_per_step = (last_time - first_time) / (last_step - first_step)
        return f"{_clock_text((self._total_steps - snapshot.step) * seconds_per_step)} left"

    def _note_pace(self, now: float, step: int) -> None:
        if self._pace and step < self._pace[-1][1]:
            self._pace.clear()  # the run went back to a checkpoint
        self._pace.append((now, step))
        while len(self._pace) > 2 and now - self._pace[1][0] >= _PACE_SECONDS:
            self._pace.popleft()


def sentence_of(event: EventRecord) -> str:
    """An event in words."""
    if event.event == "checkpoint":
        return f"step {event.step} is saved"
    if event.event == "redone":
        return f"step {event.step} is done again: {event.detail}"
    if event.event == "evaluated":
        return f"after step {event.step}, {event.detail}"
    who = f"worker {event.worker}" if event.worker != DRIVER else "the run"
    return f"{who} {event.event} at step {event.step}" + (f": {event.detail}" if event.detail else "")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def _clock_text(seconds: float) -> str:
    """75 -> 1:15; 4000 -> 1:06:40"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
