"""A worker's line to the parameter server. Calls are repeated while the driver lives: twice has the effect of once."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, final

from torch import Tensor

from sunspark.errors import SunsparkError
from sunspark.parallel.ledger import Evidence
from sunspark.parallel.rpc import Reply, RpcClient
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.mailbox import Mailbox
from sunspark.training.validator import Counts
from sunspark.training.wire import Wire, chunks_of, gathered

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PATIENCE: Final = 2
"""Deadlines for which a call is repeated; the pulse ends a process whose driver is silent before that."""
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
    """Asks, pulls and pushes for one worker. Raises what `RpcClient` does, when that goes on for two minutes."""

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
        self._mailbox: Mailbox | None = None
        """What is shared with the server, where that may be and can be."""
        self.outbox_N = weights.empty()
        """Where the change that is pushed next is to be written; the mailbox's, where there is one."""
        self._may_share_memory = may_share_memory and wire.is_plain
        self._persistently(self._renew_mailbox)

    def ask(self) -> Task | EvaluationPart | None:
        """What this worker is to do; None to ask again later."""
        reply = self._persistently(lambda: self._call("ask", replica_id=self._replica_id))
        if reply["do"] == "train":
            steps = range(reply["begin"], reply["end"])
            return Task(lease=reply["lease"], steps=steps, replica=reply["replica"])
        if reply["do"] == "evaluate":
            return EvaluationPart(part=reply["part"], num_parts=reply["num_parts"], step=reply["step"])
        return None

    def begin(self, task: Task) -> Literal["yes", "wait", "void"]:
        """Whether this worker may pull the parameters for `task` now; void when it is no longer its own."""
        answer: Literal["yes", "wait", "void"]
        answer = self._persistently(lambda: self._call("begin", lease=task.lease))["answer"]
        return answer

    def pull(self) -> Tensor:
        """The parameters, as `FlatWeights` has them; until something else is pulled."""
        return self._persistently(lambda: self._pull(judged=False), self._renew_mailbox)

    def pull_judged(self) -> Tensor:
        """The same of the network that is evaluated and kept."""
        return self._persistently(lambda: self._pull(judged=True), self._renew_mailbox)

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
        packed_E = None if self._mailbox is not None else self._wire.pack_update(self.outbox_N)
        reply = self._persistently(lambda: self._push(packed_E, what, when_sent), self._renew_mailbox)
        if reply["answer"] == "void":
            return 0
        self._wire.commit()
        return int(reply["workers"])

    def hand_in(self, part: EvaluationPart, counts: Counts) -> None:
        """Hand in what was counted."""
        counted = {"per_class": counts.per_class.tolist(), "loss": float(counts.loss)}
        self._persistently(lambda: self._call("hand_in_counts", part=part.part, step=part.step, **counted))

    def _pull(self, *, judged: bool) -> Tensor:
        if self._mailbox is not None:
            self._call("fill_mailbox", replica_id=self._replica_id, judged=judged)
            return self._mailbox.parameters_N
        chunks = self._server.read_chunks("weights", timeout_seconds=self._deadline_seconds, judged=judged)
        body = gathered(chunks)
        self.num_bytes += len(body)
        return self._wire.unpack_exact(body) if judged else self._wire.unpack_parameters(body)

    def _push(self, packed_E: Tensor | None, what: dict[str, Any], when_sent: Callable[[], None]) -> Reply:
        if packed_E is None and self._mailbox is not None:
            when_sent()
            return self._call("push_shared", **what)
        packed_E = self._wire.pack_update(self.outbox_N) if packed_E is None else packed_E
        self.num_bytes += packed_E.nbytes
        timing: dict[str, Any] = {"timeout_seconds": self._deadline_seconds, "when_sent": when_sent}
        return self._server.write_chunks("push", chunks_of(packed_E), **timing, **what)

    def _renew_mailbox(self) -> None:
        """Share other memory from now on, since a call that has failed here may still go on there."""
        if not self._may_share_memory:
            return
        self._mailbox = None  # should the reply be lost, the server has other memory than this worker
        ticket = self._call("open_mailbox", replica_id=self._replica_id)["ticket"]
        self._mailbox = Mailbox.open(ticket, self._weights)
        self._may_share_memory = self._mailbox is not None
        outbox_N = self._weights.empty() if self._mailbox is None else self._mailbox.change_N
        self.outbox_N = outbox_N.copy_(self.outbox_N)

    def _call(self, name: str, **arguments: Any) -> Reply:
        return self._server.call(name, timeout_seconds=self._deadline_seconds, **arguments)

    def _persistently(self, call: Callable[[], T], before_next: Callable[[], None] = lambda: None) -> T:
        give_up_at = time.monotonic() + _PATIENCE * self._deadline_seconds
        while True:
            try:
                return call()
            except SunsparkError as error:
                if time.monotonic() > give_up_at:
                    raise
                logger.warning("the parameter server does not answer, trying again: %s", error)
                time.sleep(_PAUSE_SECONDS)
            with contextlib.suppress(SunsparkError):  # the next call does without
                before_next()
