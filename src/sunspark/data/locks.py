"""Locks that all processes of a machine see: flock on a file, which ends with the process that holds it."""

import contextlib
import fcntl
import os
import socket
import threading
import time
from pathlib import Path

from sunspark.errors import DeadlineError, StorageError

_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.002, 0.05


def try_lock(path: Path) -> int | None:
    """The open file that holds the lock, close it to let go; None when somebody else has it, OSError without locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):  # only for the message of whoever waits
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return descriptor


def wait_for_lock(path: Path, what: str, deadline_seconds: float, closing: threading.Event) -> int:
    """The open file that holds the lock on `what`, once nobody else has it.

    Raises DeadlineError, which says who holds it, or StorageError as soon as `closing` is set.
    """
    poll_seconds, give_up_at = _FIRST_POLL_SECONDS, time.monotonic() + deadline_seconds
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() >= give_up_at:
            raise DeadlineError(
                f"waited {deadline_seconds:g} s for the lock on {what} ({path}), held by "
                f"{_holder_of(path)}; end that process if it hangs, or choose another cache_directory"
            )
        if closing.wait(poll_seconds):
            raise StorageError(f"the cache was closed while waiting for {what}")
        poll_seconds = min(2 * poll_seconds, _LAST_POLL_SECONDS)
    return descriptor


def _holder_of(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace") or "an unknown process"
    return "an unknown process"
