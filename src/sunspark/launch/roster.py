"""The roster of a run: who has which place, who is lost, when to go, when it has ended.

No network, no threads, the time is an argument: a test can play any interleaving.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from sunspark.parallel.membership import replica_id_of, worker_and_incarnation_of
from sunspark.parallel.rpc import Reply
from sunspark.records import EventName
from sunspark.training.deadline import deadline_seconds
from sunspark.training.spec import EXIT_FAILED, EXIT_USERS_MISTAKE

ClaimAnswer = Literal["granted", "duplicate", "ended"]
RenewalAnswer = Literal["go on", "replace", "leave"]
"""replace: end the process and start another one. leave: the place is another supervisor's."""

LOST_SECONDS: Final = 2.0
"""Silence after which a worker counts as lost, until it is heard again."""
REPLACE_SECONDS: Final = 10.0
"""Silence after which a worker's process is replaced."""
CLAIM_SECONDS: Final = 6.0
"""Silence after which a supervisor has lost its place."""
_ABANDONED_SECONDS: Final = 120.0
_START_SECONDS: Final = 120.0
"""How long a process may take to load torch before it must be heard."""
_LOAD_SECONDS: Final = 900.0
"""How long a process that has joined may take to read the state it starts from; it is heard when it has."""
_MOST_LOSSES: Final = 10
"""Ends of worker processes, times the number of workers, without a step in between, that give up a run."""
_MOST_FAILURES: Final = 3
"""Ends by an exception of one and the same worker, which tends to come again, without a step in between."""
_MOST_SECONDS_BETWEEN_CHECKS: Final = LOST_SECONDS
"""The driver looks ten times a second; if it did not for longer, it was away itself, and nobody is lost for that."""


@dataclass(slots=True)
class _Process:
    """One incarnation of a worker."""

    last_heard: float
    moves: int = -1
    last_move: float = 0.0
    has_own_deadline: bool = True
    slowest_step_seconds: float = 0.0
    whereabouts: str = ""
    is_ready: bool = False
    phase: str = ""
    is_condemned: bool = False
    is_gone: bool = False


@dataclass(slots=True)
class _Place:
    """One worker id: the supervisor that holds it, and its newest process."""

    supervisor: str = ""
    last_heard: float = -1e9
    incarnation: int = 0
    process: _Process | None = None
    failures: int = 0
    """Ends by an exception since the last step that was done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something a worker, a supervisor or the roster itself reported."""

    worker: int
    incarnation: int
    event: EventName
    step: int
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """Why a run has ended: finished, or stopped with a cause."""

    is_finished: bool
    cause: str = ""
    is_users_mistake: bool = False
    recurs: bool = False
    """To go on from what is saved would end alike."""


