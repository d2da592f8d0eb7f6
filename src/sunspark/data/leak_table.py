"""All exact copies that spoil what is learnt or measured, image by image (`leaks.py` finds them)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sunspark.data.dataset import Dataset
from sunspark.data.dropped import dropped_pairs
from sunspark.data.leaks import conflicting_pairs, contents_of, leaked_pairs, unpaired_splits


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakedImage:
    """An image of a training split, and its exact copy in a split it is tested on."""

    train: str
    test: str
    """The two splits."""
    path: str
    class_name: str
    copy: str
    """The path of the copy; the same where the image itself is in both splits."""
    copy_class: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ConflictingImage:
    """An image, and an exact copy of it under another class."""

    path: str
    class_name: str
    copy: str
    copy_class: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakTable:
    """The exact copies of a dataset that spoil what is learnt or measured."""

    dataset: str
    splits: tuple[str, ...]
    leaked: int
    """An image counts once for each pair of splits that it leaks across."""
    unpaired_splits: tuple[str, ...]
    """In these no leaks were looked for."""
    conflicting: int
    leaks_dropped: int
    """Images that --drop-leaks took out of training splits."""
    leaks: tuple[LeakedImage, ...]
    """All of them, by splits and path."""
    dropped: tuple[LeakedImage, ...]
    """What --drop-leaks took out, by splits and path; once for each pair of splits, as leaks are."""
    label_conflicts: tuple[ConflictingImage, ...]
    """All of them, by path."""


def leak_table(dataset: Dataset) -> LeakTable:
    """Every image that is trained on and judged by, and every one with a copy under another class."""
    index = dataset.read_index()
    contents = contents_of(index)
    leaks = _leaked_images(dataset, leaked_pairs(index, contents, dataset.split_names))
    conflicts = tuple(
        ConflictingImage(path=path, class_name=class_name, copy=copy, copy_class=copy_class)
        for path, class_name, copy, copy_class in _named(dataset, conflicting_pairs(index, contents))
    )
    return LeakTable(
        dataset=dataset.uri,
        splits=tuple(dataset.split_names),
        leaked=len(leaks),
        unpaired_splits=unpaired_splits(dataset.split_names),
        conflicting=len(conflicts),
        leaks_dropped=dataset.manifest.get("leaks_dropped", 0),
        leaks=leaks,
        dropped=dropped_leaks(dataset),
        label_conflicts=conflicts,
    )


def dropped_leaks(dataset: Dataset) -> tuple[LeakedImage, ...]:
    """What --drop-leaks took out of training splits, with its copies in their test splits, by splits and path."""
    return _leaked_images(dataset, dropped_pairs(dataset))


def _leaked_images(
    dataset: Dataset, found: Iterable[tuple[str, str, npt.NDArray[np.int64]]]
) -> tuple[LeakedImage, ...]:
    return tuple(
        LeakedImage(train=train, test=test, path=path, class_name=class_name, copy=copy, copy_class=copy_class)
        for train, test, pairs in found
        for path, class_name, copy, copy_class in _named(dataset, pairs)
    )


def _named(dataset: Dataset, pairs: npt.NDArray[np.int64]) -> Iterator[tuple[str, str, str, str]]:
    """For pairs of rows, int64 (M, 2): path and class of each of the two, by path."""
    columns = [
        column
        for rows in pairs.T
        for column in (dataset.paths.take(rows).to_pylist(), [dataset.classes[label] for label in dataset.labels[rows]])
    ]
    yield from sorted(zip(*columns, strict=True))
