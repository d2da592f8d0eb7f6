"""Exact copies that spoil what is learnt or measured: across a training split and its test split, or under two classes.

Two images are equal when what is *stored* of them is, byte for byte: then a network sees the same pixels, whatever
the files were called, whether they were PNG or BMP, and whatever their EXIF says. Equal files are equal here too.

A training split is one whose name begins with `train`; its test splits are those with `test`, `val` or `dev` in that
place: `train` and `val`, `Training_03` and `Testing_03`, `Train_bal` and `Test_bal`. Where no names pair so and one
split alone is a training split, all others are its tests: `train` and `holdout`. Of other names nobody knows which is
which: no leaks are looked for there, and whoever tells of leaks says so.

Which images are equal is told by `contents_of`, once for all questions about an index; they take its answer.

Cost: one pass over the hashes of the index, some 30 bytes a sample, and one over its answer for each question.
Shapes: N samples, M pairs of rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sunspark.errors import first_five, printable

_TRAIN: Final = re.compile(r"train(ing)?", re.IGNORECASE)
_TEST: Final = re.compile(r"test(ing)?|valid(ation)?|val|dev", re.IGNORECASE)
_MOST_EXAMPLES = 5

Examples = tuple[tuple[str, str], ...]
"""Paths of images, each with that of an exact copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Images of a training split that are in a split it is tested on, too."""

    train: str
    test: str
    """The two splits."""
    images: int
    """So many of the training split."""
    examples: Examples
    """The first of them: path in the training split, path of an equal image in the other (the same if in both)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConflicts:
    """Images that have an exact copy under another class."""

    images: int
    examples: Examples
    """The first of them, and the copy."""


def training_splits(split_names: Sequence[str]) -> list[str]:
    """Those that are trained on, by their names."""
    return [name for name in split_names if _TRAIN.match(name)]


def pairs_of(split_names: Sequence[str]) -> list[tuple[str, str]]:
    """(training split, test split), for all that belong together by their names."""
    training = training_splits(split_names)
    if not (pairs := _pairs_by_ending(split_names)) and len(training) == 1:
        return [(training[0], test) for test in split_names if test != training[0]]
    return pairs


def unpaired_splits(split_names: Sequence[str]) -> tuple[str, ...]:
    """Those in which no leaks are looked for: by their names they are no training split with a test, and no test."""
    paired = {name for pair in pairs_of(split_names) for name in pair}
    return tuple(name for name in split_names if name not in paired)


def leaks_in_words(found: Sequence[str], unpaired: Sequence[str], split_names: Iterable[str]) -> str:
    """What is said of the leaks that were found, and of the splits in which none were looked for."""
    looked = "; ".join(found) or "none"
    if not unpaired:
        return looked
    if set(unpaired) == set(split_names):
        return "not looked for: no two splits are a training split and its test by their names"
    names = first_five(map(printable, unpaired))
    return f"{looked}; not looked for in {names}: by name in no pair of a training split and its test"


def _pairs_by_ending(split_names: Sequence[str]) -> list[tuple[str, str]]:
    rests = {name: name[found.end() :] for name in split_names if (found := _TRAIN.match(name))}
    return [
        (train, test)
        for train, rest in rests.items()
        for test in split_names
        if (found := _TEST.match(test)) and test[found.end() :] == rest
    ]


def find_leaks(index: pa.Table, contents: npt.NDArray[np.int32], split_names: Sequence[str]) -> tuple[Leak, ...]:
    """Every pair of splits that share images, with how many and some of them."""
    return tuple(
        Leak(train=train, test=test, images=len(pairs), examples=_examples(index, pairs))
        for train, test, pairs in leaked_pairs(index, contents, split_names)
    )


