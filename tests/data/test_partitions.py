"""SUN397's ten official partitions, at their full size: 19,850 images on each side, 50 of each of 397 classes.

Once as they were published, where they are at hand (`tests/images.py`), and once made in their form, always. The
source is what people have: `SUN397.tar.gz`, here with empty images, and `Partitions.zip` beside it.
"""

import random
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sunspark.data.sources import list_source
from sunspark.data.sources.lists import parse_class_list, parse_path_list
from sunspark.errors import SourceError
from tests.images import sun397_partitions

NUM_CLASSES, NUM_PARTITIONS, NUM_EACH = 397, 10, 50
SPLITS = tuple(f"{half}_{number:02d}" for number in range(1, NUM_PARTITIONS + 1) for half in ("Training", "Testing"))

Lists = dict[str, bytes]


def made() -> Lists:
    """Lists in the form of the official ones: both kinds of line ends, leaf names that repeat, labels in any order."""
    rng = random.Random(397)
    leaves = ["", "/indoor", "/outdoor", "/exterior"]
    names = [f"{chr(97 + number % 26)}/place_{number // 4:03d}{leaves[number % 4]}" for number in range(NUM_CLASSES)]
    rng.shuffle(names)
    lists: Lists = {"ClassName.txt": "".join(f"/{name}\r\n" for name in names).encode()}
    lines: dict[str, list[str]] = defaultdict(list)
    for name in names:
        images = [f"/{name}/sun_{number:04x}.jpg" for number in range(100 + rng.randrange(20))]
        for number in range(1, NUM_PARTITIONS + 1):
            drawn = rng.sample(images, 2 * NUM_EACH)
            lines[f"Training_{number:02d}"] += drawn[:NUM_EACH]
            lines[f"Testing_{number:02d}"] += drawn[NUM_EACH:]
    for number, (split, paths) in enumerate(lines.items()):
        lists[f"{split}.txt"] = ("\r\n" if number % 2 else "\n").join([*paths, ""]).encode()
    return lists


def official() -> Lists:
    return {path.name: path.read_bytes() for path in sun397_partitions().iterdir() if path.suffix == ".txt"}


def published(folder: Path, lists: Lists) -> str:
    """SUN397.tar.gz with every image that a list names, empty, and Partitions.zip beside it."""
    paths = {path for name, body in lists.items() if name != "ClassName.txt" for path in parse_path_list(body)}
    with tarfile.open(folder / "SUN397.tar.gz", "w:gz", compresslevel=1) as tar:
        for path in sorted(paths):
            tar.addfile(tarfile.TarInfo(f"SUN397/{path}"))
    with zipfile.ZipFile(folder / "Partitions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in lists.items():
            archive.writestr(name, body)
    return str(folder / "SUN397.tar.gz")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lists_of", [made, pytest.param(official, marks=pytest.mark.laws)])
def test_all_ten_partitions_are_read_from_the_archive_as_published(
    lists_of: Callable[[], Lists], tmp_path: Path
) -> None:
    lists = lists_of()
    listing = list_source(published(tmp_path, lists))
    assert listing.classes == tuple(parse_class_list(lists["ClassName.txt"]).values())
    assert len(set(listing.classes)) == NUM_CLASSES
    assert listing.split_names == SPLITS
    paths = np.array([image.path for image in listing.images])
    labels = np.array([image.label for image in listing.images])
    bits = np.array([image.splits for image in listing.images])
    for number, split in enumerate(SPLITS):
        members = np.flatnonzero(bits >> number & 1)
        assert len(members) == NUM_CLASSES * NUM_EACH == 19_850
        assert paths[members].tolist() == sorted(parse_path_list(lists[f"{split}.txt"])), split
        assert np.bincount(labels[members]).tolist() == [NUM_EACH] * NUM_CLASSES, split
    for number in range(0, len(SPLITS), 2):
        assert not np.any(bits >> number & 3 == 3), "an image on both sides of a partition"


@pytest.mark.parametrize("kind", ["bomb", "damaged"])
def test_partitions_that_cannot_be_unpacked_are_refused(kind: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "Partitions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Training_01.txt", b"\n" * (70 * 2**20 if kind == "bomb" else 100_000))
    if kind == "damaged":
        body = bytearray((tmp_path / "Partitions.zip").read_bytes())
        body[60:70] = b"\xff" * 10
        (tmp_path / "Partitions.zip").write_bytes(body)
    with tarfile.open(tmp_path / "SUN397.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("SUN397/a/abbey/sun_0.jpg"))
    with pytest.raises(SourceError, match=r"Partitions\.zip of .* cannot be read"):
        list_source(str(tmp_path / "SUN397.tar"))
