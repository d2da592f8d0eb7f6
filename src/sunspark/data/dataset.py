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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sunspark import storage
from sunspark.command_line import command
from sunspark.config import nearest_first
from sunspark.data.leaks import contents_of
from sunspark.errors import ConfigError, DatasetError, StorageError, first_five, first_line_of

FORMAT = "sunspark-dataset"
FORMAT_VERSION = 1
MAX_SPLITS = 64
MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.parquet"
QUARANTINE_NAME = "quarantine.parquet"
DATA_NAME = "data"

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

_MANIFEST_TYPES: Final = {
    "dataset_id": str,
    "listed": int,
    "images": int,
    "quarantined": int,
    "listing": str,
    "configuration": dict,
    "split_names": list,
    "classes": list,
    "files": dict,
    "blocks": list,
}
_MOST_NAME_BYTES: Final = 100
_FILE_TYPES: Final = {"size_bytes": int, "sha256": str}
_BLOCK_TYPES: Final = {"name": str, "rows": int, "size_bytes": int}


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
    _first_rows: list[int] = field(repr=False)
    """Of each block, and N."""

    @classmethod
    def open(cls, uri: str) -> Self:
        """Open a dataset and check that it is whole.

        Raises DatasetError when there is none, when its format version is another, when a file is missing,
        truncated or changed, or when its manifest says of the samples what the index does not.
        """
        manifest = read_manifest(uri)
        _check_files(uri, manifest)
        index = _read_index(uri, manifest, columns=["sample_id", "path", "label", "splits"])
        _check_account(uri, manifest, index)
        rows = [entry["rows"] for entry in manifest["blocks"]]
        return cls(
            uri=uri,
            id=manifest["dataset_id"],
            classes=tuple(manifest["classes"]),
            split_names=tuple(manifest["split_names"]),
            labels=_column(index, "label"),
            sample_ids=_column(index, "sample_id"),
            paths=index.column("path"),
            num_blocks=len(rows),
            manifest=manifest,
            _split_bits=_column(index, "splits"),
            _first_rows=[0, *itertools.accumulate(rows)],
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
        contents = contents_of(self.read_index())
        return int(np.isin(contents[self.rows(split)], contents[self.rows(other)]).sum())

    def path_of(self, row: int) -> str:
        """The path of a sample relative to the source it came from."""
        path: str = self.paths[row].as_py()
        return path

    def block_of(self, row: int) -> int:
        """The block that holds a row."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a dataset of {len(self)} samples")
        return bisect.bisect_right(self._first_rows, row) - 1

    def block_rows(self, block: int) -> range:
        """The rows that a block holds."""
        return range(self._first_rows[block], self._first_rows[block + 1])

    def read_index(self) -> pa.Table:
        """All that index.parquet says of the samples; DatasetError when it has changed."""
        return _read_index(self.uri, self.manifest, INDEX_SCHEMA.names)

    def read_block(self, block: int) -> Block:
        """Fetch a block with ranged reads; DatasetError when the file is not what the manifest says."""
        entry = self.manifest["blocks"][block]
        table = _read_table(
            storage.join(self.uri, entry["name"]),
            entry["size_bytes"],
            columns=["sample_id", "label", "image"],
        )
        if table.num_rows != entry["rows"]:
            raise DatasetError(_damaged(self.uri, f"{entry['name']} holds {table.num_rows} rows, not {entry['rows']}"))
        return Block(
            first_row=self.block_rows(block).start,
            sample_ids=_column(table, "sample_id"),
            labels=_column(table, "label"),
            images=table.column("image").to_pylist(),
        )


def read_quarantine(dataset: Dataset) -> list[Quarantined]:
    """The images that ingest could not take, sorted by path."""
    return parse_quarantine(dataset.uri, _read_unchanged(dataset.uri, dataset.manifest, QUARANTINE_NAME))


def parse_quarantine(uri: str, body: bytes) -> list[Quarantined]:
    """The rows of a quarantine table that lies at the dataset `uri`; DatasetError when it is damaged."""
    return [Quarantined(**row) for row in _parse_table(uri, body).to_pylist()]


def sample_id_of(path: str) -> int:
    """The 64-bit name of a sample: a hash of its relative path."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


def read_manifest(uri: str) -> dict[str, Any]:
    """The manifest of a finished dataset of this format version; DatasetError otherwise."""
    manifest_uri = storage.join(uri, MANIFEST_NAME)
    if not storage.exists(manifest_uri):
        if storage.exists(storage.join(uri, QUARANTINE_NAME)):
            remedy = f"if too many images were bad, `{command('inspect', uri, '--quarantine')}` names them"
        else:
            remedy = "check the path, or run `sunspark ingest` again"
        raise DatasetError(f"{uri} is not a finished dataset (it has no {MANIFEST_NAME}); {remedy}")
    try:
        manifest = storage.read_json(manifest_uri)
    except StorageError as error:
        raise DatasetError(_damaged(uri, str(error))) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DatasetError(f"{manifest_uri} does not belong to a sunspark dataset; check the path")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{uri} has format version {manifest.get('format_version')}, this sunspark reads version "
            f"{FORMAT_VERSION}; ingest the images again, or use the sunspark that wrote it"
        )
    lacking = next(_lacking(manifest), None)
    if lacking:
        raise DatasetError(_damaged(uri, f"{MANIFEST_NAME} has no proper {lacking}"))
    return manifest


