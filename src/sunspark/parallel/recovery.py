"""Recovery: a worker that is behind takes the state of those who are not, from several of them at once.

Every worker serves its state (the bytes that a checkpoint would hold) under the step and lineage it stands at. All
current members hold the same bytes, so each sends a part. The state moves on only with its owner's next step, and
that waits for the one who recovers; where it moved on all the same, the reader is told so and starts over.
"""

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, final

from sunspark.errors import SunsparkError, WorkerError
from sunspark.parallel.membership import Agreement, Member, in_words
from sunspark.parallel.rpc import ChunkReader, Handler, Reply, RpcClient

T = TypeVar("T")

_CHUNK_BYTES = 4 << 20


class RecoveryError(SunsparkError):
    """The state could not be taken from any peer; the next quorum will tell whom to ask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The whole state of a worker at one step, as bytes."""

    step: int
    lineage: str
    body: memoryview


@final
class RecoverySource:
    """Serves the state of one worker. `take_snapshot` is called in the server's threads."""

    def __init__(self, take_snapshot: Callable[[], Snapshot]) -> None:
        self._take_snapshot = take_snapshot
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()

    @property
    def handlers(self) -> dict[str, Handler]:
        return {"describe_state": self._describe}

    @property
    def chunk_readers(self) -> dict[str, ChunkReader]:
        return {"state": self._read}

    def forget(self) -> None:
        """The state has moved on: give back the memory."""
        with self._lock:
            self._snapshot = None

    def _describe(self, step: int, lineage: str) -> Reply:
        body = self._body_of(step, lineage)
        return {"num_bytes": len(body), "digest": _digest(body)}

    def _read(self, step: int, lineage: str, begin: int, end: int) -> Iterator[memoryview]:
        body = self._body_of(step, lineage)
        for offset in range(begin, end, _CHUNK_BYTES):
            yield body[offset : min(offset + _CHUNK_BYTES, end)]

    def _body_of(self, step: int, lineage: str) -> memoryview:
        with self._lock:
            if self._snapshot is None or (self._snapshot.step, self._snapshot.lineage) != (step, lineage):
                self._snapshot = self._take_snapshot()
            if (self._snapshot.step, self._snapshot.lineage) != (step, lineage):
                raise WorkerError(f"asked for the state at step {step}, but it is at step {self._snapshot.step}")
            return self._snapshot.body


def recover(
    agreement: Agreement,
    token: str,
    timeout_seconds: float,
    lost: Callable[[], frozenset[str]] = frozenset,
) -> bytes:
    """The state that the members of `agreement` agreed on, checked against its digest.

    `lost` tells whom not to wait for any more. Raises RecoveryError when a peer is lost or does not give its part, or
    when the parts do not make one whole.
    """
    step, lineage = agreement.step, agreement.leader.position.lineage
    peers = agreement.current
    clients = [RpcClient(member.address, token) for member in peers]
    pool = ThreadPoolExecutor(len(clients), thread_name_prefix="recovery")

    def describe() -> Reply:
        return clients[0].call("describe_state", timeout_seconds=timeout_seconds, step=step, lineage=lineage)

    def read(client: RpcClient, part: range) -> bytes:
        where: dict[str, Any] = {"step": step, "lineage": lineage, "begin": part.start, "end": part.stop}
        return b"".join(client.read_chunks("state", timeout_seconds=timeout_seconds, **where))

    try:
        described = _result(pool.submit(describe), peers[:1], lost)
        parts = _parts(described["num_bytes"], len(clients))
        reading = [pool.submit(read, client, part) for client, part in zip(clients, parts, strict=True)]
        body = b"".join(_result(part, peers, lost) for part in reading)
    except SunsparkError as error:
        raise RecoveryError(f"no state from {_names(peers)}: {error}") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for client in clients:
            client.close()
    if _digest(body) != described["digest"]:
        raise RecoveryError(f"the parts from {_names(peers)} do not make one state")
    return body


def _result(future: "Future[T]", peers: Sequence[Member], lost: Callable[[], frozenset[str]]) -> T:
    """The result, unless a peer is lost before it is there."""
    while True:
        with contextlib.suppress(TimeoutError):
            return future.result(timeout=0.05)
        if gone := lost() & {peer.replica_id for peer in peers}:
            raise RecoveryError(f"{in_words(sorted(gone))} lost")


def _parts(num_bytes: int, num_parts: int) -> list[range]:
    edges = [num_bytes * index // num_parts for index in range(num_parts + 1)]
    return [range(begin, end) for begin, end in itertools.pairwise(edges)]


def _names(members: Sequence[Member]) -> str:
    return in_words(member.replica_id for member in members)


def _digest(body: bytes | memoryview) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
