"""Real images for tests, where there are some: SUN397's layout, a part of its images, its official lists.

They are looked for in the folder `SUNSPARK_TEST_IMAGES`, else in `../shared/data` beside the checkout. A
test that needs them and finds none is skipped and says so.
"""

import functools
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[1]


def sun_open() -> Path:
    """The folder of `sun_open.tar`, unpacked once per machine: 3,003 images of 15 classes."""
    return _unpacked("sun_open.tar") / "sun_open"


def sun397_partitions() -> Path:
    """The folder of `sun397_partitions.tar.xz`: ClassName.txt and all ten partitions, without any image."""
    return _unpacked("sun397_partitions.tar.xz")


@functools.cache
def _unpacked(name: str) -> Path:
    archive = _find(name)
    stat = archive.stat()
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = (
        Path(tempfile.gettempdir()) / f"sunspark-test-images-{user}" / f"{stat.st_size}-{int(stat.st_mtime)}-{name}"
    )
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
            part.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _find(name: str) -> Path:
    places = [_CHECKOUT.parent / "shared" / "data"]
    if given := os.environ.get("SUNSPARK_TEST_IMAGES"):
        path = Path(given)
        places.insert(0, path if path.is_dir() else path.parent)
    for place in places:
        if (place / name).is_file():
            return place / name
    pytest.skip(f"{name} is not here; set SUNSPARK_TEST_IMAGES to the folder that holds it")
