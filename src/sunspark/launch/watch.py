"""Turns what the coordinator knows into a display, and the driver's records, while its job goes on."""

import time
from typing import final

from sunspark.data.order import StepPlan
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.display import Display, ProgressSnapshot, sentence_of
from sunspark.launch.roster import Note
from sunspark.launch.screen import Pace
from sunspark.parallel.leases import LeaseBook
from sunspark.records import EventRecord, RecordWriter


@final
class Watch:
    """Looks at the coordinator, as often as it is told to."""

    def __init__(self, records: RecordWriter, display: Display, plan: StepPlan, expected: int) -> None:
        self._records = records
        self._display = display
        self._plan = plan
        self._expected = expected
        self._begun: float | None = None
        self._last = 0.0
        self._step = 0
        self._samples = 0
        self._pace = Pace(lambda: self._last)
        self._alive = 0

    @property
    def seconds(self) -> float:
        """From the first step to the last look (seconds)."""
        return self._last - self._begun if self._begun is not None else 0.0

    def look(self, coordinator: Coordinator) -> None:
        now, roster = time.monotonic(), coordinator.roster
        step = roster.step  # calls of workers move it meanwhile
        for note in coordinator.take_notes():
            event = event_of(note)
            self._records.write(event)
            self._display.event(sentence_of(event))
        if not roster.may_go:
            return
        if self._begun is None:
            self._begun, self._step = now, step
        self._last = now
        self._samples += sum(self._plan.num_samples_of(done) for done in range(self._step, step))
        self._step = step
        self._pace.note(self._samples)
        if roster.ending is None:
            self._alive = len(roster.alive(now))
        self._display.update(
            ProgressSnapshot(
                step=step,
                loss=roster.report.get("loss"),
                images_per_second=self._pace.per_second if roster.ending is None else self._mean_per_second(),
                workers_alive=self._alive,
                workers_expected=self._expected,
                learning_rate=roster.report.get("learning_rate"),
                is_finished=roster.ending is not None and roster.ending.is_finished,
                is_stopped=roster.ending is not None and not roster.ending.is_finished,
            )
        )

    def _mean_per_second(self) -> float:
        """What the result of the training says."""
        return self._samples / self.seconds if self.seconds else 0.0


@final
class EvaluationWatch:
    """The same for an evaluation, of which there are no records."""

    def __init__(self, display: CountDisplay, leases: LeaseBook) -> None:
        self._display = display
        self._leases = leases

    def look(self, coordinator: Coordinator) -> None:
        for note in coordinator.take_notes():
            if note.event == "lost":
                self._display.event(f"worker {note.worker} lost: {note.detail}")
            elif note.event == "excused":
                self._display.event(note.detail)
        if coordinator.roster.may_go:
            self._display.update(self._leases.num_counted)


def event_of(note: Note) -> EventRecord:
    """The record of a note."""
    return EventRecord(
        worker=note.worker,
        incarnation=note.incarnation,
        time_unix_seconds=time.time(),
        step=note.step,
        event=note.event,
        detail=note.detail,
    )
