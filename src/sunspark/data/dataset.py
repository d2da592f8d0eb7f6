"""The dataset at rest: its format and its reader (`writer.py` beside this file writes it).

    DATASET/manifest.json              written last; what it does not name does not exist
    DATASET/index.parquet              one row per sample, in the dataset's order, without pixels
    DATASET/quarantine.parquet         path, stage and reason of every image that could not be taken, by path
    DATASET/data/block-NNNNNN-*.parquet   one block: one row group, one row per sample, JPEG bytes as they are
    DATASET/staging-*/                 images on their way into blocks while an ingest works here; gone at its end
    DATASET/.ingest.lock               held while an ingest works here; empty, no part of the dataset

Samples are sorted by a hash of (seed, path) and cut into blocks of a fixed count before anything is
decoded, so the layout depends on the list of images and the configuration, never on who wrote what. A
quarantined image leaves its block one sample shorter. The dataset id hashes the configuration and the
ordered (path, label, splits, hash of the stored image); file names, times and versions are not in it.

The splits of a sample are those in the index. A block repeats them as they were listed: with --drop-leaks the index has
lost the mark of a training split where its test split holds an equal image (`leaks.py`), the block has not. A byte of a
path that is no UTF-8 stands in letters: `\\xe9`. A quarantine table without a manifest says why there is no dataset.

Cost: opening reads the manifest and the index, over 100 bytes per sample, keeps 24 and the path of each, and lists one
directory; a block is one ranged read of about 8 MB at the default size, several of 8 to 16 MB when it is larger.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sunspark import storage
from sunspark.config import nearest_first
from sunspark.data.leaks import contents_of
from sunspark.data.manifest import (
    INDEX_NAME,
    QUARANTINE_NAME,
    check_account,
    check_files,
    damaged,
    read_manifest,
)
from sunspark.errors import ConfigError, DatasetError, StorageError, first_line_of

MAX_SPLITS = 64
INDEX_SCHEMA = pa.schema(
    [
        ("sample_id", pa.uint64()),
        ("path", pa.string()),
        ("label", pa.int32()),
        ("splits", pa.uint64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image_bytes", pa.int32()),
        ("image_hash", pa.binary(16)),
        ("source_format", pa.string()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_bytes", pa.int64()),
    ]
)
DATA_SCHEMA = INDEX_SCHEMA.append(pa.field("image", pa.binary()))
QUARANTINE_SCHEMA = pa.schema([("path", pa.string()), ("stage", pa.string()), ("reason", pa.string())])
_MOST_NAME_BYTES: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantined:
    """An image that could not be taken, and why."""

    path: str
    stage: str
    """Where it failed: read, sniff, size or decode."""
    reason: str


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """The samples of one block (n of them), everything as stored in its Parquet file."""

    first_row: int
    sample_ids: npt.NDArray[np.uint64]
    """uint64 (n,)"""
    labels: npt.NDArray[np.int32]
    """int32 (n,)"""
    images: list[bytes]
    """n JPEGs"""


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """A finished dataset of N samples, opened for reading; arrays are in its order and may not be written."""

    uri: str
    id: str
    """64 hexadecimal digits."""
    classes: tuple[str, ...]
    """The name of each label."""
    split_names: tuple[str, ...]
    labels: npt.NDArray[np.int32] = field(repr=False)
    """int32 (N,)"""
    sample_ids: npt.NDArray[np.uint64] = field(repr=False)
    """uint64 (N,), a hash of the relative path; no two are equal."""
    paths: pa.ChunkedArray = field(repr=False)
    """string (N,), relative to the source that the samples came from."""
    num_blocks: int
    manifest: dict[str, Any] = field(repr=False)
    """The content of manifest.json."""
    _split_bits: npt.NDArray[np.uint64] = field(repr=False)
    first_rows: list[int] = field(repr=False)
    """Of each block, and N."""

    @classmethod
    def open(cls, uri: str) -> Self:
        """Open a dataset and check that it is whole.

        Raises DatasetError when there is none, when its format version is another, when a file is missing,
        truncated or changed, or when its manifest says of the samples what the index does not.
        """
        manifest = read_manifest(uri)
        check_files(uri, manifest)
        index = _read_index(uri, manifest, columns=["sample_id", "path", "label", "splits"])
        check_account(uri, manifest, index)
        return cls(
            uri=uri,
            id=manifest["dataset_id"],
            classes=tuple(manifest["classes"]),
            split_names=tuple(manifest["split_names"]),
            labels=_column(index, "label"),
            sample_ids=_column(index, "sample_id"),
            paths=index.column("path"),
            num_blocks=len(manifest["blocks"]),
            manifest=manifest,
            _split_bits=_column(index, "splits"),
            first_rows=_first_rows(manifest),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: str, option: str = "--split") -> npt.NDArray[np.int64]:
        """The rows of a split, ascending: int64 (M,).

        DatasetError when there is no such split; `option` is what chose it.
        """
        if split not in self.split_names:
            there = nearest_first(split, self.split_names)
            hint = f"{option} names one of {there}" if there else f"it has none at all, for {option} to name"
            raise DatasetError(f"{self.uri} has no split {split!r}; {hint}")
        bit = np.uint64(1) << np.uint64(self.split_names.index(split))
        return np.flatnonzero(self._split_bits & bit).astype(np.int64)

    def num_shared(self, split: str, other: str) -> int:
        """How many images of `split` are in `other` too, themselves or as exact copies."""
        contents = contents_of(self.read_index(["image_hash"]))
        return int(np.isin(contents[self.rows(split)], contents[self.rows(other)]).sum())

    def path_of(self, row: int) -> str:
        """The path of a sample relative to the source it came from."""
        path: str = self.paths[row].as_py()
        return path

    def block_of(self, row: int) -> int:
        """The block that holds a row."""
        if not 0 <= row < self.first_rows[-1]:
            raise IndexError(f"row {row} of a dataset of {self.first_rows[-1]} samples")
        return bisect.bisect_right(self.first_rows, row) - 1

    def block_rows(self, block: int) -> range:
        """The rows that a block holds."""
        return range(self.first_rows[block], self.first_rows[block + 1])

    def read_index(self, columns: Sequence[str] = INDEX_SCHEMA.names) -> pa.Table:
        """What index.parquet says of the samples; DatasetError when it has changed."""
        return _read_index(self.uri, self.manifest, columns)

    def read_block(self, block: int) -> Block:
        """Fetch a block with ranged reads; DatasetError when the file is not what the manifest says.

        Where its file is gone, and the same dataset has been made there anew, its blocks are taken.
        """
        try:
            return _read_block(self.uri, self.manifest, block, self.first_rows[block])
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError) and (other := _made_anew(self.uri, self.manifest)):
                return _read_block(self.uri, other, block, self.first_rows[block])
            raise


def read_block_with(uri: str, row: int) -> Block:
    """The block that holds a row, of a dataset that is not opened: for who has little memory."""
    manifest = read_manifest(uri)
    first_rows = _first_rows(manifest)
    block = bisect.bisect_right(first_rows, row) - 1
    return _read_block(uri, manifest, block, first_rows[block])


def read_quarantine(dataset: Dataset) -> list[Quarantined]:
    """The images that ingest could not take, sorted by path."""
    return parse_quarantine(dataset.uri, _read_unchanged(dataset.uri, dataset.manifest, QUARANTINE_NAME))


def parse_quarantine(uri: str, body: bytes) -> list[Quarantined]:
    """The rows of a quarantine table that lies at the dataset `uri`; DatasetError when it is damaged."""
    return [Quarantined(**row) for row in _parsed(uri, QUARANTINE_NAME, body).to_pylist()]


def sample_id_of(path: str) -> int:
    """The 64-bit name of a sample: a hash of its relative path."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


