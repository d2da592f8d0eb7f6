"""The process group of one quorum: collectives that end at once when a peer is gone.

Tensors on the processor are gloo's, those on a GPU are NCCL's (`nccl.py`), whose members have both.

Gloo does not notice a lost peer by itself, and its `abort` does not wake a collective that waits. Shutting down the
group's connected sockets does nearly always (never the listening one: that aborts the process), and whoever cuts its
own makes its neighbours fail in turn. Where a wait goes on all the same, it is left behind.

Cost: forming takes a few milliseconds; an all-reduce sends 2 (n-1)/n of the bytes (ring).
"""

import contextlib
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import torch
from torch import Tensor
from torch._C._distributed_c10d import (
    AllgatherOptions,
    AllreduceOptions,
    AllToAllOptions,
    BarrierOptions,
    ProcessGroupGloo,
    ReduceOp,
    Work,
)

from sunspark.errors import DeadlineError, SunsparkError
from sunspark.parallel.barrier import Barrier
from sunspark.parallel.membership import Agreement, in_words
from sunspark.parallel.nccl import NcclGroup, NcclWork
from sunspark.parallel.rendezvous import POLL_SECONDS, GroupBrokenError, Rendezvous
from sunspark.parallel.rpc import RpcClient
from sunspark.parallel.shared_memory import SharedMemory, create_shared_memory, open_shared_memory
from sunspark.parallel.sockets import Socket, connected_sockets, shut_down, sockets_between

AnyWork = Work | NcclWork

_LOOK = timedelta(milliseconds=50)
_GIVE_UP_SECONDS = 0.3
_PROCESSOR = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Exchange:
    """Rows of bytes on their way between all members."""

    work: AnyWork
    received: list[Tensor]
    """What each member gave, in rank order, each of shape (bytes,), once `work` has ended."""


@dataclass(frozen=True, slots=True)
class _LeftBehind:
    """A backend that still waits for a peer that is gone."""

    backend: ProcessGroupGloo | None
    works: list[AnyWork]

    @property
    def have_ended(self) -> bool:
        return all(work.is_completed() for work in self.works)


_left_behind: list[_LeftBehind] = []


def in_plain_words(message: str) -> str:
    """What gloo says of a failure, without the line of its source and its advice."""
    first = message.strip().partition("\n")[0]
    return re.sub(r"^\[[^\]]+:\d+\] ", "", first).partition(" This is typically")[0].rstrip(".")


