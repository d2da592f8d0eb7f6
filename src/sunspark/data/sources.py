"""Image sources: which images there are, their labels and their splits. No image is opened.

Two layouts:

* a folder of class folders: each folder directly in the source is a class, named after it, labels in
  the order of the names; the images may lie deeper;
* SUN397's: `ClassName.txt` holds one class a line (`/d/desert/sand`), and the line's number is the label. A
  class is named by its whole path after the letter, since leaf names such as `indoor` repeat.
  `Training_NN.txt` and `Testing_NN.txt` beside it are splits of those names.

A split list holds one path a line, relative to the source, with or without a leading slash. Where there is
no list, images are split by a hash of (seed, path), class by class. An image may be in several splits or in
none.

Source: Xiao et al., CVPR 2010, and the files of their release.
Cost: one recursive listing of the source; about 300 bytes of memory per image.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sunspark import storage
from sunspark.data.dataset import refuse_split_name
from sunspark.errors import ConfigError, SourceError, first_five

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
CLASS_LIST = "ClassName.txt"
DEFAULT_TEST_FRACTION = 0.2

_PARTITION_LIST = re.compile(r"^((?:Training|Testing)_\d+)\.txt$")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """One image of a source, not opened yet."""

    path: str
    """Relative to the source, parts separated by `/`."""
    label: int
    splits: int
    """Bit i is set when the image is in split i of the listing."""
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Everything there is to know about a source without opening an image."""

    source: str
    classes: tuple[str, ...]
    split_names: tuple[str, ...]
    images: tuple[ListedImage, ...]
    """Sorted by path."""
    test_fraction: float | None
    """The share that was split off for the test, None where the splits come from lists."""

    @property
    def fingerprint(self) -> str:
        """A hash over names, sizes, labels and splits: equal for two listings of the same images.

        Times are left out, so that a copied folder is the same; other pixels in a file of the same size are not seen.
        """
        digest = hashlib.sha256(repr((self.classes, self.split_names)).encode())
        for image in self.images:
            digest.update(f"\n{image.path}\0{image.size_bytes}\0{image.label}\0{image.splits}".encode())
        return digest.hexdigest()


def list_source(
    source: str,
    *,
    split_lists: Sequence[str] = (),
    test_fraction: float | None = None,
    seed: int = 0,
) -> Listing:
    """List the images of `source` with their labels and splits.

    `split_lists` holds `NAME=FILE` entries. `test_fraction` (0.2 when None) counts only where there is no
    list at all, and is refused elsewhere. Raises SourceError for a source that cannot be used as it is: no
    images, a class without images, a list that names files that do not exist.
    """
    files = _image_files(source)
    has_class_list = storage.exists(storage.join(source, CLASS_LIST))
    classes, label_of = _sun397_labels(source, files) if has_class_list else _folder_labels(source, files)
    lists = _partition_lists(source) if has_class_list else {}
    lists |= _named_lists(split_lists, taken=lists)
    if lists and test_fraction is not None:
        raise ConfigError(
            f"test_fraction {test_fraction} has no effect: the splits come from lists ({first_five(lists)}); "
            "leave it out, or ingest without the lists"
        )
    if lists:
        splits_of = _splits_from_lists(source, lists, label_of)
        split_names = tuple(lists)
    else:
        test_fraction = float(DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction)
        splits_of = stratified_splits(label_of, test_fraction, seed)
        split_names = ("train", "test") if test_fraction else ("train",)
    images = tuple(
        ListedImage(path=path, label=label, splits=splits_of.get(path, 0), size_bytes=files[path])
        for path, label in sorted(label_of.items())
    )
    return Listing(
        source=source,
        classes=classes,
        split_names=split_names,
        images=images,
        test_fraction=None if lists else test_fraction,
    )


