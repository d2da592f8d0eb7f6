"""Memory that worker processes of one host share, for tensors that need not travel then.

Anonymous (memfd): it has no name in a file system, needs no space in /dev/shm, which containers keep small, and is gone
with the last process that maps it, however that ends. A peer opens it through the creator's entry in /proc, which
the system allows to processes of the same user only. Where it does not, there is no shared memory, and no error.
"""

import contextlib
import mmap
import os
import secrets
import weakref
from typing import final

import torch
from torch import Tensor


@final
class SharedMemory:
    """`num_bytes` of memory, zero at first; as long as one of its tensors is in use, it stays."""

    def __init__(self, descriptor: int, num_bytes: int, ticket: str = "") -> None:
        self.ticket = ticket
        """What a peer needs to `open` it, for the creator; empty for the others."""
        self.num_bytes = num_bytes
        self._pages = mmap.mmap(descriptor, num_bytes)
        with contextlib.suppress(OSError):  # a kernel without large pages: only slower
            self._pages.madvise(mmap.MADV_HUGEPAGE)
        self._close_descriptor = weakref.finalize(self, os.close, descriptor)

    def tensor(self, dtype: torch.dtype, offset: int, size: int) -> Tensor:
        """A flat tensor over the bytes from `offset` on, shape (size,)."""
        return torch.frombuffer(self._pages, dtype=dtype, offset=offset, count=size)

    def close_descriptor(self) -> None:
        """From now on the ticket opens nothing, as when this object is gone; whoever has opened it keeps it."""
        self._close_descriptor()


def create_shared_memory(num_bytes: int) -> SharedMemory | None:
    """New shared memory; None where the system has none to give."""
    name = f"sunspark-{secrets.token_hex(16)}"
    try:
        descriptor = os.memfd_create(name)
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, num_bytes)
        return SharedMemory(descriptor, num_bytes, ticket=f"{os.getpid()} {descriptor} {name}")
    except (OSError, ValueError):
        os.close(descriptor)
        return None


def open_shared_memory(ticket: str, num_bytes: int) -> SharedMemory | None:
    """The shared memory of a peer; None where it cannot be opened: another host, container or user."""
    if not ticket:
        return None
    pid, number, name = ticket.split(" ")
    path = f"/proc/{int(pid)}/fd/{int(number)}"
    try:
        # In another container the path may lead anywhere; the name, drawn at random, says that it is the one meant.
        if not os.readlink(path).startswith(f"/memfd:{name} "):
            return None
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return SharedMemory(descriptor, num_bytes)
    except (OSError, ValueError):
        os.close(descriptor)
        return None
