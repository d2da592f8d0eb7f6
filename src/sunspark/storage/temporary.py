"""Where temporary files go, also when the disk is full, and who takes them away, also when their owner is killed.

`tempfile.gettempdir` tries to write, and on a full disk goes elsewhere or fails. Here nothing is written: what becomes
of a full disk is for whoever writes to decide.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def temporary_directory() -> str:
    """The first that may be written to of TMPDIR, TEMP, TMP, /tmp, /var/tmp; else what `tempfile` finds."""
    if tempfile.tempdir:
        return str(tempfile.tempdir)
    for folder in (*(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return tempfile.gettempdir()


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder of this process. Those of the same prefix whose processes were killed are deleted first.

    A folder is locked (flock) for as long as its process lives. Where the file system has no locks, nothing is
    deleted but one's own.
    """
    _delete_abandoned(prefix)
    folder, lock = _locked_folder(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(prefix: str) -> tuple[Path, int]:
    """A new folder and the open file that holds its lock; another one where it was deleted before it was locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=temporary_directory()))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # no locks here: nobody else has one either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _delete_abandoned(prefix: str) -> None:
    """Delete the folders of this user that nobody holds; what cannot be opened, locked or deleted stays."""
    for folder in Path(temporary_directory()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
