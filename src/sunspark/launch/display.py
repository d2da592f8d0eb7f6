"""The driver's view of a run while it trains: two lines on a terminal, one line now and then elsewhere."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO, final

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sunspark.launch.screen import Pace, Screen
from sunspark.records import DRIVER, EventRecord


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
    is_stopped: bool = False
    """Whether it has ended otherwise."""


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
        self._snapshot: ProgressSnapshot | None = None
        self._pace = Pace(clock)
        self._screen = Screen(self._draw, stream, clock=clock)
        self._screen.open()

    def update(self, snapshot: ProgressSnapshot) -> None:
        """Show a new state; as often as one likes."""
        with self._screen.lock:
            self._snapshot = snapshot
            self._pace.note(snapshot.step)
            self._screen.say_now_and_then(snapshot.step, lambda: self._line(snapshot))

    def event(self, text: str) -> None:
        """Say that something happened, on a line of its own that stays."""
        self._screen.say(text)

    def close(self) -> None:
        """Stop drawing; the last state stays. Closing twice does nothing."""
        self._screen.close()

    def _draw(self, width: int) -> Group | Text:
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
        return Group(top, self._state_text(snapshot, width))

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

    def _line(self, snapshot: ProgressSnapshot) -> str:
        return (
            f"{self._epoch_text(snapshot)}, step {snapshot.step}/{self._total_steps}, "
            f"loss {_number(snapshot.loss)}, {snapshot.images_per_second:.0f} images/s, "
            f"workers {snapshot.workers_alive}/{snapshot.workers_expected}, "
            f"learning rate {_number(snapshot.learning_rate)}, {self._left_text(snapshot)}"
        )

    def _epoch_text(self, snapshot: ProgressSnapshot) -> str:
        """The epoch that is being trained, or was last, counted from 1."""
        step = snapshot.step - snapshot.is_finished
        epoch = min(self._total_epochs, step // max(1, self._steps_per_epoch) + 1)
        return f"epoch {epoch}/{self._total_epochs}"

    def _left_text(self, snapshot: ProgressSnapshot) -> str:
        if snapshot.is_finished or snapshot.step >= self._total_steps:
            return "done"
        if snapshot.is_stopped:
            return "stopped"
        return self._pace.left_text(self._total_steps - snapshot.step)


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
