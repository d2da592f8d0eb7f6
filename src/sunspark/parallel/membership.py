"""Who takes part in the next step, who leads it, and who must recover first.

torchft's lighthouse forms the quorums. A worker comes to each with its position: the step it is ready for and the
lineage of its state. Everything that follows from a quorum is a pure function of it, so all members reach the same
answer without talking again (docs/architecture.md, "When a step counts"):

* the leader is the member furthest ahead; among equals the one that has seen the most steps counted;
* whoever stands elsewhere than the leader (another step, or the same step by another lineage) recovers first;
* steps below the leader's count.

To the lighthouse a member is its worker, whichever process that is now: a process that takes the place of a dead one
asks in its name, so nobody waits until the dead one's silence has lasted long enough
(docs/decisions/0013-the-lighthouse-knows-workers.md).
"""

import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, final
from urllib.parse import urlsplit

from sunspark.errors import DeadlineError, SetupError, WorkerError
from sunspark.parallel.round import Held

os.environ.setdefault("RUST_LOG", "error")  # torchft reads it when it is imported, and tells every quorum otherwise

from torchft.coordination import LighthouseClient, LighthouseServer, Quorum

HEARTBEAT_TIMEOUT_SECONDS = 1.5
"""Silence after which quorums form without a worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a worker stands when it comes to a quorum."""

    step: int
    """The step it is ready for; all before it are applied."""
    lineage: str
    """The hash chain over the steps applied."""
    counted: int
    """Steps that it knows to count."""
    failures: int
    """Attempts of this process that failed; a change makes the group form anew."""
    held: Held = field(default_factory=Held)
    """What it has of the round that begins with `step`."""

    def has_state_of(self, other: "Position") -> bool:
        """Whether the same steps led to both."""
        return (self.step, self.lineage) == (other.step, other.lineage)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One worker process in a quorum."""

    replica_id: str
    address: str
    """Where peers recover its state from: grpc://host:port."""
    position: Position

    @property
    def host(self) -> str:
        return urlsplit(self.address).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """What the members of one quorum agree on. `members` are in rank order."""

    quorum_id: int
    members: tuple[Member, ...]

    @property
    def world_size(self) -> int:
        return len(self.members)

    @property
    def leader(self) -> Member:
        furthest = max((member.position.step, member.position.counted) for member in self.members)
        return next(m for m in self.members if (m.position.step, m.position.counted) == furthest)

    @property
    def step(self) -> int:
        return self.leader.position.step

    @property
    def current(self) -> tuple[Member, ...]:
        """The members whose state is the leader's."""
        leader = self.leader.position  # once, not for every member: all members ask for this at every step
        return tuple(member for member in self.members if member.position.has_state_of(leader))

    @property
    def group_key(self) -> str:
        """Names the process group of these members; changes with the members and with every failure."""
        text = ",".join(f"{member.replica_id}:{member.position.failures}" for member in self.members)
        return f"{self.quorum_id}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"

    @property
    def replica_ids(self) -> tuple[str, ...]:
        return tuple(member.replica_id for member in self.members)

    def rank_of(self, replica_id: str) -> int:
        return self.replica_ids.index(replica_id)

    def is_current(self, member: Member) -> bool:
        return member.position.has_state_of(self.leader.position)


def replica_id_of(worker: int, incarnation: int) -> str:
    """The name of one process of a worker. Quorums sort names as strings: hence the zeros."""
    return f"{worker:04d}.{incarnation:06d}"


def worker_and_incarnation_of(replica_id: str) -> tuple[int, int]:
    """The inverse of `replica_id_of`."""
    worker, _, incarnation = replica_id.partition(".")
    return int(worker), int(incarnation)


def in_words(replica_ids: Iterable[str]) -> str:
    """The workers of these processes, for people."""
    workers = [str(worker_and_incarnation_of(replica_id)[0]) for replica_id in replica_ids]
    return f"worker{'s' if len(workers) > 1 else ''} {', '.join(workers)}"


