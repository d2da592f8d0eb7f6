"""A barrier in memory that processes of one host share: POSIX semaphores, process-shared (glibc 2.30 or later).

The first rank waits for each of the others in turn, and then lets all of them go. Beside the semaphores stand the
members' process ids, and whether one of them has given up: so who waits sees that it waits in vain.

Cost: every member wakes once; nothing is sent. gloo's barrier, of log2(members) messages a member, each of them
received by a thread of gloo's that wakes the one that waits, takes several times the processor time.
"""

import ctypes
import errno
import os
import time
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor

from sunspark.parallel.shared_memory import SharedMemory

_LOOK_NANOSECONDS: Final = 50_000_000
_LINE_BYTES: Final = 64
"""One of the processor's cache, for each semaphore; sem_t has 32 at most."""
_libc: Any = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


@final
class Barrier:
    """In the last bytes of a shared memory: two semaphores for each member (it has come, it may go), and the notes."""

    def __init__(self, memory: SharedMemory, num_members: int) -> None:
        size = Barrier._num_bytes(num_members)
        self._bytes: Tensor = memory.tensor(torch.uint8, memory.num_bytes - size, size)
        self._num_members = num_members
        notes = self._bytes[2 * num_members * _LINE_BYTES :].view(torch.int64)
        self._pids, self._has_broken = notes[:num_members], notes[num_members : num_members + 1]

    @staticmethod
    def is_possible() -> bool:
        """Whether the system has semaphores that can be waited for by a clock that nobody sets."""
        return hasattr(_libc, "sem_clockwait")

    @staticmethod
    def end_after(num_bytes: int, num_members: int) -> int:
        """Bytes of a memory that holds `num_bytes`, and a barrier behind them."""
        return -(-num_bytes // _LINE_BYTES) * _LINE_BYTES + Barrier._num_bytes(num_members)

    @staticmethod
    def _num_bytes(num_members: int) -> int:
        return (2 * num_members + -(-(num_members + 1) * 8 // _LINE_BYTES)) * _LINE_BYTES

    def prepare(self) -> None:
        """By one member, before any other opens the memory."""
        for number in range(2 * self._num_members):
            if _libc.sem_init(self._address(number), 1, 0) != 0:
                raise OSError(ctypes.get_errno(), "sem_init")

    def sign(self, rank: int) -> None:
        """Note this process as that member; all have done so before anybody waits."""
        self._pids[rank] = os.getpid()

    def give_up(self) -> None:
        """From now on nobody shall wait here."""
        self._has_broken[0] = 1

    def is_in_vain(self) -> bool:
        """Whether a member has given up, or its process is gone."""
        return bool(self._has_broken[0]) or not all(map(_is_alive, self._pids.tolist()))

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
        return ctypes.c_void_p(self._bytes.data_ptr() + number * _LINE_BYTES)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