def _read_index(uri: str, manifest: Mapping[str, Any], columns: Sequence[str]) -> pa.Table:
    index = _parsed(uri, INDEX_NAME, _read_unchanged(uri, manifest, INDEX_NAME), columns)
    pa.default_memory_pool().release_unused()  # Arrow would keep what parsing took, as much again
    return index


def _read_block(uri: str, manifest: Mapping[str, Any], block: int, first_row: int) -> Block:
    entry = manifest["blocks"][block]
    body = storage.read_whole(storage.join(uri, entry["name"]), entry["size_bytes"])
    table = _parsed(uri, entry["name"], body, ["sample_id", "label", "image"])
    if table.num_rows != entry["rows"]:
        raise DatasetError(damaged(uri, f"{entry['name']} holds {table.num_rows} rows, not {entry['rows']}"))
    return Block(
        first_row=first_row,
        sample_ids=_column(table, "sample_id"),
        labels=_column(table, "label"),
        images=table.column("image").to_pylist(),
    )


def _made_anew(uri: str, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest that is at `uri` now, if it names other files for the same samples in the same blocks."""
    try:
        other = read_manifest(uri)
    except DatasetError:
        return None
    is_same = other["dataset_id"] == manifest["dataset_id"] and _first_rows(other) == _first_rows(manifest)
    return other if is_same and other["blocks"] != manifest["blocks"] else None


def _first_rows(manifest: Mapping[str, Any]) -> list[int]:
    return [0, *itertools.accumulate(entry["rows"] for entry in manifest["blocks"])]


def _read_unchanged(uri: str, manifest: Mapping[str, Any], name: str) -> bytes:
    """The content of a file whose hash the manifest holds; DatasetError where it is another."""
    body = storage.read_bytes(storage.join(uri, name))
    if hashlib.sha256(body).hexdigest() != manifest["files"][name]["sha256"]:
        raise DatasetError(damaged(uri, f"{name} has changed since it was written"))
    return body


def _parsed(uri: str, name: str, body: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """The Parquet file of that name, or some columns of it; page checksums are verified."""
    try:
        # Nothing is read ahead: a thread of Arrow's that held the buffer when Python ends would end it by SIGABRT.
        file = pq.ParquetFile(pa.BufferReader(body), pre_buffer=False, page_checksum_verification=True)
        return file.read(columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(damaged(uri, f"{name}: {first_line_of(error)}")) from error


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column without nulls as a numpy array that may not be written."""
    values: npt.NDArray[Any] = table.column(name).to_numpy()
    values.flags.writeable = False
    return values


def refuse_split_name(name: str) -> None:
    """ConfigError when a split cannot have that name."""
    if "/" in name or name.startswith(".") or not name.isprintable() or len(name.encode()) > _MOST_NAME_BYTES:
        raise ConfigError(
            f"a split cannot be named {name[:_MOST_NAME_BYTES]!r}: results are written to files of its name, so that "
            "it may hold no / and no control characters, not start with a dot, and have no more than "
            f"{_MOST_NAME_BYTES} bytes; give it another name"
        )
