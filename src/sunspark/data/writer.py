"""Writing a dataset: blocks first, each on its own; then index, quarantine table and, last, the manifest.

Blocks are written by the tasks of an engine (or, by `write_dataset`, in this process) under names that no other
attempt uses, and nothing refers to them until `finish_dataset` has been given what `write_block` handed
back. So a killed, repeated or speculative attempt leaves at most a file that no dataset knows.

Cost: a block takes seven times its size while it is written (about 60 MB at the default size): the JPEGs, and copies of
them in Arrow's and Parquet's buffers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from sunspark import storage
from sunspark.data.dataset import (
    DATA_SCHEMA,
    INDEX_SCHEMA,
    MAX_SPLITS,
    QUARANTINE_SCHEMA,
    Dataset,
    Quarantined,
    refuse_split_name,
    sample_id_of,
)
from sunspark.data.leaks import without_leaks
from sunspark.data.manifest import (
    DATA_NAME,
    FORMAT,
    FORMAT_VERSION,
    INDEX_NAME,
    MANIFEST_NAME,
    QUARANTINE_NAME,
    wrong_files,
)
from sunspark.errors import ConfigError, SourceError, StorageError, first_five

ItemT = TypeVar("ItemT")

_MAX_BLOCK_BYTES = 2**31 - 1
_HASHED_ROWS = 65_536  # as Python objects at once
_BLOCK_FILE = re.compile(r"block-\d{6,}-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSample:
    """One sample as it is written: its JPEG and what is known about where it came from."""

    path: str
    """Relative to the source, parts separated by `/`; of a table: as it stands there. Names the sample for ever."""
    label: int
    splits: int
    """Bit i is set when the sample is in split i of the dataset."""
    image: bytes
    width: int
    height: int
    source_format: str
    source_width: int
    source_height: int
    source_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenBlock:
    """What a writer hands back about one block: small, whatever the size of the images."""

    block: int
    name: str
    """Of the file, relative to the dataset; unique to this attempt. Empty when the block has no samples."""
    size_bytes: int
    num_samples: int
    index: bytes
    """Its rows of the index, as an Arrow IPC stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What makes a dataset the one it is, apart from its images."""

    classes: tuple[str, ...]
    split_names: tuple[str, ...]
    configuration: dict[str, int | float | None]
    """Every setting that changes the stored bytes or their order."""
    num_listed: int
    source: str = ""
    """Where the images came from; for people, not part of the id."""
    listing: str = ""
    """Fingerprint of the list of images: recognises a second ingest of the same."""
    drop_leaks: bool = False
    """Take out of each training split what its test split holds too; part of the id by what it does to the splits."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What lies in the source and was left out unopened, kind -> how many; for people, not part of the id."""

    def __post_init__(self) -> None:
        _check_names("class", self.classes)
        _check_names("split", self.split_names)
        for name in self.split_names:
            refuse_split_name(name)
        if len(self.split_names) > MAX_SPLITS:
            raise ConfigError(
                f"{len(self.split_names)} splits, but a dataset holds {MAX_SPLITS} at most; give fewer lists"
            )


def order_key(seed: int, path: str) -> tuple[bytes, str]:
    """Sorting by this key gives the dataset's order, which mixes the classes."""
    return hashlib.blake2b(f"{seed}\0{path}".encode(), digest_size=16).digest(), path


def in_blocks(items: Iterable[ItemT], path_of: Callable[[ItemT], str], seed: int, block_size: int) -> list[list[ItemT]]:
    """The items of each block, in the dataset's order; the last block may be smaller."""
    ordered = sorted(items, key=lambda item: order_key(seed, path_of(item)))
    return [ordered[start : start + block_size] for start in range(0, len(ordered), block_size)]


def refuse_equal_ids(paths: Sequence[str]) -> None:
    """SourceError when two paths are equal or share their 64-bit hash.

    By chance, among 100,000 images, once in four billion sets.
    """
    seen: dict[int, str] = {}
    for path in paths:
        sample_id = sample_id_of(path)
        if sample_id in seen:
            raise SourceError(f"{seen[sample_id]} and {path} get the same sample id; rename or remove one of them")
        seen[sample_id] = path