def parse_class_list(body: bytes, name: str = CLASS_LIST) -> dict[str, str]:
    """SUN397's class list: directory (`d/desert/sand`) -> class name (`desert/sand`), in order of label."""
    classes: dict[str, str] = {}
    for directory in parse_path_list(body):
        first, _, rest = directory.partition("/")
        class_name = rest if len(first) == 1 and rest else directory
        if directory in classes or class_name in classes.values():
            raise SourceError(f"{name} names the class {class_name!r} twice; remove one of the lines")
        classes[directory] = class_name
    if not classes:
        raise SourceError(f"{name} names no class; it needs one line per class, such as /a/abbey")
    return classes


def parse_path_list(body: bytes) -> list[str]:
    """The lines of a list as relative paths: UTF-8 or Latin-1, any line ends, leading `/` or `./` removed."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = body.decode("latin-1")
    lines = (line.strip() for line in re.split(r"[\r\n]+", text))
    return [line.removeprefix("./").strip("/") for line in lines if line.strip("/")]


def is_hidden(path: str) -> bool:
    """Whether a relative path is none of ours: hidden, or what macOS leaves in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def stratified_splits(label_of: Mapping[str, int], test_fraction: float, seed: int) -> dict[str, int]:
    """path -> 1 (train) or 2 (test), the same for the same seed and paths.

    Each class gives the share nearest to `test_fraction`, but at least one image to each side if it has two.
    """
    if not 0 <= test_fraction < 1:
        raise ConfigError(f"test_fraction must be at least 0 and below 1, got {test_fraction}; use 0.2 for a fifth")
    paths_of: dict[int, list[str]] = defaultdict(list)
    for path, label in label_of.items():
        paths_of[label].append(path)
    splits: dict[str, int] = {}
    for paths in paths_of.values():
        paths.sort(key=lambda path: (_split_hash(seed, path), path))
        num_test = _num_test(len(paths), test_fraction)
        splits |= dict.fromkeys(paths[:num_test], 2) | dict.fromkeys(paths[num_test:], 1)
    return splits


def _num_test(num_images: int, test_fraction: float) -> int:
    if test_fraction == 0 or num_images < 2:
        return 0
    return min(max(round(num_images * test_fraction), 1), num_images - 1)


def _split_hash(seed: int, path: str) -> bytes:
    return hashlib.blake2b(f"split\0{seed}\0{path}".encode(), digest_size=16).digest()


