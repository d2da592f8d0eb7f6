"""Images that a model is trained on and judged by: exact copies across a training split and its test split.

Two images are equal when what is *stored* of them is, byte for byte: then a network sees the same pixels, whatever
the files were called, whether they were PNG or BMP, and whatever their EXIF says. Equal files are equal here too.

A training split is one whose name begins with `train`; its test splits are those with `test`, `val` or `dev` in that
place: `train` and `val`, `Training_03` and `Testing_03`, `Train_bal` and `Test_bal`. Of other names nobody knows which
is which.

Cost: one pass over the hashes of the index, some 30 bytes a sample.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_TRAIN: Final = re.compile(r"train(ing)?", re.IGNORECASE)
_TEST: Final = re.compile(r"test(ing)?|valid(ation)?|val|dev", re.IGNORECASE)
_MOST_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Images of a training split that are in a split it is tested on, too."""

    train: str
    test: str
    """The two splits."""
    images: int
    """So many of the training split."""
    examples: tuple[tuple[str, str], ...]
    """The first of them: path in the training split, path of an equal image in the other (the same if in both)."""


def pairs_of(split_names: Sequence[str]) -> list[tuple[str, str]]:
    """(training split, test split), for all that belong together by their names."""
    rests = {name: name[found.end() :] for name in split_names if (found := _TRAIN.match(name))}
    return [
        (train, test)
        for train, rest in rests.items()
        for test in split_names
        if (found := _TEST.match(test)) and test[found.end() :] == rest
    ]


def find_leaks(index: pa.Table, split_names: Sequence[str]) -> tuple[Leak, ...]:
    """Every pair of splits that share images, with how many and some of them."""
    pairs = pairs_of(split_names)
    if not pairs:
        return ()
    contents, bits = contents_of(index), index.column("splits").to_numpy()
    found = []
    for train, test in pairs:
        rows = _leaked_rows(contents, bits, split_names, train, test)
        if len(rows):
            examples = _examples(index, contents, _rows(bits, split_names, test), rows[:_MOST_EXAMPLES])
            found.append(Leak(train=train, test=test, images=len(rows), examples=examples))
    return tuple(found)


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


def _examples(
    index: pa.Table, contents: npt.NDArray[np.int32], tested: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[tuple[str, str], ...]:
    paths = index.column("path")
    twin_of = dict(zip(contents[tested].tolist(), tested.tolist(), strict=True)) | {
        int(contents[row]): int(row) for row in np.intersect1d(rows, tested)
    }
    return tuple((paths[row].as_py(), paths[twin_of[int(contents[row])]].as_py()) for row in rows.tolist())


def _rows(bits: npt.NDArray[np.uint64], split_names: Sequence[str], split: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(bits & _bit(split_names, split)).astype(np.int64)


def _bit(split_names: Sequence[str], split: str) -> np.uint64:
    return np.uint64(1) << np.uint64(split_names.index(split))
