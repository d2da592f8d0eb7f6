"""Parquet with the images in it, as the Hugging Face Hub holds them.

The image is a struct of `bytes` and `path`, or plain bytes; the label an integer, whose names stand in the schema's
`huggingface` metadata, or a string. A file's split is told by its name (`data/train-00000-of-00005.parquet`). An image
is named by its `path` if all have one and none repeats, else by its file and row.

Cost: the driver reads footers, labels and paths, never the column of the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sunspark import storage
from sunspark.data.sources.listing import Container, Found, FoundImage
from sunspark.data.sources.splits import split_of_file
from sunspark.errors import SourceError, StorageError, first_five, first_line_of

_FILES_AT_ONCE: Final = 16
_IMAGE_NAMES: Final = ("image", "img", "jpg", "picture", "photo")
_LABEL_NAMES: Final = ("label", "labels", "class", "cls", "category", "scene_category")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageColumns:
    """Which columns of a file hold the images and their labels."""

    data: str
    """The column of the bytes, `image.bytes` in a struct."""
    path: str | None
    label: str
    class_names: tuple[str, ...]
    """Of the labels that are numbers; empty where the schema does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shard:
    name: str
    container: Container
    columns: ImageColumns
    labels: list[str | int | None]
    paths: list[str | None]


def image_columns(schema: pa.Schema) -> ImageColumns | None:
    """The columns of images and labels; None where there are no images. Raises SourceError where they have no label."""
    features = hugging_face_features(schema)
    image = image_column(schema)
    if image is None:
        return None
    label = _named_or_featured(schema, features, "ClassLabel", _LABEL_NAMES, is_label_type)
    if label is None:
        raise SourceError(
            f"there is no column of labels beside the images in {image!r} (columns: {first_five(schema.names)}); "
            f"name it one of {', '.join(_LABEL_NAMES)}"
        )
    kind = schema.field(image).type
    is_struct = pa.types.is_struct(kind)
    has_path = is_struct and kind.get_field_index("path") >= 0
    return ImageColumns(
        data=f"{image}.bytes" if is_struct else image,
        path=f"{image}.path" if has_path else None,
        label=label,
        class_names=tuple(features.get(label, {}).get("names", ())),
    )


def image_column(schema: pa.Schema) -> str | None:
    """The column of images; None where there is none."""
    return _named_or_featured(schema, hugging_face_features(schema), "Image", _IMAGE_NAMES, _is_image)


def hugging_face_features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What the `datasets` library has noted about columns: name -> feature; empty where it has not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {name: about for name, about in features.items() if isinstance(about, dict)}


def is_label_type(kind: pa.DataType) -> bool:
    """Whether a column of this type can name or number classes."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def find_in_parquet(source: str, files: Sequence[storage.FileEntry]) -> Found:
    """The images in `files`, whose names are relative to the source."""
    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="parquet") as pool:
        shards = list(pool.map(_read_shard, sorted(files, key=lambda file: file.name)))
    names = {shard.columns.class_names for shard in shards}
    if len(names) > 1:
        raise SourceError(f"the files of {source} do not agree on the names of the classes; ingest those that do")
    paths = [path for shard in shards for path in shard.paths]
    are_names = None not in paths and len(set(paths)) == len(paths)
    return Found(
        images=[image for shard in shards for image in _images_of(shard, are_names)],
        class_names=names.pop() if names else (),
    )


def _images_of(shard: _Shard, are_names: bool) -> list[FoundImage]:
    split = split_of_file(shard.name)
    stem = shard.name.rsplit(".", 1)[0]
    return [
        FoundImage(
            path=str(path).lstrip("/") if are_names else f"{stem}/{row:06d}",
            size_bytes=0,
            container=shard.container,
            position=row,
            label=label,
            splits=None if split is None else (split,),
        )
        for row, (label, path) in enumerate(zip(shard.labels, shard.paths, strict=True))
    ]


def _read_shard(file: storage.FileEntry) -> _Shard:
    with opened_parquet(file.uri) as parquet:
        try:
            columns = image_columns(parquet.schema_arrow)
        except SourceError as error:
            raise SourceError(f"{file.uri}: {error}") from error
        if columns is None:
            raise SourceError(
                f"{file.uri} has no column of images (columns: {first_five(parquet.schema_arrow.names)}); it needs "
                f"bytes, or a struct of bytes and path, named {_IMAGE_NAMES[0]!r}"
            )
        wanted = [columns.label, *filter(None, [columns.path])]
        with storage.storage_errors(file.uri):
            table = parquet.read(columns=wanted, use_threads=False).flatten()
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
    paths = table.column(columns.path).to_pylist() if columns.path else [None] * table.num_rows
    return _Shard(
        name=file.name,
        container=Container(
            kind="parquet",
            uri=file.uri,
            size_bytes=file.size_bytes,
            row_groups=tuple(int(first) for first in np.cumsum([0, *sizes[:-1]])) if sizes else (),
        ),
        columns=columns,
        labels=table.column(columns.label).to_pylist(),
        paths=[path or None for path in paths],
    )


def opened_parquet(uri: str, **options: Any) -> pq.ParquetFile:
    """A Parquet file, open; SourceError where it is none."""
    try:
        with storage.storage_errors(uri):
            return pq.ParquetFile(storage.open_random_access(uri), **options)
    except StorageError as error:
        if isinstance(error.__cause__, pa.ArrowInvalid):
            raise SourceError(f"{uri} is no Parquet file ({first_line_of(error.__cause__)}); get it again") from error
        raise


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_image(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _named_or_featured(
    schema: pa.Schema, features: dict[str, dict[str, Any]], feature: str, names: Sequence[str], is_of_type: Any
) -> str | None:
    """The column that has this feature, else the first of these names, of a fitting type."""
    fitting = [field.name for field in schema if is_of_type(field.type)]
    featured = [name for name in fitting if features.get(name, {}).get("_type") == feature]
    named = [name for name in names if name in fitting]
    both = [name for name in featured if name in names]
    return next(iter([*both, *featured, *named]), None)