@final
class Roster:
    """Who is where. All times are seconds of one monotonic clock, given by the caller."""

    def __init__(
        self,
        num_workers: int,
        start_timeout_seconds: float,
        now: float,
        last_incarnation: int = 0,
        num_expected: int | None = None,
    ) -> None:
        """`last_incarnation` is the highest of the run's starts before this one: here they begin above it.

        The first step waits for `num_expected` workers (None: for all); the others join when they can.
        """
        self._num_expected = num_workers if num_expected is None else num_expected
        self._places = {worker: _Place(incarnation=last_incarnation) for worker in range(num_workers)}
        self._last_incarnation = last_incarnation
        self._start_timeout_seconds = start_timeout_seconds
        self._go_deadline = now + start_timeout_seconds
        self._last_alive = now
        self._abandoned: dict[str, float] = {}
        self._in_reserve: set[str] = set()
        """Supervisors that were told that their place is held."""
        self._redone: set[tuple[int, str]] = set()
        self._losses = 0
        self._last_check = now
        self.may_go = False
        self.ending: Ending | None = None
        self.farewell = ""
        """What every worker is told: "ended" or "stop"."""
        self.step = 0
        self.report: dict[str, Any] = {}
        self.recoveries = 0
        self.most_workers = 0
        """That took part in one and the same step."""
        self.excused: dict[int, str] = {}
        """Rows of the dataset that are left out, with the reason."""
        self.notes: list[Note] = []
        self.lost_task = ""
        """Why Spark lost a task the last time."""

    @property
    def steps_redone(self) -> int:
        return len(self._redone)

    def claim(self, worker: int, supervisor: str, now: float) -> ClaimAnswer:
        """A supervisor asks for a place; one that is held until its holder is gone, after the end too."""
        self._notice_absence(now)
        place = self._places[worker]
        if place.supervisor not in ("", supervisor) and now - place.last_heard < CLAIM_SECONDS:
            if supervisor not in self._in_reserve:
                self._in_reserve.add(supervisor)
                self._note(worker, "duplicate", "a second task for a worker that is alive; it waits in reserve")
            return "duplicate"
        if self.farewell:
            return "ended"
        place.supervisor, place.last_heard = supervisor, now
        return "granted"

    def next_incarnation(self, worker: int, supervisor: str, now: float) -> int:
        """The number of the process that the supervisor is about to start; 0 when the place is not its own."""
        self._notice_absence(now)
        place = self._places[worker]
        if place.supervisor != supervisor or self.farewell:
            return 0
        place.incarnation += 1
        place.process = _Process(last_heard=now + _START_SECONDS, last_move=now)
        place.last_heard = now
        is_first = place.incarnation == self._last_incarnation + 1
        self._note(worker, "started" if is_first else "restarted", "")
        return place.incarnation

    def renew(self, worker: int, supervisor: str, now: float) -> RenewalAnswer:
        """A supervisor says that it lives, and hears what to do with its process."""
        self._notice_absence(now)
        place = self._places[worker]
        if place.supervisor != supervisor:
            return "leave"
        place.last_heard = now
        process = place.process
        if process is None or process.is_gone or self.farewell:
            return "go on"
        if now - process.last_heard > REPLACE_SECONDS:
            self._condemn(worker, process, f"silent for {now - process.last_heard:.0f} s; replaced")
            return "replace"
        limit = deadline_seconds(process.slowest_step_seconds)
        if process.is_ready and self.may_go and not process.has_own_deadline and now - process.last_move > limit:
            self._condemn(worker, process, f"no progress for {limit:.0f} s; replaced")
            return "replace"
        return "go on"

    def process_ended(self, worker: int, supervisor: str, incarnation: int, code: int, cause: str) -> None:
        """A supervisor reports the end of its process: its exit code (negative: a signal) and its last words."""
        place = self._places[worker]
        if place.supervisor == supervisor and place.incarnation == incarnation and place.process:
            place.process.is_gone = True
        if self.farewell or code == 0:
            return
        self._note(worker, "lost", cause.partition("\n")[0])
        self._losses += 1
        place.failures += code == EXIT_FAILED
        if code == EXIT_USERS_MISTAKE:
            self.stop(Ending(is_finished=False, cause=cause, is_users_mistake=True))
        elif self._losses >= _MOST_LOSSES * len(self._places) or place.failures >= _MOST_FAILURES:
            where = place.process.whereabouts if place.process else ""
            who = f"worker {worker} ({where or 'it had not joined'})"
            self.stop(Ending(is_finished=False, cause=f"{who}: {cause}"))

    def release(self, worker: int, supervisor: str) -> None:
        """A supervisor gives its place back."""
        place = self._places[worker]
        if place.supervisor == supervisor:
            place.supervisor = ""
            if place.process:
                place.process.is_gone = True

    def join(self, replica_id: str, whereabouts: str, now: float) -> str:
        """A process says that it is there; what it is told: "" (welcome), "ended", "stop" or "unwanted"."""
        self._notice_absence(now)
        farewell = self._farewell_of(replica_id)
        process = self._process_of(replica_id)
        if not farewell and process is not None:
            process.whereabouts, process.last_heard = whereabouts, now + _LOAD_SECONDS
        return farewell

    def beat(self, message: dict[str, Any], now: float) -> Reply:
        """A process says that it lives and what it does; the answer holds all it should know."""
        self._notice_absence(now)
        replica_id = message["replica_id"]
        farewell = self._farewell_of(replica_id)
        process = self._process_of(replica_id)
        if not farewell and process is not None:
            if not process.is_ready:
                self._note(worker_and_incarnation_of(replica_id)[0], "joined", process.whereabouts)
            process.is_ready, process.last_heard = True, now
            process.phase, process.has_own_deadline = message["phase"], message["has_own_deadline"]
            process.slowest_step_seconds = message["slowest_step_seconds"]
            self.note_workers(message["most_workers"])
            if message["moves"] != process.moves:
                process.moves, process.last_move = message["moves"], now
            if message["step"] > self.step:
                self.step, self.report = message["step"], message["report"]
                self.note_progress()
        self.check(now)
        return {
            "farewell": farewell,
            "may_go": self.may_go,
            "lost": self.lost(now),
            "abandoned": list(self._abandoned),
            "waiting": self.waiting(now),
            "excused": list(self.excused),
        }

    def abandon(self, group_key: str, now: float) -> None:
        """A worker will not come to the group of that key."""
        self._abandoned[group_key] = now

    def note(self, replica_id: str, event: EventName, step: int, detail: str) -> None:
        """A worker reports an event; a step done again with the key of the group that broke before the cause."""
        if event == "redone":
            group_key, _, detail = detail.partition(" ")
            if (step, group_key) in self._redone:
                return
            self._redone.add((step, group_key))
        if event == "recovered":
            self.recoveries += 1
        worker, incarnation = worker_and_incarnation_of(replica_id)
        self.notes.append(Note(worker=worker, incarnation=incarnation, event=event, step=step, detail=detail))

    def excuse(self, rows: Mapping[int, str], names: Mapping[int, str]) -> None:
        """Leave rows out from now on; `rows` gives the reasons."""
        for row in rows.keys() - self.excused.keys():
            self._note(-1, "excused", f"{names[row]} is left out from now on: {rows[row]}")
        self.excused = {**self.excused, **rows}

    def note_workers(self, count: int) -> None:
        """So many have taken a step together."""
        self.most_workers = max(self.most_workers, count)

    def note_progress(self) -> None:
        """Something was done since the last process ended."""
        self._losses = 0
        for place in self._places.values():
            place.failures = 0

    def lost(self, now: float) -> list[str]:
        """The replica ids that nobody should wait for: gone, silent, or replaced."""
        return [
            replica_id_of(worker, incarnation)
            for worker, place in self._places.items()
            for incarnation in range(max(self._last_incarnation + 1, place.incarnation - 3), place.incarnation + 1)
            if incarnation < place.incarnation or _is_lost(place.process, now)
        ]

    def waiting(self, now: float) -> list[str]:
        """The replica ids that wait for a quorum."""
        return [
            replica_id_of(worker, place.incarnation)
            for worker, place in self._places.items()
            if place.process and place.process.phase == "quorum" and not _is_lost(place.process, now)
        ]

    def alive(self, now: float) -> list[int]:
        """The workers that take part."""
        return [
            worker
            for worker, place in self._places.items()
            if place.process and place.process.is_ready and not _is_lost(place.process, now)
        ]

    def is_gone(self, replica_id: str, now: float) -> bool:
        """Whether that process has ended, or has lost its place, or has been silent for so long that it will."""
        worker, incarnation = worker_and_incarnation_of(replica_id)
        place = self._places[worker]
        if incarnation != place.incarnation or place.process is None:
            return True
        return place.process.is_gone or now - place.process.last_heard > REPLACE_SECONDS

    def is_deserted(self, worker: int, now: float) -> bool:
        """Whether no supervisor has held that place for as long as one may be silent."""
        return now - self._places[worker].last_heard > CLAIM_SECONDS

    def finish(self) -> None:
        """The end of the run is published."""
        self._note(-1, "finished", "")
        self.ending, self.farewell = Ending(is_finished=True), "ended"

    def stop(self, ending: Ending) -> None:
        """The run shall end before its time."""
        if self.ending is None:
            self.ending, self.farewell = ending, "stop"

    def missing(self) -> list[int]:
        """The workers that have not joined."""
        return [w for w, place in self._places.items() if place.process is None or not place.process.is_ready]

    def check(self, now: float) -> None:
        """Look at the clock: open the gate, forget what is old, give up a run that has had no worker for too long."""
        self._notice_absence(now)
        if self.alive(now) or any(_is_at_work(place, now) for place in self._places.values()):
            self._last_alive = now
        elif self.ending is None and now - self._last_alive > self._start_timeout_seconds:
            names = ", ".join(str(worker) for worker in self._places)
            cause = f"none of the workers ({names}) was there for {self._start_timeout_seconds:g} s"
            why = f"; Spark lost a task: {self.lost_task}" if self.lost_task else ""
            self.stop(Ending(is_finished=False, cause=f"{cause}{why}; look for free slots, or raise --start-timeout"))
        for key in [key for key, since in self._abandoned.items() if now - since > _ABANDONED_SECONDS]:
            del self._abandoned[key]
        num_joined = len(self._places) - len(self.missing())
        if not self.may_go and (num_joined >= self._num_expected or now > self._go_deadline):
            if self.missing():
                if not self.alive(now):
                    return
                names = ", ".join(str(worker) for worker in self.missing())
                self._note(-1, "started", f"without workers {names}, which join when they come")
            self.may_go = True

    def _notice_absence(self, now: float) -> None:
        """Blame nobody for the time in which the driver was stopped; before anything else is done at `now`."""
        if (away := now - self._last_check) > _MOST_SECONDS_BETWEEN_CHECKS:
            self._last_alive += away
            self._go_deadline += away
            for place in self._places.values():
                place.last_heard += away
                if place.process is not None:
                    place.process.last_heard += away
                    place.process.last_move += away
        self._last_check = now

    def _condemn(self, worker: int, process: _Process, cause: str) -> None:
        """Tell it once; the supervisor asks until the process has ended."""
        if not process.is_condemned:
            self._note(worker, "lost", cause)
        process.is_condemned = True

    def _farewell_of(self, replica_id: str) -> str:
        worker, incarnation = worker_and_incarnation_of(replica_id)
        if incarnation < self._places[worker].incarnation:
            return "unwanted"
        return self.farewell

    def _process_of(self, replica_id: str) -> _Process | None:
        return self._places[worker_and_incarnation_of(replica_id)[0]].process

    def _note(self, worker: int, event: EventName, detail: str) -> None:
        incarnation = self._places[worker].incarnation if worker in self._places else 0
        self.notes.append(Note(worker=worker, incarnation=incarnation, event=event, step=self.step, detail=detail))


def _is_lost(process: _Process | None, now: float) -> bool:
    return process is not None and (process.is_gone or now - process.last_heard > LOST_SECONDS)


def _is_at_work(place: _Place, now: float) -> bool:
    """Whether its supervisor lives, and looks for the cause of a death or waits for a process that reads its state."""
    process = place.process
    if process is None or not place.supervisor or now - place.last_heard > CLAIM_SECONDS:
        return False
    return process.is_gone or (bool(process.whereabouts) and not process.is_ready)
