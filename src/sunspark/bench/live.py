"""The live display of a run that was started elsewhere: another terminal, another machine.

Reads RUN/start.json and the records as they grow, nothing else, and writes nothing. Records reach storage
`FLUSH_SECONDS` after they are written, so what is shown is a few seconds old.
Cost: a listing and the new bytes of the records, once a second.
"""

import contextlib
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, final

from sunspark import run_directory, storage
from sunspark.errors import RunError
from sunspark.launch.display import Display, ProgressSnapshot, sentence_of
from sunspark.launch.tail import RecordTail
from sunspark.records import DRIVER, EventRecord, StepRecord

_LOOK_SECONDS: Final = 1.0
_PACE_SECONDS: Final = 60.0
_SILENT_SECONDS: Final = 30.0
_LENGTHS: Final = ("steps", "epochs", "steps_per_epoch", "workers")

StateName = Literal["waiting", "training", "stopped", "finished"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """Where a run is, as far as its records say."""

    run: str
    state: StateName
    """waiting: no step has been recorded. stopped: before its end; `sunspark train` goes on with it."""
    step: int
    """Steps that count so far."""
    steps: int
    """Of the whole run."""
    epoch: int
    """The epoch that is being trained, counted from 1."""
    epochs: int
    loss: float | None
    """Mean loss of the last step (nats)."""
    learning_rate: float | None
    images_per_second: float
    """Over the last minute of records."""
    workers: int
    """In the last step."""
    workers_expected: int
    left_seconds: float | None
    """At the pace of the last minute; None when it is not known."""
    since_last_record_seconds: float | None
    """None before the first."""


@final
class LiveRun:
    """The state of a run, from its records as they come."""

    def __init__(self, run: str) -> None:
        """RunError when there is no such run."""
        if not storage.exists(run_directory.config_file(run)):
            raise run_directory.no_run(run)
        self.run = run
        self.lengths = dict.fromkeys(_LENGTHS, 0)
        """What RUN/start.json says of steps, epochs, steps per epoch and workers; 0 before it is there."""
        self._tail = RecordTail(run)
        self._state: StateName = "waiting"
        self._step = 0
        self._newest: StepRecord | None = None
        self._last_unix_seconds: float | None = None
        self._stopped_unix_seconds = 0.0
        self._steps: dict[tuple[int, int], int] = {}
        """The last step of each worker."""
        self._pace = _Pace()

    def look(self) -> list[EventRecord]:
        """Take up what is new; returns the events among it."""
        new = self._tail.read_new()
        for record in new:
            self._last_unix_seconds = max(record.time_unix_seconds, self._last_unix_seconds or 0.0)
            if isinstance(record, StepRecord):
                self._take_step(record)
            elif isinstance(record, EventRecord) and record.worker == DRIVER:
                self._take_event(record)
        if new or not self.lengths["steps"] or self._state == "stopped":
            self._read_start()
        return [record for record in new if isinstance(record, EventRecord)]

    def state(self, now_unix_seconds: float) -> RunState:
        """Where the run is; `now_unix_seconds` says how long it has been silent."""
        step, newest, lengths = self._step, self._newest, self.lengths
        seconds_per_step = self._pace.seconds_per_step if self._state == "training" else None
        return RunState(
            run=self.run,
            state=self._state,
            step=step,
            steps=lengths["steps"],
            epoch=min(lengths["epochs"], step // max(1, lengths["steps_per_epoch"]) + 1),
            epochs=lengths["epochs"],
            loss=newest.loss if newest else None,
            learning_rate=newest.learning_rate if newest else None,
            images_per_second=self._pace.images_per_second,
            workers=newest.world_size if newest else 0,
            workers_expected=lengths["workers"],
            left_seconds=seconds_per_step and (lengths["steps"] - step) * seconds_per_step,
            since_last_record_seconds=self._last_unix_seconds and max(0.0, now_unix_seconds - self._last_unix_seconds),
        )

    def _read_start(self) -> None:
        path = run_directory.start_file(self.run)
        if storage.exists(path):
            start = run_directory.read_object(path)
            if missing := [name for name in (*_LENGTHS, "time_unix_seconds") if name not in start]:
                raise RunError(f"{path} lacks {', '.join(missing)}; it was written by something else")
            self.lengths = {name: int(start[name]) for name in _LENGTHS}
            if self._state == "stopped" and float(start["time_unix_seconds"]) > self._stopped_unix_seconds:
                self._go_back()
                self._state = "waiting"

    def _take_event(self, event: EventRecord) -> None:
        """What the driver says of the run as a whole."""
        if event.event == "finished":
            self._state, self._step = "finished", event.step
        elif event.event == "stopped":
            self._state, self._stopped_unix_seconds = "stopped", event.time_unix_seconds
        elif event.event == "resumed":
            self._go_back()
            self._state, self._step = "waiting", event.step

    def _take_step(self, record: StepRecord) -> None:
        if record.step <= self._steps.get((record.worker, record.replica), -1):  # everybody died, and did it again
            self._go_back()
        self._steps[record.worker, record.replica] = record.step
        self._pace.add(record)
        if record.step >= self._step:  # some workers' records come later than others'
            self._step, self._newest = record.step + 1, record
        if self._state == "waiting":
            self._state = "training"

    def _go_back(self) -> None:
        self._step = 0
        self._steps.clear()
        self._pace = _Pace()


@final
class _Pace:
    """How fast it went, over the last minute of records."""

    def __init__(self) -> None:
        self._recent: deque[StepRecord] = deque()

    def add(self, record: StepRecord) -> None:
        self._recent.append(record)
        while record.time_unix_seconds - self._recent[0].time_unix_seconds > _PACE_SECONDS:
            self._recent.popleft()

    @property
    def images_per_second(self) -> float:
        first, seconds = self._first_and_seconds()
        samples = sum(record.samples for record in self._recent if record.step > first)
        return samples / seconds if seconds > 0 else 0.0

    @property
    def seconds_per_step(self) -> float | None:
        """None when there are not two steps."""
        first, seconds = self._first_and_seconds()
        steps = max((record.step for record in self._recent), default=first) - first
        return seconds / steps if steps > 0 and seconds > 0 else None

    def _first_and_seconds(self) -> tuple[int, float]:
        """The first step, and the time from its end to the last record."""
        if not self._recent:
            return 0, 0.0
        first = min(self._recent, key=lambda record: (record.step, -record.time_unix_seconds))
        return first.step, max(record.time_unix_seconds for record in self._recent) - first.time_unix_seconds


def watch(run: str, once: bool = False) -> RunState:
    """Show the display of `run` on standard error until the run has ended, and return its last state.

    With `once`, and where standard error is no terminal, nothing is shown and the state is returned at once.
    Raises RunError when there is no such run, KeyboardInterrupt when it is interrupted; the run does not mind.
    """
    live = LiveRun(storage.absolute(run))
    live.look()
    if once or not sys.stderr.isatty():
        return live.state(time.time())
    if not live.lengths["steps"]:
        sys.stderr.write("waiting for the workers to be started\n")
    while not (lengths := live.lengths)["steps"]:
        time.sleep(_LOOK_SECONDS)
        live.look()
    display = Display(lengths["steps"], lengths["epochs"], lengths["steps_per_epoch"])
    with contextlib.closing(display):
        return _follow(live, display)


def _follow(live: LiveRun, display: Display) -> RunState:
    """Draw until the run has ended."""
    was_silent = False
    while (state := live.state(time.time())).state not in ("finished", "stopped"):
        if state.step:
            display.update(_snapshot(state))
        is_silent = (state.since_last_record_seconds or 0.0) > _SILENT_SECONDS
        if is_silent and not was_silent:
            display.event(f"nothing has been recorded for {_SILENT_SECONDS:.0f} s: workers wait, or the run is gone")
        was_silent = is_silent
        time.sleep(_LOOK_SECONDS)
        _look(live, display)
    time.sleep(_LOOK_SECONDS)
    _look(live, display)  # the last records of workers come after the driver's word that the run has ended
    state = live.state(time.time())
    display.update(_snapshot(state))
    return state


def _look(live: LiveRun, display: Display) -> None:
    for event in live.look():
        display.event(sentence_of(event))


def _snapshot(state: RunState) -> ProgressSnapshot:
    return ProgressSnapshot(
        step=state.step,
        loss=state.loss,
        images_per_second=state.images_per_second,
        workers_alive=state.workers,
        workers_expected=state.workers_expected,
        learning_rate=state.learning_rate,
        is_finished=state.state == "finished",
        is_stopped=state.state == "stopped",
    )