def write_dataset(
    uri: str,
    samples: Iterable[tuple[str, int, Sequence[str], bytes]],
    *,
    classes: Sequence[str],
    split_names: Sequence[str] = ("train", "test"),
    seed: int = 0,
    block_size: int = 256,
) -> Dataset:
    """Make a dataset in this process, without Spark, from (path, label, names of its splits, JPEG).

    For small sets and tests. The JPEGs are stored as they are. Everything is held in memory while it is put
    in order.
    """
    bit_of = {name: 1 << number for number, name in enumerate(split_names)}
    stored = [
        _stored_as_is(path, label, sum(bit_of[name] for name in set(splits)), image)
        for path, label, splits, image in samples
    ]
    refuse_equal_ids([sample.path for sample in stored])
    recipe = Recipe(
        classes=tuple(classes),
        split_names=tuple(split_names),
        configuration={"seed": seed, "block_size": block_size},
        num_listed=len(stored),
    )
    in_order = in_blocks(stored, lambda sample: sample.path, seed, block_size)
    blocks = [write_block(uri, number, block) for number, block in enumerate(in_order)]
    return finish_dataset(uri, recipe, blocks, [])


def write_block(uri: str, block: int, samples: Sequence[StoredSample]) -> WrittenBlock:
    """Write one block under a name that no other attempt uses; `finish_dataset` makes it count."""
    index = _index_table(samples)
    if not samples:
        return WrittenBlock(block=block, name="", size_bytes=0, num_samples=0, index=_to_stream(index))
    num_bytes = sum(len(sample.image) for sample in samples)
    if num_bytes > _MAX_BLOCK_BYTES:
        raise ConfigError(f"a block of {len(samples)} images has {num_bytes} bytes, more than 2 GiB; lower block_size")
    images = pa.array([sample.image for sample in samples], type=pa.binary())
    body = _to_parquet(index.append_column(DATA_SCHEMA.field("image"), images))
    name = f"{DATA_NAME}/{storage.attempt_name(f'block-{block:06d}', '.parquet')}"
    storage.write_bytes_atomic(storage.join(uri, name), body)
    return WrittenBlock(block=block, name=name, size_bytes=len(body), num_samples=len(samples), index=_to_stream(index))


def is_block_file(name: str) -> bool:
    """Whether only `write_block` gives a file in `data/` such a name: a block, or one that was being written."""
    return _BLOCK_FILE.fullmatch(storage.final_name(name) or name) is not None


def finish_dataset(
    uri: str, recipe: Recipe, blocks: Iterable[WrittenBlock], quarantine: Sequence[Quarantined]
) -> Dataset:
    """Write index, quarantine table and, last, the manifest; then open the dataset, which checks it.

    Nothing is written where blocks are gone that the manifest would name (StorageError), as those of an ingest that
    slept for a day, and was taken for dead: a dataset that another has made there meanwhile stays whole.
    """
    kept = [block for block in sorted(blocks, key=lambda block: block.block) if block.num_samples]
    index = pa.concat_tables([_index_table([]), *(_from_stream(block.index) for block in kept)])
    index, num_dropped = without_leaks(index, recipe.split_names) if recipe.drop_leaks else (index, 0)
    _check_account(recipe, index, quarantine)
    named = [{"name": block.name, "rows": block.num_samples, "size_bytes": block.size_bytes} for block in kept]
    if lost := wrong_files(uri, {"blocks": named, "files": {}}):
        raise StorageError(
            f"{uri} lacks blocks that this ingest wrote: {first_five(lost)}; another one may have taken it for dead, "
            "or somebody deletes files there; start again"
        )
    bodies = {INDEX_NAME: _to_parquet(index), QUARANTINE_NAME: _quarantine_body(quarantine)}
    for name, body in bodies.items():
        storage.write_bytes_atomic(storage.join(uri, name), body)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "dataset_id": dataset_id_of(recipe, index),
        "listed": recipe.num_listed,
        "images": index.num_rows,
        "quarantined": len(quarantine),
        "leaks_dropped": num_dropped,
        "left_out": dict(recipe.left_out),
        "source": recipe.source,
        "listing": recipe.listing,
        "configuration": recipe.configuration,
        "split_names": list(recipe.split_names),
        "classes": list(recipe.classes),
        "files": {
            name: {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in bodies.items()
        },
        "blocks": named,
    }
    storage.write_json_atomic(storage.join(uri, MANIFEST_NAME), manifest)
    return Dataset.open(uri)


