"""What a killed process left in temporary folders is taken away by the next; what belongs to others stays."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sunspark.storage.temporary import temporary_folder

pytestmark = pytest.mark.timeout(120)

OWNER = """
import sys
from sunspark.storage.temporary import temporary_folder
with temporary_folder("owned-") as folder:
    (folder / "in-hand").write_text("rows")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_is_deleted_by_the_next_and_that_of_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert owner.stdout is not None
    theirs = Path(owner.stdout.readline().strip())
    other = tmp_path / "another-folder"
    other.mkdir()
    with temporary_folder("owned-") as mine, temporary_folder("owned-"):
        assert theirs.exists()
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
        assert theirs.exists()
        with temporary_folder("owned-"):
            assert mine.exists()
            assert not theirs.exists()
    assert list(tmp_path.iterdir()) == [other]


def test_folders_of_others_and_links_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs, target = tmp_path / "owned-theirs", tmp_path / "target"
    theirs.mkdir()
    target.mkdir()
    (tmp_path / "owned-link").symlink_to(target)
    with monkeypatch.context() as changed:
        user = os.geteuid()
        changed.setattr(os, "geteuid", lambda: user + 1)
        with temporary_folder("owned-"):
            pass
    assert theirs.exists()
    with temporary_folder("owned-"):
        assert not theirs.exists()
    assert target.exists()