@final
class Lighthouse:
    """The server that forms the quorums; one in the driver. It asks for no token: see docs/security.md."""

    def __init__(self, host: str, port: int) -> None:
        """Listen on `host`:`port` (0: any free port). Raises SetupError when the port is taken."""
        try:
            self._server = LighthouseServer(
                bind=f"{host}:{port}",
                min_replicas=1,
                join_timeout_ms=60_000,
                quorum_tick_ms=20,
                heartbeat_timeout_ms=int(HEARTBEAT_TIMEOUT_SECONDS * 1000),
            )
        except RuntimeError as error:
            raise SetupError(
                f"the lighthouse cannot listen on {host}:{port} ({error}); the port may be taken: "
                "choose another with --port, or 0 for any free one"
            ) from error
        self.address = f"http://{host}:{self._server.address().rpartition(':')[2]}"

    def close(self) -> None:
        self._server.shutdown()


@final
class Membership:
    """One worker's line to the lighthouse."""

    def __init__(self, lighthouse: str, replica_id: str, address: str) -> None:
        """`lighthouse` is its http:// address, `address` where this worker serves its state."""
        self.replica_id = replica_id
        self._worker_name = replica_id.partition(".")[0]
        self._address = address
        self._last_sign = -math.inf
        try:
            self._client = LighthouseClient(lighthouse, timedelta(seconds=10))
        except RuntimeError as error:
            raise WorkerError(f"the lighthouse at {lighthouse} cannot be reached: {error}") from error

    def seconds_since_sign(self) -> float:
        """Since the lighthouse was last told that this worker lives: by a heartbeat, or by asking for a quorum."""
        return time.monotonic() - self._last_sign

    def heartbeat(self) -> None:
        """Tell the lighthouse that this worker lives. Raises WorkerError when it cannot be reached."""
        self._last_sign = time.monotonic()
        try:
            self._client.heartbeat(self._worker_name, timedelta(seconds=2))
        except (RuntimeError, TimeoutError) as error:
            raise WorkerError(f"the lighthouse did not take a heartbeat: {error}") from error

    def agree(self, position: Position, timeout_seconds: float) -> Agreement:
        """Wait for the next quorum. Raises DeadlineError when none forms in time.

        It may hold another process of this worker in place of this one: the newer one is wanted.
        """
        self._last_sign = time.monotonic()
        try:
            quorum = self._client.quorum(
                self._worker_name,
                timedelta(seconds=timeout_seconds),
                address=self._address,
                step=position.step,
                data={"replica_id": self.replica_id, "position": json.dumps(asdict(position))},
            )
        except TimeoutError as error:
            raise DeadlineError(f"no quorum formed within {timeout_seconds:.0f} s") from error
        except RuntimeError as error:
            raise WorkerError(f"the lighthouse formed no quorum: {error}") from error
        return _agreement_of(quorum)


def _agreement_of(quorum: Quorum) -> Agreement:
    """Raises WorkerError when a member does not say what every worker says: the lighthouse lets in anyone."""
    members = []
    for participant in quorum.participants:
        try:
            told = participant.data
            position = _position_of(told["position"])
            members.append(Member(replica_id=str(told["replica_id"]), address=participant.address, position=position))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            stranger = {participant.replica_id: participant.address}
            raise WorkerError(f"strangers take part in the quorum, and are refused: {stranger}") from error
    members.sort(key=lambda member: member.replica_id)
    return Agreement(quorum_id=int(quorum.quorum_id), members=tuple(members))


@functools.lru_cache(maxsize=16)
def _position_of(text: str) -> Position:
    """Members mostly stand where the others do, and there are as many quorums as steps."""
    told = json.loads(text)
    return Position(
        step=int(told["step"]),
        lineage=str(told["lineage"]),
        counted=int(told["counted"]),
        failures=int(told["failures"]),
        held=_held_of(told["held"]),
    )


def _held_of(told: Mapping[str, Any]) -> Held:
    return Held(
        finished=tuple(int(replica) for replica in told["finished"]),
        replica=int(told["replica"]),
        steps=int(told["steps"]),
    )
