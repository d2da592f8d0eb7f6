"""The manifest of a dataset: what it says, and whether files and index are as it says.

It is written last: what it does not name does not exist. `dataset.py` beside this file tells the whole format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from sunspark import storage
from sunspark.command_line import command
from sunspark.errors import DatasetError, StorageError, first_five

FORMAT = "sunspark-dataset"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.parquet"
QUARANTINE_NAME = "quarantine.parquet"
DATA_NAME = "data"

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
_NEWER_TYPES: Final = {"leaks_dropped": int, "left_out": dict}
"""Missing in datasets of older versions."""
_FILE_TYPES: Final = {"size_bytes": int, "sha256": str}
_BLOCK_TYPES: Final = {"name": str, "rows": int, "size_bytes": int}


def read_manifest(uri: str) -> dict[str, Any]:
    """The manifest of a finished dataset of this format version; DatasetError otherwise."""
    manifest_uri = storage.join(uri, MANIFEST_NAME)
    if not storage.exists(manifest_uri):
        if storage.exists(storage.join(uri, QUARANTINE_NAME)):
            remedy = f"if too many images were bad, `{command('inspect', uri, '--quarantine')}` names them"
        else:
            remedy = "check the path; `sunspark ingest SOURCE DATASET` makes a dataset of images"
        why = f"it has no {MANIFEST_NAME}" if storage.exists(uri) else "nothing is there"
        raise DatasetError(f"{uri} is not a finished dataset ({why}); {remedy}")
    try:
        manifest = storage.read_json(manifest_uri)
    except StorageError as error:
        raise DatasetError(damaged(uri, str(error))) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DatasetError(f"{manifest_uri} does not belong to a sunspark dataset; check the path")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{uri} has format version {manifest.get('format_version')}, this sunspark reads version "
            f"{FORMAT_VERSION}; ingest the images again, or use the sunspark that wrote it"
        )
    lacking = next(_lacking(manifest), None)
    if lacking:
        raise DatasetError(damaged(uri, f"{MANIFEST_NAME} has no proper {lacking}"))
    return manifest


def _lacking(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is missing in a manifest, or of another type, as dotted keys."""
    newer = {key: kind for key, kind in _NEWER_TYPES.items() if key in manifest}
    wrong = list(_wrong_keys(manifest, _MANIFEST_TYPES | newer))
    if wrong:
        yield from wrong
        return
    left_out = manifest.get("left_out", {})
    yield from (f"left_out.{kind}" for kind in _wrong_keys(left_out, dict.fromkeys(left_out, int)))
    for name in (INDEX_NAME, QUARANTINE_NAME, *manifest["files"]):
        yield from (f"files.{name}.{key}" for key in _wrong_keys(manifest["files"].get(name), _FILE_TYPES))
    for number, block in enumerate(manifest["blocks"]):
        yield from (f"blocks.{number}.{key}" for key in _wrong_keys(block, _BLOCK_TYPES))


def _wrong_keys(body: object, types: Mapping[str, type]) -> Iterator[str]:
    values = body if isinstance(body, dict) else {}
    return (key for key, kind in types.items() if not isinstance(values.get(key), kind))


def check_files(uri: str, manifest: Mapping[str, Any]) -> None:
    """DatasetError where a file that the manifest names is missing, or has another size."""
    if wrong := wrong_files(uri, manifest):
        raise DatasetError(damaged(uri, first_five(wrong)))


def wrong_files(uri: str, manifest: Mapping[str, Any]) -> list[str]:
    """The files that the manifest names and that are missing, or have another size, each with that."""
    expected = {entry["name"]: entry["size_bytes"] for entry in manifest["blocks"]}
    expected |= {name: entry["size_bytes"] for name, entry in manifest["files"].items()}
    there = {entry.name: entry.size_bytes for entry in storage.list_directory(uri)}
    there |= {
        f"{DATA_NAME}/{entry.name}": entry.size_bytes for entry in storage.list_directory(storage.join(uri, DATA_NAME))
    }
    return [
        f"{name} ({'missing' if name not in there else f'{there[name]} of {size} bytes'})"
        for name, size in expected.items()
        if there.get(name) != size
    ]


def damaged(uri: str, what: str) -> str:
    """Words of an error, and what to do."""
    return (
        f"the dataset {uri} is not whole: {what}; "
        "copy it again from where it was whole, or delete it and run `sunspark ingest` again"
    )


def check_account(uri: str, manifest: Mapping[str, Any], index: pa.Table) -> None:
    """DatasetError where manifest and index say different things of the samples."""
    wrong = next(_contradictions(manifest, index), None)
    if wrong:
        raise DatasetError(damaged(uri, f"{MANIFEST_NAME} does not fit {INDEX_NAME}: {wrong}"))


def _contradictions(manifest: Mapping[str, Any], index: pa.Table) -> Iterator[str]:
    """What the manifest says of the samples, and what the index does; some milliseconds for ten million rows."""
    num_rows = index.num_rows
    labels, splits = (index.column(name).to_numpy() for name in ("label", "splits"))
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