def write_quarantine(uri: str, quarantine: Iterable[Quarantined]) -> None:
    """Leave the table alone: for whoever asks why there is no dataset at `uri`."""
    storage.write_bytes_atomic(storage.join(uri, QUARANTINE_NAME), _quarantine_body(quarantine))


def dataset_id_of(recipe: Recipe, index: pa.Table) -> str:
    """Hash of the configuration and of (path, label, splits, image hash) of each sample, in order."""
    head = {
        "classes": recipe.classes,
        "split_names": recipe.split_names,
        "configuration": recipe.configuration,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for batch in index.select(["path", "label", "splits", "image_hash"]).to_batches(_HASHED_ROWS):
        for path, label, splits, image_hash in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(f"\n{path}\0{label}\0{splits}\0{image_hash.hex()}".encode())
    return digest.hexdigest()


def _check_names(kind: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ConfigError(f"the {kind} {repeated[0]!r} is named twice; give each {kind} a name of its own")
    if "" in names:
        raise ConfigError(f"a {kind} has an empty name; give it one")


def _check_account(recipe: Recipe, index: pa.Table, quarantine: Sequence[Quarantined]) -> None:
    """Accepted plus quarantined is listed, always; every label has a class and every bit a split."""
    account = (index.num_rows, len(quarantine), recipe.num_listed)
    assert account[0] + account[1] == account[2], account
    labels, splits = index.column("label").to_numpy(), index.column("splits").to_numpy()
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(recipe.classes):
        raise ConfigError(
            f"labels run from {labels.min()} to {labels.max()}, but there are {len(recipe.classes)} classes"
        )
    assert not any(int(bits) >> len(recipe.split_names) for bits in np.unique(splits)), recipe.split_names


def _stored_as_is(path: str, label: int, splits: int, image: bytes) -> StoredSample:
    height, width, _, _ = simplejpeg.decode_jpeg_header(image)
    return StoredSample(
        path=path,
        label=label,
        splits=splits,
        image=image,
        width=width,
        height=height,
        source_format="JPEG",
        source_width=width,
        source_height=height,
        source_bytes=len(image),
    )


def _index_table(samples: Sequence[StoredSample]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "sample_id": [sample_id_of(sample.path) for sample in samples],
        "image_bytes": [len(sample.image) for sample in samples],
        "image_hash": [hashlib.blake2b(sample.image, digest_size=16).digest() for sample in samples],
    }
    for name in INDEX_SCHEMA.names:
        columns.setdefault(name, [getattr(sample, name, None) for sample in samples])
    return pa.table(columns, schema=INDEX_SCHEMA)


def _quarantine_body(quarantine: Iterable[Quarantined]) -> bytes:
    ordered = sorted(quarantine, key=lambda entry: entry.path)
    columns = {name: [getattr(entry, name) for entry in ordered] for name in QUARANTINE_SCHEMA.names}
    return _to_parquet(pa.table(columns, schema=QUARANTINE_SCHEMA))


def _to_parquet(table: pa.Table) -> bytes:
    """One row group, PLAIN, uncompressed: JPEG does not compress, and a block is read whole."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=max(table.num_rows, 1),
        compression="none",
        use_dictionary=False,
        column_encoding="PLAIN",
        write_statistics=False,
        write_page_checksum=True,
    )
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _to_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _from_stream(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(body).read_all()