def _lacking(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is missing in a manifest, or of another type, as dotted keys."""
    wrong = list(_wrong_keys(manifest, _MANIFEST_TYPES))
    if wrong:
        yield from wrong
        return
    for name in (INDEX_NAME, QUARANTINE_NAME):
        yield from (f"files.{name}.{key}" for key in _wrong_keys(manifest["files"].get(name), _FILE_TYPES))
    for number, block in enumerate(manifest["blocks"]):
        yield from (f"blocks.{number}.{key}" for key in _wrong_keys(block, _BLOCK_TYPES))


def _wrong_keys(body: object, types: Mapping[str, type]) -> Iterator[str]:
    values = body if isinstance(body, dict) else {}
    return (key for key, kind in types.items() if not isinstance(values.get(key), kind))


def _check_files(uri: str, manifest: dict[str, Any]) -> None:
    expected = {entry["name"]: entry["size_bytes"] for entry in manifest["blocks"]}
    expected |= {name: entry["size_bytes"] for name, entry in manifest["files"].items()}
    there = {entry.name: entry.size_bytes for entry in storage.list_directory(uri)}
    there |= {
        f"{DATA_NAME}/{entry.name}": entry.size_bytes for entry in storage.list_directory(storage.join(uri, DATA_NAME))
    }
    wrong = [
        f"{name} ({'missing' if name not in there else f'{there[name]} of {size} bytes'})"
        for name, size in expected.items()
        if there.get(name) != size
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DatasetError(_damaged(uri, f"{', '.join(wrong[:5])}{more}"))


def _damaged(uri: str, what: str) -> str:
    return (
        f"the dataset {uri} is not whole: {what}; "
        "copy it again from where it was whole, or delete it and run `sunspark ingest` again"
    )


def _check_account(uri: str, manifest: dict[str, Any], index: pa.Table) -> None:
    wrong = next(_contradictions(manifest, index), None)
    if wrong:
        raise DatasetError(_damaged(uri, f"{MANIFEST_NAME} does not fit {INDEX_NAME}: {wrong}"))


def _contradictions(manifest: Mapping[str, Any], index: pa.Table) -> Iterator[str]:
    """What the manifest says of the samples, and what the index does; some milliseconds for ten million rows."""
    num_rows, labels, splits = index.num_rows, _column(index, "label"), _column(index, "splits")
    blocks, images, listed, quarantined = (manifest[key] for key in ("blocks", "images", "listed", "quarantined"))
    rows = [block["rows"] for block in blocks]
    if not images == listed - quarantined == num_rows:
        yield f"{images} images, {listed} listed and {quarantined} quarantined, but {num_rows} rows"
    if sum(rows) != num_rows or min(rows, default=1) < 1:
        yield f"blocks of {first_five(map(str, rows))} rows, but {num_rows} rows"
    if len({block["name"] for block in blocks}) < len(blocks):
        yield f"{len(blocks)} blocks, of which some have the same file"
    if num_rows and not 0 <= labels.min() <= labels.max() < len(manifest["classes"]):
        yield f"{len(manifest['classes'])} classes, but labels from {labels.min()} to {labels.max()}"
    num_splits = int(splits.max()).bit_length() if num_rows else 0
    if num_splits > len(manifest["split_names"]):
        yield f"{len(manifest['split_names'])} splits, but samples in split number {num_splits}"


def _read_index(uri: str, manifest: dict[str, Any], columns: list[str]) -> pa.Table:
    index = _parse_table(uri, _read_unchanged(uri, manifest, INDEX_NAME), columns)
    pa.default_memory_pool().release_unused()  # Arrow would keep what parsing took, as much again
    return index


def _read_unchanged(uri: str, manifest: dict[str, Any], name: str) -> bytes:
    """The content of a file whose hash the manifest holds; DatasetError where it is another."""
    body = storage.read_bytes(storage.join(uri, name))
    if hashlib.sha256(body).hexdigest() != manifest["files"][name]["sha256"]:
        raise DatasetError(_damaged(uri, f"{name} has changed since it was written"))
    return body


def _read_table(uri: str, size_bytes: int, columns: list[str] | None = None) -> pa.Table:
    """A small Parquet file, fetched whole by ranged reads; page checksums are verified."""
    return _parse_table(uri, storage.read_whole(uri, size_bytes), columns)


def _parse_table(uri: str, body: Any, columns: list[str] | None = None) -> pa.Table:
    try:
        # Nothing is read ahead: a thread of Arrow's that held the buffer when Python ends would end it by SIGABRT.
        file = pq.ParquetFile(pa.BufferReader(body), pre_buffer=False, page_checksum_verification=True)
        return file.read(columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(_damaged(uri, first_line_of(error))) from error


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
