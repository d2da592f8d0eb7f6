"""The coordinator: the driver's side of a run, as the calls of supervisors and workers.

It puts the roster behind a network and a lock, beside the lighthouse that forms the quorums. What it knows is
advice that makes things fast (a lost peer is named at once) or tidy (a second process for a place leaves); that every
sample is applied exactly once does not depend on it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, final

from sunspark.launch.excuses import Excuses
from sunspark.launch.roster import Ending, Note, Roster
from sunspark.parallel.leases import LeaseBook
from sunspark.parallel.membership import replica_id_of, worker_and_incarnation_of
from sunspark.parallel.rpc import ChunkReader, ChunkWriter, Handler, Reply, RpcServer
from sunspark.records import DRIVER, EventName

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 10.0
_KEPT_ADDRESSES: Final = 32
"""Of each worker: processes that die one after the other stand in quorums together, while their heartbeats last."""
_KEPT_GROUPS: Final = 16
"""Groups follow one another: a member of one that is older than so many has long heard that it was cut."""


class Service(Protocol):
    """Another part of the driver that workers call."""

    @property
    def handlers(self) -> Mapping[str, Handler]: ...
    @property
    def chunk_readers(self) -> Mapping[str, ChunkReader]: ...
    @property
    def chunk_writers(self) -> Mapping[str, ChunkWriter]: ...


@final
class Coordinator:
    """Answers the calls of supervisors and workers."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        token: str,
        roster: Roster,
        leases: LeaseBook | None = None,
        find_resume: Callable[[bool], str | None] = lambda _: None,
        excuses: Excuses | None = None,
        service: Service | None = None,
    ) -> None:
        """`find_resume` names the state that a process starts from; it is told whether no other process is alive.

        `service`: calls and streams of another part of the driver, behind the same port and token.
        """
        self.roster = roster
        self._leases = leases or LeaseBook(ranges=[], count=lambda _: None)
        self._find_resume = find_resume
        self._excuses = excuses
        if excuses:
            roster.excused = excuses.read()
            self._stop_if_nothing_is_left(excuses)
        self._lock = threading.Lock()
        self._resume_lock = threading.Lock()
        self._rendezvous: dict[str, dict[str, str]] = {}
        """Key of a group -> what its members tell each other; the newest group last."""
        self._addresses: dict[str, str] = {}
        self.faults_struck: set[int] = set()
        """Places of faults among those of the run."""
        self._server = RpcServer(
            host,
            port,
            token,
            {
                "claim": self._claim,
                "next_incarnation": self._next_incarnation,
                "renew": self._renew,
                "process_ended": self._process_ended,
                "excuse": self._excuse,
                "release": self._release,
                "join": self._join,
                "announce": self._announce,
                "addresses": lambda: {"addresses": dict(self._addresses)},
                "beat": self._beat,
                "abandon": self._abandon,
                "note": self._take_note,
                "strike": self._strike,
                "finish": self._finish,
                "give_up": self._give_up,
                "put": self._put,
                "get": self._get,
                "lease": self._lease,
                "hand_in": self._hand_in,
                **(service.handlers if service else {}),
            },
            service.chunk_readers if service else {},
            service.chunk_writers if service else {},
        )

    @property
    def uri(self) -> str:
        return self._server.uri

    def check(self) -> None:
        """Let the roster look at the clock."""
        with self._lock:
            self.roster.check(time.monotonic())

    def take_notes(self) -> list[Note]:
        """The notes since the last call."""
        with self._lock:
            notes, self.roster.notes = self.roster.notes, []
            return notes

    def note_lost_task(self, cause: str) -> None:
        """Keep what Spark says of a task that it could not run: the cause, should nobody come to work."""
        with self._lock:
            self.roster.lost_task = cause

    def is_deserted(self, worker: int) -> bool:
        """Whether nobody works at that place."""
        with self._lock:
            self.roster.check(now := time.monotonic())
            return self.roster.is_deserted(worker, now)

    def is_gone(self, replica_id: str) -> bool:
        """Whether that process has ended, or another one has its place, or is to take it."""
        with self._lock:
            return self.roster.is_gone(replica_id, time.monotonic())

    def note(self, replica_id: str, event: EventName, step: int, detail: str) -> None:
        """Keep an event of a worker."""
        with self._lock:
            self.roster.note(replica_id, event, step, detail)

    def note_of_run(self, event: EventName, step: int, detail: str) -> None:
        """Keep an event of the run as a whole."""
        with self._lock:
            self.roster.notes.append(Note(worker=DRIVER, incarnation=0, event=event, step=step, detail=detail))

    def note_update(self, step: int, num_workers: int, report: Mapping[str, float]) -> None:
        """The run has come so far, with so many workers; `report` is for displays. Calls may come out of order."""
        with self._lock:
            self.roster.step, self.roster.report = max(step, self.roster.step), dict(report)
            self.roster.note_workers(num_workers)
            self.roster.note_progress()

    def finish(self) -> None:
        """The end of the run is published."""
        with self._lock:
            self.roster.finish()

    def stop(self, ending: Ending) -> None:
        """End the run before its time; the workers save what they have."""
        with self._lock:
            self.roster.stop(ending)

    def close(self) -> None:
        """Answer nobody any more. A call that storage holds up is left behind."""
        closing = threading.Thread(target=self._server.shutdown, daemon=True, name="close-coordinator")
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            logger.warning("a call to the driver did not end within %g s; leaving it behind", _CLOSE_SECONDS)

    def _claim(self, worker: int, supervisor: str) -> Reply:
        with self._lock:
            return {"answer": self.roster.claim(worker, supervisor, time.monotonic())}

    def _next_incarnation(self, worker: int, supervisor: str) -> Reply:
        with self._lock:
            return {"incarnation": self.roster.next_incarnation(worker, supervisor, time.monotonic())}

    def _renew(self, worker: int, supervisor: str) -> Reply:
        with self._lock:
            return {"answer": self.roster.renew(worker, supervisor, time.monotonic())}

    def _process_ended(
        self,
        worker: int,
        supervisor: str,
        incarnation: int,
        code: int,
        cause: str,
        step: int = -1,
        rows: Sequence[int] = (),
    ) -> Reply:
        if code < 0 and self._excuses and (rows or step >= 0):
            how, _, lines = cause.partition("\n")
            images = ", ".join(self._excuses.path_of(row) for row in rows) or "no image"
            where = f"it was at step {step} and decoded" if step >= 0 else "it decoded"
            cause = f"{how}; {where} {images}\n{lines}"
        with self._lock:
            self._leases.give_back(replica_id_of(worker, incarnation))
            self.roster.process_ended(worker, supervisor, incarnation, code, cause)
        return {}

    def _excuse(self, worker: int, supervisor: str, rows: Mapping[str, str]) -> Reply:  # noqa: ARG002 - who asks
        """A supervisor has found images that kill whoever decodes them. They are on storage before workers hear it."""
        if self._excuses is None:
            return {}
        reasons = {int(row): reason for row, reason in rows.items()}
        with self._resume_lock:
            self._excuses.write({**self.roster.excused, **reasons})
            names = {row: self._excuses.path_of(row) for row in reasons}
            with self._lock:
                self.roster.excuse(reasons, names)
                self._stop_if_nothing_is_left(self._excuses)
        return {}

    def _stop_if_nothing_is_left(self, excuses: Excuses) -> None:
        if cause := excuses.cause_to_stop(self.roster.excused):
            self.roster.stop(Ending(is_finished=False, cause=cause, is_users_mistake=True))

    def _release(self, worker: int, supervisor: str) -> Reply:
        with self._lock:
            self.roster.release(worker, supervisor)
        return {}

    def _join(self, replica_id: str, host: str, pid: int) -> Reply:
        with self._lock:
            farewell = self.roster.join(replica_id, f"{host}, process {pid}", now := time.monotonic())
            self.roster.check(now)
            is_alone = not self.roster.alive(now)
        with self._resume_lock:  # not the other one: storage may be slow, and beats must go on
            resume = None if farewell else self._find_resume(is_alone)
        return {"farewell": farewell, "resume": resume}

    def _announce(self, replica_id: str, address: str) -> Reply:
        worker, incarnation = worker_and_incarnation_of(replica_id)

        def is_forgotten(other: str) -> bool:
            place, number = worker_and_incarnation_of(other)
            return place == worker and number <= incarnation - _KEPT_ADDRESSES

        with self._lock:
            known = {key: value for key, value in self._addresses.items() if not is_forgotten(key)}
            self._addresses = known | {replica_id: address}
        return {}

    def _beat(self, **message: Any) -> Reply:
        with self._lock:
            return self.roster.beat(message, time.monotonic())

    def _abandon(self, group_key: str) -> Reply:
        with self._lock:
            self.roster.abandon(group_key, time.monotonic())
            self._rendezvous.pop(group_key, None)
        return {}

    def _take_note(self, replica_id: str, event: EventName, step: int, detail: str) -> Reply:
        self.note(replica_id, event, step, detail)
        return {}

    def _strike(self, fault: int) -> Reply:
        with self._lock:
            self.faults_struck.add(fault)
        return {}

    def _finish(self, step: int, most_workers: int, report: dict[str, Any]) -> Reply:
        with self._lock:
            self.roster.step, self.roster.report = step, report or self.roster.report
            self.roster.note_workers(most_workers)
        self.finish()
        return {}

    def _give_up(self, cause: str) -> Reply:
        self.stop(Ending(is_finished=False, cause=cause, recurs=True))
        return {}

    def _put(self, key: str, value: str) -> Reply:
        """Keep what a member of a group tells the others. Keys begin with that of their group."""
        group_key, _, name = key.partition("/")
        with self._lock:
            self._rendezvous.setdefault(group_key, {})[name] = value
            for old in list(self._rendezvous)[:-_KEPT_GROUPS]:
                del self._rendezvous[old]
        return {}

    def _get(self, key: str) -> Reply:
        group_key, _, name = key.partition("/")
        return {"value": self._rendezvous.get(group_key, {}).get(name)}

    def _lease(self, replica_id: str) -> Reply:
        with self._lock:
            ended = bool(self.roster.farewell) or self._leases.is_complete
            leased = None if ended else self._leases.lease(replica_id, time.monotonic())
            excused = list(self.roster.excused)
        return {"ended": ended, "range": leased, "excused": excused}

    def _hand_in(self, begin: int, tally: dict[str, Any]) -> Reply:
        with self._lock:
            self._leases.hand_in(begin, tally)
            self.roster.note_progress()
            if self._leases.is_complete:
                self.roster.finish()
        return {}
