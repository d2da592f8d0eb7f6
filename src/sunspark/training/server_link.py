"""A worker's line to the parameter server. Calls are repeated while the driver lives: twice has the effect of once."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, final

from torch import Tensor

from sunspark.errors import SunsparkError
from sunspark.parallel.ledger import Evidence
from sunspark.parallel.rpc import Reply, RpcClient
from sunspark.parallel.shared_memory import open_shared_memory
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.validator import Counts
from sunspark.training.wire import Wire, chunks_of, gathered

logger = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_ATTEMPTS: Final = 20
"""In a row; the pulse ends a process whose driver is silent before that."""
_PAUSE_SECONDS: Final = 1.0
_LEAST_DEADLINE_SECONDS: Final = 60.0
_SLOWEST_BYTES_PER_SECOND: Final = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A replica's part of some steps, leased to this worker."""

    lease: int
    steps: range
    replica: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPart:
    """A part of the split that is evaluated, given to this worker."""

    part: int
    num_parts: int
    step: int


@final
class ServerLink:
    """Asks, pulls and pushes for one worker. Raises what `RpcClient` does, when that happens twenty times in a row."""

    def __init__(
        self, server: RpcClient, replica_id: str, weights: FlatWeights, wire: Wire, *, may_share_memory: bool = False
    ) -> None:
        """`may_share_memory`: parameters and changes need not travel if the server is on this host."""
        self._server = server
        self._replica_id = replica_id
        self._weights = weights
        self._wire = wire
        num_bytes = weights.size * weights.dtype.itemsize
        self._deadline_seconds = max(_LEAST_DEADLINE_SECONDS, num_bytes / _SLOWEST_BYTES_PER_SECOND)
        self.num_bytes = 0
        """That have travelled so far, both ways; what lies in shared memory does not."""
        self._shared_N = self._open_mailbox() if may_share_memory and wire.is_plain else None
        self.outbox_N = self._shared_N if self._shared_N is not None else weights.empty()
        """Where the change that is pushed next is to be written."""

    def ask(self) -> Task | EvaluationPart | None:
        """What this worker is to do; None to ask again later."""
        reply = self._call("ask", replica_id=self._replica_id)
        if reply["do"] == "train":
            steps = range(reply["begin"], reply["end"])
            return Task(lease=reply["lease"], steps=steps, replica=reply["replica"])
        if reply["do"] == "evaluate":
            return EvaluationPart(part=reply["part"], num_parts=reply["num_parts"], step=reply["step"])
        return None

    def begin(self, task: Task) -> Literal["yes", "wait", "void"]:
        """Whether this worker may pull the parameters for `task` now; void when it is no longer its own."""
        answer: Literal["yes", "wait", "void"] = self._call("begin", lease=task.lease)["answer"]
        return answer

    def pull(self) -> Tensor:
        """The parameters, as `FlatWeights` has them; until something else is pulled, or written into `outbox_N`."""
        if self._shared_N is not None:
            return self._fill(self._shared_N, judged=False)
        return self._wire.unpack_parameters(self._read(judged=False))

    def pull_judged(self) -> Tensor:
        """The same of the network that is evaluated and kept; it travels as it is."""
        if self._shared_N is not None:
            return self._fill(self._shared_N, judged=True)
        return self._wire.unpack_exact(self._read(judged=True))

    def push(
        self,
        task: Task,
        evidences: Sequence[Evidence],
        report: dict[str, float],
        when_sent: Callable[[], None] = lambda: None,
    ) -> int:
        """Push the change that lies in `outbox_N`; `when_sent` is called before the reply is waited for.

        How many workers train at the moment; 0 when the lease is void, and the change counts nowhere.
        """
        what: dict[str, Any] = {
            "replica_id": self._replica_id,
            "lease": task.lease,
            "evidences": [evidence.to_array().tolist() for evidence in evidences],
            "report": report,
        }
        reply = self._send(what, when_sent)
        if reply["answer"] == "void":
            return 0
        self._wire.commit()
        return int(reply["workers"])

    def _send(self, what: dict[str, Any], when_sent: Callable[[], None]) -> Reply:
        if self._shared_N is not None:
            when_sent()
            return _persistently(
                lambda: self._server.call("push_shared", timeout_seconds=self._deadline_seconds, **what)
            )
        packed = self._wire.pack_update(self.outbox_N)
        self.num_bytes += packed.nbytes
        timing: dict[str, Any] = {"timeout_seconds": self._deadline_seconds, "when_sent": when_sent}
        return _persistently(lambda: self._server.write_chunks("push", chunks_of(packed), **timing, **what))

    def hand_in(self, part: EvaluationPart, counts: Counts) -> None:
        """Hand in what was counted."""
        self._call(
            "hand_in_counts",
            part=part.part,
            step=part.step,
            per_class=counts.per_class.tolist(),
            loss=float(counts.loss),
        )

    def _open_mailbox(self) -> Tensor | None:
        num_bytes = self._weights.size * self._weights.dtype.itemsize
        ticket = self._call("open_mailbox", replica_id=self._replica_id)["ticket"]
        memory = open_shared_memory(ticket, num_bytes)
        if memory is None:
            return None
        memory.close_descriptor()
        return memory.tensor(self._weights.dtype, 0, self._weights.size)

    def _fill(self, shared_N: Tensor, *, judged: bool) -> Tensor:
        self._call("fill_mailbox", replica_id=self._replica_id, judged=judged)
        return shared_N

    def _read(self, *, judged: bool) -> bytearray:
        def read() -> bytearray:
            return gathered(self._server.read_chunks("weights", timeout_seconds=self._deadline_seconds, judged=judged))

        body = _persistently(read)
        self.num_bytes += len(body)
        return body

    def _call(self, name: str, **arguments: Any) -> Reply:
        seconds = self._deadline_seconds
        return _persistently(lambda: self._server.call(name, timeout_seconds=seconds, **arguments))


def _persistently(call: Callable[[], T]) -> T:
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        try:
            return call()
        except SunsparkError as error:
            if attempt == _MOST_ATTEMPTS:
                raise
            logger.warning("the parameter server does not answer, trying again: %s", error)
            time.sleep(_PAUSE_SECONDS)
    raise AssertionError