def _image_files(source: str) -> dict[str, int]:
    """path -> bytes of every file that is named like an image; hidden files and folders are none of ours."""
    path = storage.as_local_path(source)
    if path is not None and path.is_file():
        raise SourceError(f"{source} is a file; give a folder of images (unpack an archive first)")
    entries = [entry for entry in storage.list_tree(source) if not entry.is_directory]
    if not entries and not storage.exists(source):
        raise SourceError(f"{source} does not exist; give the folder that holds the images")
    visible = [entry for entry in entries if not is_hidden(entry.name)]
    special = [entry.name for entry in visible if not entry.is_file]
    if special:
        logger.warning("left out, because no files (pipes, sockets, devices): %s", first_five(special))
    visible = [entry for entry in visible if entry.is_file]
    images = {entry.name: entry.size_bytes for entry in visible if entry.name.lower().endswith(IMAGE_SUFFIXES)}
    if not images:
        raise SourceError(
            f"{source} holds no images ({len(entries)} other files); it needs one folder per class with "
            f"files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    others = [entry.name for entry in visible if entry.name not in images and "/" in entry.name]
    if others:
        logger.warning(
            "%d files are not named like images and are left out, for instance %s; images end in %s",
            len(others), others[0], ", ".join(IMAGE_SUFFIXES),
        )  # fmt: skip
    return images


def _folder_labels(source: str, files: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Classes and path -> label of a folder of class folders."""
    loose = [path for path in files if "/" not in path]
    if loose:
        raise SourceError(
            f"{source} holds {len(loose)} images outside of any class folder ({first_five(loose)}); "
            "move each into the folder of its class"
        )
    entries = storage.list_directory(source)
    classes = tuple(entry.name for entry in entries if entry.is_directory and not is_hidden(entry.name))
    if all(len(name) == 1 for name in classes) and all(path.count("/") >= 2 for path in files):
        raise SourceError(
            f"{source} looks like SUN397 (folders {first_five(classes)}) but has no {CLASS_LIST}; "
            "put the release's ClassName.txt there: it gives the classes and the order of their labels"
        )
    number_of = {name: number for number, name in enumerate(classes)}
    label_of = {path: number_of[path.split("/", 1)[0]] for path in files}
    _refuse_empty_classes(source, classes, label_of)
    return classes, label_of


def _sun397_labels(source: str, files: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Classes in the order of ClassName.txt, and path -> label."""
    list_uri = storage.join(source, CLASS_LIST)
    names = parse_class_list(storage.read_bytes(list_uri), list_uri)
    number_of = {directory: number for number, directory in enumerate(names)}
    label_of: dict[str, int] = {}
    strangers: list[str] = []
    for path in files:
        directory = path.rpartition("/")[0]
        while directory and directory not in number_of:
            directory = directory.rpartition("/")[0]
        if directory:
            label_of[path] = number_of[directory]
        else:
            strangers.append(path)
    if strangers:
        raise SourceError(
            f"{len(strangers)} images lie in no class that {list_uri} names ({first_five(strangers)}); "
            "add their folders to it or move them away"
        )
    _refuse_empty_classes(source, tuple(names.values()), label_of)
    return tuple(names.values()), label_of


def _refuse_empty_classes(source: str, classes: Sequence[str], label_of: Mapping[str, int]) -> None:
    counts = Counter(label_of.values())
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise SourceError(
            f"{len(empty)} of the {len(classes)} classes of {source} have no images ({first_five(empty)}); "
            f"add images, or remove the empty folders (with {CLASS_LIST}: their lines)"
        )


def _partition_lists(source: str) -> dict[str, str]:
    """SUN397's official partitions: Training_01, Testing_01, ... -> URI, training before testing."""
    found: dict[str, str] = {}
    for entry in storage.list_directory(source):
        match = _PARTITION_LIST.match(entry.name)
        if match and not entry.is_directory:
            found[match.group(1)] = entry.uri
    return dict(sorted(found.items(), key=lambda item: (item[0].split("_")[1], item[0].startswith("Testing"))))


def _named_lists(split_lists: Sequence[str], taken: Mapping[str, str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for entry in split_lists:
        name, mark, uri = entry.partition("=")
        if not (name and mark and uri):
            raise ConfigError(f"a split list is given as NAME=FILE, got {entry!r}; for instance train=lists/train.txt")
        refuse_split_name(name)
        if name in named or name in taken:
            raise ConfigError(f"there are two lists for the split {name!r}; give {uri} another name")
        named[name] = uri
    return named


def _splits_from_lists(source: str, lists: Mapping[str, str], label_of: Mapping[str, int]) -> dict[str, int]:
    """path -> bits, one bit per list in the order of the lists."""
    splits: dict[str, int] = defaultdict(int)
    for number, (name, uri) in enumerate(lists.items()):
        paths = parse_path_list(_read_list(uri))
        if not paths:
            raise SourceError(f"the split list {uri} ({name}) is empty; it needs one path a line")
        missing = [path for path in paths if path not in label_of]
        if missing:
            raise SourceError(
                f"{len(missing)} of the {len(paths)} files in the split list {uri} ({name}) are not images "
                f"of {source}: {first_five(missing)}; add the images, or take these lines out of the list"
            )
        for path in paths:
            splits[path] |= 1 << number
    return splits


def _read_list(uri: str) -> bytes:
    if not storage.exists(uri):
        raise SourceError(f"the split list {uri} does not exist; check its path")
    return storage.read_bytes(uri)