@final
class Group:
    """The collectives of one worker; formed again for every agreement that asks for it."""

    def __init__(
        self,
        coordinator: RpcClient,
        replica_id: str,
        host: str,
        *,
        device: torch.device = _PROCESSOR,
        may_share_memory: bool = True,
    ) -> None:
        """`host` is this worker's own address, to which gloo binds; `device` is where all members compute."""
        self._device = device
        self._may_share_memory = may_share_memory and device == _PROCESSOR
        self._coordinator = coordinator
        self._replica_id = replica_id
        self._host = host
        self._backend: ProcessGroupGloo | None = None
        self._nccl: NcclGroup | None = None
        self._sockets: set[Socket] = set()
        self._is_cut = threading.Event()
        self._lock = threading.Lock()
        self.failures = 0
        """Groups of this worker that broke; part of its position, so that all members form the next one together."""
        self.bytes_sent = 0
        """By all collectives of this worker so far; what travels in shared memory is not sent."""
        self.key = ""
        self.members: tuple[str, ...] = ()
        self._hosts: set[str] = set()
        self._num_memories = 0
        """That members of this group have asked for; all have asked equally often."""
        self._barrier: Barrier | None = None
        """In the last of them."""
        self._left: _LeftBehind | None = None

    @property
    def rank(self) -> int:
        return self.members.index(self._replica_id)

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to sum with."""
        return len(self.members) == 1

    @property
    def is_cut(self) -> bool:
        """Whether no collective of it will end any more."""
        return self._is_cut.is_set()

    def form(self, agreement: Agreement, timeout_seconds: float) -> None:
        """Connect to the members of `agreement`; nothing to do when they are connected already.

        Raises GroupBrokenError when a member is lost meanwhile, DeadlineError after `timeout_seconds`.
        """
        if agreement.group_key == self.key:
            if self._is_cut.is_set():
                raise GroupBrokenError(f"the group of {in_words(self.members)} was cut before the step began")
            return
        if self._barrier is not None:
            self._barrier.give_up()
        self._backend = None
        self._abort_nccl()
        self._nccl = None
        self._sockets = set()
        self._is_cut = threading.Event()
        self.key, self.members = agreement.group_key, agreement.replica_ids
        self._num_memories, self._barrier, self._left = 0, None, None
        self._hosts = {member.host for member in agreement.members}
        if agreement.world_size == 1:
            return
        try:
            self._backend = self._connect(agreement, timeout_seconds)
        finally:
            if self._backend is None:
                self.cut()

    def start_all_reduce(self, tensor: Tensor, timeout_seconds: float) -> AnyWork | None:
        """Begin to sum `tensor` over all members, in place. None where there is nobody to sum with.

        When the group breaks, the tensor may still be written to for a while, and must not be used again.
        """
        if self.is_alone:
            return None
        gloo = self._formed_backend()
        options = AllreduceOptions()
        options.reduceOp = ReduceOp.SUM
        options.timeout = timedelta(seconds=timeout_seconds)
        backend: Any = gloo if tensor.device == _PROCESSOR else self._nccl
        self.bytes_sent += 2 * tensor.nbytes * (len(self.members) - 1) // len(self.members)
        return self._start(lambda: backend.allreduce([tensor], options))

    def start_barrier(self, timeout_seconds: float) -> AnyWork | None:
        """Begin to wait until all members have come here. None where there is nobody else to wait for."""
        if self.is_alone:
            return None
        gloo, options = self._formed_backend(), BarrierOptions()
        options.timeout = timedelta(seconds=timeout_seconds)
        return self._start(lambda: gloo.barrier(options))

    def start_all_to_all(self, rows: Tensor, timeout_seconds: float) -> Exchange:
        """Begin to give row i of `rows`, shape (members, bytes), to member i.

        A collective on the processor, of two members at least. Raises GroupBrokenError.
        """
        options = AllToAllOptions()
        options.timeout = timedelta(seconds=timeout_seconds)
        gloo, received = self._formed_backend(), torch.empty_like(rows)
        self.bytes_sent += rows.nbytes * (len(self.members) - 1) // len(self.members)
        work = self._start(lambda: gloo.alltoall_base(received, rows, [], [], options))
        return Exchange(work, list(received))

    def start_all_gather(self, row: Tensor, timeout_seconds: float) -> Exchange:
        """Begin to give `row`, shape (1, bytes), to all members.

        A collective on the processor, of two members at least. Raises GroupBrokenError.
        """
        options = AllgatherOptions()
        options.timeout = timedelta(seconds=timeout_seconds)
        gloo, gathered = self._formed_backend(), [torch.empty_like(row) for _ in self.members]
        self.bytes_sent += row.nbytes * (len(self.members) - 1)
        work = self._start(lambda: gloo.allgather([gathered], [row], options))
        return Exchange(work, [one[0] for one in gathered])

    def _formed_backend(self) -> Any:
        if self._backend is None:
            raise GroupBrokenError(f"the group of {in_words(self.members)} has not formed")
        return self._backend

    def _start(self, collective: Callable[[], AnyWork]) -> AnyWork:
        try:
            return collective()
        except RuntimeError as error:
            self.cut()
            raise GroupBrokenError(f"a collective could not start: {error}") from error

    def wait(self, works: Sequence[AnyWork | None]) -> None:
        """Wait for all of `works`. Raises GroupBrokenError when one failed, and this group is then cut."""
        failure: RuntimeError | None = None
        for work in works:
            try:
                if work is not None and not self._wait_for_one(work):
                    self._leave_behind(works)
                    raise GroupBrokenError(f"a collective with {in_words(self.members)} did not end when it was cut")
            except RuntimeError as error:
                failure = failure or error
                self.cut()
        if failure is not None:
            cause = in_plain_words(str(failure))
            raise GroupBrokenError(f"a collective with {in_words(self.members)} failed: {cause}") from failure

    def meet(self, timeout_seconds: float) -> None:
        """Wait, in the memory that members share, until all have come here.

        Raises GroupBrokenError when one is gone; this group is then cut.
        """
        barrier, deadline = self._barrier, time.monotonic() + timeout_seconds
        if barrier is None:
            raise GroupBrokenError(f"{in_words(self.members)} share no memory")

        def look(missing: int) -> None:
            if barrier.is_in_vain():
                self.cut()
            if self.is_cut:
                raise GroupBrokenError(f"the group of {in_words(self.members)} broke while its members met")
            if time.monotonic() > deadline:
                self.cut()
                what = "come to meet the others" if self.rank == 0 else "say that all members have come"
                who = in_words([self.members[missing]])
                raise GroupBrokenError(f"{who} did not {what} within {timeout_seconds:g} s")

        barrier.wait(self.rank, look)

    def share_memory(self, num_bytes: int, timeout_seconds: float) -> SharedMemory | None:
        """New memory that all members see, and where they can `meet`.

        None where they are on several hosts or on GPUs, or cannot share memory. A collective: all members ask for the
        same. Raises GroupBrokenError.
        """
        if not self._may_share_memory or len(self._hosts) > 1:
            return None
        store = Rendezvous(self._coordinator, self.key, self._is_cut, timeout_seconds)
        self._num_memories += 1
        name = f"memory-{self._num_memories}/0"
        in_all = Barrier.end_after(num_bytes, len(self.members))
        memory: SharedMemory | None = None
        try:
            if self.rank == 0:
                memory = create_shared_memory(in_all) if Barrier.is_possible() else None
                if memory is not None:
                    Barrier(memory, len(self.members)).prepare()
                store.set(name, (memory.ticket if memory else "").encode())
            else:
                ticket = store.get(name).decode()
                memory = open_shared_memory(ticket, in_all) if Barrier.is_possible() else None
        except SunsparkError as error:
            self.cut()
            raise GroupBrokenError(f"no word of the memory that {in_words(self.members)} share: {error}") from error
        barrier = Barrier(memory, len(self.members)) if memory else None
        if barrier is not None:
            barrier.sign(self.rank)
        num_seen = torch.tensor([memory is not None], dtype=torch.int64)
        try:
            self.wait([self.start_all_reduce(num_seen, timeout_seconds)])
        finally:
            if memory is not None:
                memory.close_descriptor()
        if memory is None or int(num_seen) < len(self.members):
            return None
        self._barrier = barrier
        return memory

    def _wait_for_one(self, work: AnyWork) -> bool:
        """Whether `work` has ended; False when the group was cut and it goes on waiting all the same."""
        give_up_at = math.inf
        while True:
            try:
                work.wait(_LOOK)
                return True
            except RuntimeError:
                if work.is_completed():  # it failed, or ended just after the look did: the next one tells
                    work.wait(_LOOK)
                    return True
            if self._is_cut.is_set():
                give_up_at = min(give_up_at, time.monotonic() + _GIVE_UP_SECONDS)
            if time.monotonic() > give_up_at:
                return False

    def _leave_behind(self, works: Sequence[AnyWork | None]) -> None:
        """Gloo sometimes does not wake a wait whose connection is gone; its destructor would wait with it.

        So backend and works stay until they have ended, at the latest at the collective's own deadline.
        """
        _left_behind[:] = [left for left in _left_behind if not left.have_ended]
        if self._left is None:
            self._left = _LeftBehind(self._backend, [])
            self._backend = None
        self._left.works.extend(work for work in works if work is not None)
        if self._left not in _left_behind:
            _left_behind.append(self._left)

    def cut(self) -> None:
        """End every wait of this group here, from any thread, any number of times.

        Peers mostly notice; they must be told all the same, since gloo does not always wake their waits.
        """
        with self._lock:
            self.failures += not self._is_cut.is_set()
            self._is_cut.set()
        if (barrier := self._barrier) is not None:
            barrier.give_up()
        for connection in list(self._sockets):
            shut_down(connection)
        self._abort_nccl()

    def _abort_nccl(self) -> None:
        if (nccl := self._nccl) is not None:
            nccl.abort()

    def _connect(self, agreement: Agreement, timeout_seconds: float) -> ProcessGroupGloo:
        store, nccls_store = (
            Rendezvous(self._coordinator, agreement.group_key + part, self._is_cut, timeout_seconds)
            for part in ("", "/nccl")
        )
        rank = agreement.rank_of(self._replica_id)
        self._nccl = nccl = None if self._device == _PROCESSOR else NcclGroup()
        known = connected_sockets()
        outcome: queue.SimpleQueue[ProcessGroupGloo | Exception] = queue.SimpleQueue()

        def connect() -> None:
            options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
            options._devices = [ProcessGroupGloo.create_device(hostname=self._host)]
            options._timeout = timedelta(seconds=timeout_seconds)
            try:
                backend = ProcessGroupGloo(store, rank, agreement.world_size, options)
                if nccl is not None:
                    nccl.connect(nccls_store, rank, agreement.world_size, timeout_seconds)
                outcome.put(backend)
            except Exception as error:
                outcome.put(error)

        # In a thread of its own, because gloo waits for a peer's connection without a way to stop it.
        threading.Thread(target=connect, daemon=True, name="group-connect").start()
        result = self._await(outcome, timeout_seconds)
        self._sockets = sockets_between(agreement, known)
        if self._is_cut.is_set():
            self.cut()
        if isinstance(result, ProcessGroupGloo) and not self._is_cut.is_set():
            return result
        if store.missing_rank is not None:
            missing = self.members[store.missing_rank]
            raise DeadlineError(f"{in_words([missing])} did not come to its group within {timeout_seconds:g} s")
        raise GroupBrokenError(f"the group of {in_words(self.members)} did not form: {result}")

    def _await(
        self, outcome: "queue.SimpleQueue[ProcessGroupGloo | Exception]", timeout_seconds: float
    ) -> ProcessGroupGloo | Exception | None:
        deadline = time.monotonic() + timeout_seconds + 1
        while not self._is_cut.is_set():
            with contextlib.suppress(queue.Empty):
                return outcome.get(timeout=POLL_SECONDS)
            if time.monotonic() > deadline:
                self.cut()
                raise DeadlineError(
                    f"the group of {in_words(self.members)} did not form within {timeout_seconds:.0f} s"
                )
        return None
