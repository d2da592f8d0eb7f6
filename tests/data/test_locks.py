"""Laws of the locks of a machine: who does not get one leaves nothing open."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from sunspark.data.locks import try_lock


def num_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_lock_that_is_not_had_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = try_lock(tmp_path / "lock")
    assert held is not None
    before = num_open_files()
    assert try_lock(tmp_path / "lock") is None
    assert num_open_files() == before

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="No locks available"):
        try_lock(tmp_path / "other lock")
    assert num_open_files() == before
    os.close(held)
