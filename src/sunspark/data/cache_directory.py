"""Where a cache lies on local disk, for its owner's eyes only."""

import os
import stat
from pathlib import Path

from sunspark.errors import ConfigError
from sunspark.storage.temporary import temporary_directory


def prepare_directory(dataset_id: str, directory: str | None) -> Path:
    """Make the directory of a dataset, for its owner's eyes only."""
    try:
        if directory is None:
            base = Path(temporary_directory()) / f"sunspark-{os.geteuid()}"
            _make_private(base)
        else:
            base = Path(directory).absolute()
            base.mkdir(parents=True, exist_ok=True)
        path = base / dataset_id[:32]
        _make_private(path)
        (path / "locks").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the cache directory {directory or temporary_directory()} cannot be used: {error}; "
            "choose another cache_directory"
        ) from error
    return path


def _make_private(path: Path) -> None:
    """Make a directory that only its owner can enter; ConfigError when it is somebody else's."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()  # not what a link points to: in a shared place, anybody can put a link there
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(
            f"the cache directory {path} belongs to user {status.st_uid}, or is a link; you are user "
            f"{os.geteuid()}: choose another cache_directory"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)
