"""A process opens an archive once, whatever the number of tasks that read it, and leaves none open behind another."""

import os
import random
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from sunspark.data.containers import read_in_order
from sunspark.data.sources import Scan
from sunspark.data.sources.archive import scan_archive
from sunspark.data.sources.listing import ListedImage
from sunspark.errors import StorageError

_READ = """
import sys
from tests.data.test_kept_archive import listed, read
images, index = listed(sys.argv[1])
print(len(read(images, index)))
"""


def write_archive(path: Path, seed: int, num_files: int = 40, level: int = 9) -> dict[str, bytes]:
    """Bytes that do not compress, so that the archive has places to begin at."""
    rng = random.Random(seed)
    bodies = {f"a/{number:03d}.jpg": rng.randbytes(300_000) for number in range(num_files)}
    with tarfile.open(path, "w:gz", compresslevel=level) as tar:
        for name, body in bodies.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, BytesIO(body))
    return bodies


def listed(path: str) -> tuple[list[ListedImage], bytes]:
    archive = scan_archive(path, Scan(size_bytes=os.path.getsize(path)), lambda *_: None, 1)
    images = [
        ListedImage(
            path=member.path,
            label=0,
            splits=0,
            size_bytes=member.size_bytes,
            container=archive.container,
            position=member.offset,
        )
        for member in archive.members.values()
    ]
    return images, archive.container.seek_index


def read(images: list[ListedImage], index: bytes) -> dict[str, bytes]:
    return {image.path: body for image, body in read_in_order(images, index) if isinstance(body, bytes)}


def descriptors(path: Path) -> list[str]:
    """Those of this process that are open on `path`."""
    names = os.listdir("/proc/self/fd")
    return [name for name in names if os.path.realpath(f"/proc/self/fd/{name}") == str(path.resolve())]


def test_many_tasks_read_an_archive_that_is_opened_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"
    bodies, others = write_archive(one, 1), write_archive(other, 2)
    images, index = listed(str(one))
    found: dict[str, bytes] = {}
    kept = set()
    for start in range(0, 40, 10):
        found |= read(images[start : start + 10], bytes(bytearray(index)))
        kept.add(tuple(descriptors(one)))
    assert found == bodies
    assert len(kept) == 1
    assert len(kept.pop()) == 1
    assert read(*listed(str(other))) == others
    assert (len(descriptors(one)), len(descriptors(other))) == (0, 1)


def test_an_archive_in_which_reading_failed_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    bodies = write_archive(path, 1)
    images, index = listed(str(path))
    assert read(images[:3], index).keys() == set(list(bodies)[:3])
    with path.open("r+b") as file:
        whole = file.read()
        file.seek(len(whole) // 2)
        file.write(bytes(4_000_000))
    with pytest.raises(StorageError, match=r"one\.tar\.gz"):
        read(images, index)
    assert descriptors(path) == []
    path.write_bytes(whole)
    assert read(images, index) == bodies


def test_an_archive_that_was_replaced_by_one_of_the_same_size_is_opened_anew(tmp_path: Path) -> None:
    """As between two ingests that the same process of Spark's works for; too small for an index of any content."""
    path, other = tmp_path / "one.tar.gz", tmp_path / "other" / "one.tar.gz"
    other.parent.mkdir()
    bodies, others = (write_archive(place, seed, 1, level=0) for seed, place in enumerate((path, other)))
    images, index = listed(str(path))
    assert read(images, index) == bodies
    os.utime(other, ns=(0, 10**18))
    other.replace(path)
    assert listed(str(path)) == (images, index)
    assert read(images, index) == others


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_shares_no_open_archive(tmp_path: Path) -> None:
    """Two processes would move the one place in it."""
    path = tmp_path / "one.tar.gz"
    bodies = write_archive(path, 1, 3)
    images, index = listed(str(path))
    read(images, index)
    child = os.fork()
    if child == 0:
        os._exit(len(descriptors(path)))
    assert os.waitpid(child, 0)[1] == 0
    assert read(images, index) == bodies


def test_who_stops_early_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    write_archive(path, 1)
    reading = read_in_order(*listed(str(path)))
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert descriptors(path) == []


def test_python_ends_in_peace_with_an_archive_kept_open(tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    write_archive(path, 1)
    done = subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "40\n", "")
