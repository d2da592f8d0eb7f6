"""A barrier in memory that processes of one host share: POSIX semaphores, process-shared (glibc 2.30 or later).

The first rank waits for each of the others in turn, and then lets all of them go.

Cost: every member wakes once; nothing is sent. gloo's barrier, of log2(members) messages a member, each of them
received by a thread of gloo's that wakes the one that waits, takes ten times the processor time.
"""

import ctypes
import errno
import time
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor

from sunspark.parallel.shared_memory import SharedMemory

_LOOK_NANOSECONDS: Final = 50_000_000
_BYTES_PER_SEMAPHORE: Final = 64
"""A line of the processor's cache; sem_t has 32 at most."""
_libc: Any = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


@final
class Barrier:
    """Two semaphores for each member, in the last bytes of a shared memory: that it has come, and that it may go."""

    def __init__(self, memory: SharedMemory, num_members: int) -> None:
        size = 2 * num_members * _BYTES_PER_SEMAPHORE
        self._bytes: Tensor = memory.tensor(torch.uint8, memory.num_bytes - size, size)
        self._num_members = num_members

    @staticmethod
    def is_possible() -> bool:
        """Whether the system has semaphores that can be waited for by a clock that nobody sets."""
        return hasattr(_libc, "sem_clockwait")

    @staticmethod
    def end_after(num_bytes: int, num_members: int) -> int:
        """Bytes of a memory that holds `num_bytes`, and a barrier behind them."""
        return (-(-num_bytes // _BYTES_PER_SEMAPHORE) + 2 * num_members) * _BYTES_PER_SEMAPHORE

    def prepare(self) -> None:
        """By one member, before any other opens the memory."""
        for number in range(2 * self._num_members):
            if _libc.sem_init(self._address(number), 1, 0) != 0:
                raise OSError(ctypes.get_errno(), "sem_init")

    def wait(self, rank: int, look: Callable[[int], None]) -> None:
        """Until all members have come.

        `look` is called 20 times a second with the rank that is waited for; what it raises ends the wait, and the
        barrier is then of no use any more.
        """
        if rank != 0:
            self._post(2 * rank)
            self._take(2 * rank + 1, 0, look)
            return
        for other in range(1, self._num_members):
            self._take(2 * other, other, look)
        for other in range(1, self._num_members):
            self._post(2 * other + 1)

    def _post(self, number: int) -> None:
        if _libc.sem_post(self._address(number)) != 0:
            raise OSError(ctypes.get_errno(), "sem_post")

    def _take(self, number: int, rank: int, look: Callable[[int], None]) -> None:
        while True:
            moment = _Timespec(*divmod(time.clock_gettime_ns(time.CLOCK_MONOTONIC) + _LOOK_NANOSECONDS, 10**9))
            if _libc.sem_clockwait(self._address(number), time.CLOCK_MONOTONIC, ctypes.byref(moment)) == 0:
                return
            if (number_of_error := ctypes.get_errno()) not in (errno.ETIMEDOUT, errno.EINTR):
                raise OSError(number_of_error, "sem_clockwait")
            look(rank)

    def _address(self, number: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._bytes.data_ptr() + number * _BYTES_PER_SEMAPHORE)
