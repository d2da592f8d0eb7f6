"""One holder at a time of a directory."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from sunspark.errors import StorageError, SunsparkError, first_line_of
from sunspark.storage.filesystem import storage_errors
from sunspark.storage.uri import as_local_path
from sunspark.storage.writing import make_directory

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_GLANCE_SECONDS: Final = 0.5
"""More than `is_held` takes, which holds a lock itself to find out."""


@contextlib.contextmanager
def only_holder(directory: str, lock_name: str, refusal: SunsparkError) -> Iterator[None]:
    """Make `directory` and hold its lock `lock_name`; raises `refusal` where another holds it already.

    The lock goes with the process that holds it, however that ends; who is not killed takes its file away too, and the
    directory, if it was not there before and nothing is in it. Object stores, hdfs:// and some network file systems
    have no locks: there nobody is refused.
    """
    local = as_local_path(directory)
    was_there = local is not None and local.exists()
    if local is None:
        make_directory(directory)
        yield
        return
    path = local / lock_name
    with _locked(path, refusal):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
                if not was_there:
                    local.rmdir()


def is_held(directory: str, lock_name: str) -> bool:
    """Whether somebody holds the lock `lock_name` of `directory` now; False where there are no locks."""
    local = as_local_path(directory)
    if local is None:
        return False
    try:
        with open(local / lock_name) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(path: Path, refusal: SunsparkError) -> TextIO:
    """The lock's file, locked until it is closed. A holder that leaves may take the file away: then it is made anew."""
    deadline = time.monotonic() + _GLANCE_SECONDS
    while True:
        with storage_errors(str(path.parent)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = open(path, "a")  # noqa: SIM115
            except FileNotFoundError:  # whoever held it takes the folder away just now
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file_at(path, lock):
                return lock
            lock.close()
        except BlockingIOError:
            lock.close()
            if time.monotonic() > deadline:
                raise refusal from None
            time.sleep(0.05)
        except OSError as error:
            if error.errno in _NO_LOCKS_HERE:
                return lock
            lock.close()
            raise StorageError(f"{path.parent} cannot be locked: {first_line_of(error)}") from error


def _is_file_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
