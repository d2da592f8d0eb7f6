"""Which splits an image is in: by lists, as the source says, or by a hash of (seed, path).

A list holds one path a line, relative to the source, with or without a leading slash; of a table, also an absolute
path or a URI, as it stands there. An image may be in several splits or in none. Files of a set as the Hugging Face Hub
holds it name their split (`train-00000-of-00005.parquet`, `data/test/3.tar`); source of these rules: the Hub's
documentation, "File names and splits". So do folders with the classes in them (`train/CLASS`, `test/CLASS`).
Where no split is told, a part of each class is set aside as `test`; where
`train` alone is told, so it is if `test_fraction` is given.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sunspark.data.dataset import MAX_SPLITS
from sunspark.data.sources.listing import Found, is_image_name
from sunspark.data.sources.lists import SplitList, named_lists, numbered_lines, numbered_paths, partition_lists
from sunspark.data.sources.near_names import in_other_capitals
from sunspark.errors import ConfigError, SourceError, clipped, first_five, plural

DEFAULT_TEST_FRACTION = 0.2

_FIRST_SPLITS = ("train", "validation", "test")
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {keyword: split for split, keywords in _KEYWORDS.items() for keyword in keywords}
_SHARD = re.compile(r"(?:.*[^A-Za-z0-9_.])?([A-Za-z][A-Za-z0-9_.]*)-\d{5}-of-\d{5}\b.*")
logger = logging.getLogger(__name__)


def split_images(
    source: str,
    found: Found,
    label_of: Mapping[str, int],
    split_lists: Sequence[str],
    test_fraction: float | None,
    seed: int,
) -> tuple[tuple[str, ...], dict[str, int], float | None]:
    """Names of the splits, path -> bits, and the share that was split off for the test (None where it was not)."""
    own = {image.path: image.splits for image in found.images if image.splits}
    lists = partition_lists(found.lists)
    names = [*_in_order({name for splits in own.values() for name in splits}), *lists]
    lists |= named_lists(split_lists, taken=dict.fromkeys(names))
    names = list(dict.fromkeys([*names, *lists]))
    if len(names) > MAX_SPLITS:  # before each has a bit, in numbers as long as there are splits
        raise SourceError(
            f"{source} has {plural(len(names), 'split')} ({first_five(map(clipped, names))}), but a dataset holds "
            f"{MAX_SPLITS} at most; check the column of the splits, or give fewer lists"
        )
    if not names:
        share = float(DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction)
        split_names = ("train", "test") if share else ("train",)
        return split_names, stratified_splits(label_of, share, seed), share
    sets_aside = bool(test_fraction) and names == ["train"]
    if test_fraction is not None and not sets_aside:
        whence = "the splits come from lists" if lists else f"{source} names its splits"
        remedy = "leave it out, or ingest without the lists" if lists else "leave it out"
        raise ConfigError(f"test_fraction {test_fraction} has no effect: {whence} ({first_five(names)}); {remedy}")
    bit_of = {name: 1 << number for number, name in enumerate(names)}
    bits = {path: sum(bit_of[name] for name in splits) for path, splits in own.items()}
    for name, split_list in lists.items():
        for path in _listed_paths(source, name, split_list, label_of):
            bits[path] = bits.get(path, 0) | bit_of[name]
    if not partition_lists(found.lists):  # those of SUN397 leave out most images, on purpose
        _warn_of_none(source, names, label_of, bits)
    if test_fraction is None:
        return tuple(names), bits, None
    trained = {path: label for path, label in label_of.items() if bits.get(path)}
    return ("train", "test"), stratified_splits(trained, test_fraction, seed), float(test_fraction)


def split_of_file(path: str) -> str | None:
    """The split that the name of a file, or of a folder above it, tells; None where none does."""
    for part in reversed(path.split("/")):
        if match := _SHARD.fullmatch(part):
            return _SPLIT_OF.get(match[1].lower(), match[1])
        for word in re.split(r"[^a-z0-9]+", part.lower()):
            if word in _SPLIT_OF:
                return _SPLIT_OF[word]
    return None


def told_by_folders(found: Found) -> Found:
    """`train/beach/1.jpg`: where all images lie in folders of splits with folders of classes in them, both are told.

    Two splits at least, `train` among them: a single folder, or one beside others, is a class.
    """
    parts = [image.path.split("/", 2) for image in found.images]
    folders = {part[0] for part in parts}
    splits = {_SPLIT_OF.get(folder.lower()) for folder in folders}
    is_told = any(image.label is not None or image.splits is not None for image in found.images)
    if is_told or len(folders) < 2 or None in splits or "train" not in splits or any(len(part) < 3 for part in parts):
        return found
    images = [
        replace(image, label=part[1], splits=(_SPLIT_OF[part[0].lower()],))
        for image, part in zip(found.images, parts, strict=True)
    ]
    return replace(found, images=images)


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


def _warn_of_none(source: str, names: Sequence[str], label_of: Mapping[str, int], bits: Mapping[str, int]) -> None:
    """A word on the images that are in no split."""
    if others := [path for path in label_of if not bits.get(path)]:
        many = plural(len(others), f"image of {source} is", f"images of {source} are")
        hint = "" if "train" in names else "; list those to train with too (--split-list train=FILE)"
        logger.warning("%s in no split, for instance %s%s", many, others[0], hint)


def _in_order(names: Iterable[str]) -> list[str]:
    """train, validation, test, then others by name."""
    rank = {name: number for number, name in enumerate(_FIRST_SPLITS)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def _listed_paths(source: str, name: str, split_list: SplitList, label_of: Mapping[str, int]) -> list[str]:
    place = f"{split_list.place} ({name})"
    lines = [
        (number, f"/{line}" if line not in label_of and f"/{line}" in label_of else line)
        for number, line in numbered_paths(split_list.body, f"the split list {place}")
    ]
    if not lines:
        raise SourceError(f"the split list {place} is empty; it needs one path a line")
    missing = [(number, path) for number, path in lines if path not in label_of]
    if missing:
        written = dict(numbered_lines(split_list.body))
        named = first_five(f"{written[number]} (line {number})" for number, _ in missing)
        if len(missing) < len(lines) and missing == lines[: len(missing)] and not _name_files(missing):
            raise SourceError(
                f"the split list {place} begins with what is no path: {named}; a list has neither a header nor "
                "comments, so take that out"
            )
        which = "the one file" if len(lines) == 1 else f"{len(missing):,} of the {len(lines):,} files"
        are = "is no image" if len(missing) == 1 else "are not images"
        raise SourceError(
            f"{which} in the split list {place} {are} of {source}: {named}; "
            f"{_remedy(missing[-1][1], written[missing[-1][0]], label_of)}"
        )
    return [path for _, path in lines]


def _name_files(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether one of them looks like a path, though it may lead nowhere."""
    return any("/" in line or is_image_name(line) for _, line in lines)


def _remedy(line: str, written: str, label_of: Mapping[str, int]) -> str:
    """What to do about a line that names no image of a source, by its path and as written: it may nearly name one."""
    if line.replace("\\", "/") in label_of:
        return "write / in them for \\"
    if line.strip("\"'") in label_of:
        return "take the quotes away"
    slashed = written.replace("\\", "/")
    if before := next((mark for mark in re.finditer("/", slashed) if slashed[mark.end() :] in label_of), None):
        also = " and write / for \\" if slashed != written else ""
        return f"paths are relative to the source: leave {written[: before.end()]} out{also}"
    if behind := next((mark for mark in re.finditer(r"[\s,;]+", line) if line[: mark.start()] in label_of), None):
        return f"a line is a path and nothing else: take {line[behind.start() :]!r}, and its like, away"
    if pair := in_other_capitals([line], label_of):
        return f"names differ in capitals alone: write {pair[1]}"
    return "add the images, or take these lines out of the list"