def find_label_conflicts(index: pa.Table, contents: npt.NDArray[np.int32]) -> LabelConflicts:
    """How many images have an exact copy under another class, and some of them."""
    pairs = conflicting_pairs(index, contents)
    once = pairs[pairs[:, 0] < pairs[:, 1]]
    _, first_of_copy = np.unique(once[:, 1], return_index=True)
    return LabelConflicts(images=len(pairs), examples=_examples(index, once[np.sort(first_of_copy)]))


def leaked_pairs(
    index: pa.Table, contents: npt.NDArray[np.int32], split_names: Sequence[str]
) -> Iterator[tuple[str, str, npt.NDArray[np.int64]]]:
    """For each pair of splits that share images, its names, the rows of the first that are in the second, their copies.

    The rows are int64 (M, 2); an image that is in both splits itself is its own copy.
    """
    bits = index.column("splits").to_numpy()
    for train, test in pairs_of(split_names):
        rows = _leaked_rows(contents, bits, split_names, train, test)
        if len(rows):
            tested = _rows(bits, split_names, test)
            copies = np.where(np.isin(rows, tested), rows, _first_rows(contents, tested)[contents[rows]])
            yield train, test, np.stack([rows, copies], axis=1)


def conflicting_pairs(index: pa.Table, contents: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The rows of all images that have an exact copy under another class, each with the first of those: (M, 2).

    Images in no split do not count.
    """
    labels = index.column("label").to_numpy()
    used = np.flatnonzero(index.column("splits").to_numpy())
    first_of_row = _first_rows(contents, used)[contents]
    others = _first_rows(contents, used[labels[used] != labels[first_of_row[used]]])
    rows = used[others[contents[used]] >= 0]
    is_of_the_first_class = labels[rows] == labels[first_of_row[rows]]
    return np.stack([rows, np.where(is_of_the_first_class, others[contents[rows]], first_of_row[rows])], axis=1)


def without_leaks(index: pa.Table, split_names: Sequence[str]) -> tuple[pa.Table, int]:
    """The index with every leaked image taken out of the training splits it leaks from, and how many those are."""
    contents, bits = contents_of(index), index.column("splits").to_numpy()
    kept = bits.copy()
    for train, test in pairs_of(split_names):
        rows = _leaked_rows(contents, bits, split_names, train, test)
        kept[rows] &= ~_bit(split_names, train)
    place = index.schema.get_field_index("splits")
    return index.set_column(place, index.schema.field(place), pa.array(kept, pa.uint64())), int(
        np.count_nonzero(kept != bits)
    )


def contents_of(index: pa.Table) -> npt.NDArray[np.int32]:
    """A number for each sample, equal where the stored images are: int32 (N,)."""
    hashes = index.column("image_hash").combine_chunks()
    numbers: npt.NDArray[np.int32] = hashes.dictionary_encode().indices.to_numpy()
    return numbers


def _leaked_rows(
    contents: npt.NDArray[np.int32], bits: npt.NDArray[np.uint64], split_names: Sequence[str], train: str, test: str
) -> npt.NDArray[np.int64]:
    tested = np.zeros(len(contents), bool)
    tested[contents[_rows(bits, split_names, test)]] = True
    rows = _rows(bits, split_names, train)
    return rows[tested[contents[rows]]]


def _first_rows(contents: npt.NDArray[np.int32], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """By the number of a content, the first of `rows` that has it; -1 where none has: int64 (N,)."""
    first = np.full(len(contents), -1, np.int64)
    first[contents[rows[::-1]]] = rows[::-1]  # of several for one place, the last stays
    return first


def _examples(index: pa.Table, pairs: npt.NDArray[np.int64]) -> Examples:
    paths = index.column("path")
    return tuple((paths[one].as_py(), paths[copy].as_py()) for one, copy in pairs[:_MOST_EXAMPLES].tolist())


def _rows(bits: npt.NDArray[np.uint64], split_names: Sequence[str], split: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(bits & _bit(split_names, split)).astype(np.int64)


def _bit(split_names: Sequence[str], split: str) -> np.uint64:
    return np.uint64(1) << np.uint64(split_names.index(split))
