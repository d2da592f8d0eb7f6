"""NCCL, which sums between GPUs, with waits that end as gloo's do: at a deadline, or when the group is cut.

The communicator is torchft's: it does not block, so another thread can abort it. Left to itself, torch watches NCCL in
a thread that ends the process when a collective fails; in its blocking mode it does not, and whoever waits here looks
at the collective instead.
Cost: forming takes a second or more; an all-reduce is waited for by looking at it, every 0.2 ms.
"""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, final

import torch
from torch import Tensor
from torch._C._distributed_c10d import AllreduceOptions, Store, Work
from torchft.process_group import ProcessGroupNCCL

ENVIRONMENT: Final = {
    "TORCH_NCCL_BLOCKING_WAIT": "1",
    "TORCH_NCCL_NONBLOCKING_TIMEOUT": "60",  # seconds; nothing else ends a wait of NCCL's for a connection
}
"""Of the process, before its first group."""

_LOOK_SECONDS: Final = 0.0002


@final
class NcclGroup:
    """The NCCL side of one group. `abort` may be called from any thread, at any time; it is then of no more use."""

    def __init__(self) -> None:
        self._communicator: ProcessGroupNCCL | None = None
        self._collectives: Any = None
        self._lock = threading.Lock()
        """No look at a collective while it is being aborted: it would wait, and the whole interpreter with it."""
        self._is_aborted = False
        self._has_ended = threading.Event()
        self._under_way: dict[Work, Tensor] = {}
        """Kept as long as NCCL may write to their tensors."""

    def connect(self, store: Store, rank: int, world_size: int, timeout_seconds: float) -> None:
        """Meet the other members through `store`, and sum with them once. Raises RuntimeError when it is aborted."""
        communicator = ProcessGroupNCCL(timedelta(seconds=timeout_seconds))
        communicator._pg = communicator._create_pg(store, rank, world_size)
        with self._lock:
            if self._is_aborted:
                communicator.abort(errored=False)
                raise RuntimeError("the group was cut while NCCL connected")
            self._communicator = communicator
            self._collectives = communicator.parent
        options = AllreduceOptions()
        options.timeout = timedelta(seconds=timeout_seconds)
        self.allreduce([torch.zeros(1, device="cuda")], options).wait(options.timeout)

    def allreduce(self, tensors: Sequence[Tensor], options: AllreduceOptions) -> "NcclWork":
        """Begin to reduce the one tensor in `tensors`, as gloo's method of this name does."""
        self._refuse_if_aborted()
        work = self._collectives.allreduce(list(tensors), options)
        self._under_way[work] = tensors[0]
        return NcclWork(self, work, time.monotonic() + options.timeout.total_seconds())

    def abort(self) -> None:
        """End all collectives, here. Returns at once; it takes a while."""
        with self._lock:
            if self._is_aborted:
                return
            self._is_aborted = True
        threading.Thread(target=self._abort, daemon=True, name="nccl-abort").start()

    def has_ended(self, work: Work) -> bool:
        """Whether that collective has ended, well or badly."""
        with self._lock:
            if not self._is_aborted:
                return work.is_completed()
        return self._has_ended.is_set()

    def finish(self, work: Work) -> None:
        """Let what comes on the current stream come after `work`, which has ended. Raises RuntimeError if it failed."""
        self._refuse_if_aborted()
        work.wait()
        self._under_way.pop(work, None)

    def _refuse_if_aborted(self) -> None:
        if self._is_aborted:
            raise RuntimeError("NCCL was aborted")

    def _abort(self) -> None:
        if self._communicator is not None:
            self._communicator.abort(errored=False)
        self._under_way.clear()
        self._has_ended.set()


@final
class NcclWork:
    """A collective of NCCL, to be waited for as gloo's are: a wait may give up, and the collective goes on."""

    def __init__(self, group: NcclGroup, work: Work, deadline: float) -> None:
        self._group = group
        self._work = work
        self._deadline = deadline

    def is_completed(self) -> bool:
        """Whether waiting makes no sense any more."""
        return time.monotonic() > self._deadline or self._group.has_ended(self._work)

    def wait(self, timeout: timedelta) -> bool:
        """Wait until it has ended. Raises RuntimeError when it does not within `timeout`, or has failed."""
        give_up_at = time.monotonic() + timeout.total_seconds()
        while not self.is_completed():
            if time.monotonic() > give_up_at:
                raise RuntimeError("it has not ended yet")
            time.sleep(_LOOK_SECONDS)
        if not self._group.has_ended(self._work):
            raise RuntimeError("it did not end before its deadline")
        self._group.finish(self._work)
        return True
