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
from sunspark.data.sources.table_rows import missing_columns, refuse_repeated
from sunspark.errors import SourceError, StorageError, first_five, first_line_of, plural

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


def image_columns(uri: str, schema: pa.Schema) -> ImageColumns | None:
    """The columns of images and labels in the file at `uri`; None where there are no images.

    Raises SourceError where they have no label, or where a name does not tell which column is meant.
    """
    features = hugging_face_features(schema)
    image = image_column(schema)
    if image is None:
        return None
    label = _named_or_featured(schema, features, "ClassLabel", _LABEL_NAMES, is_label_type)
    if label is None:
        columns = [f"{field.name} ({field.type})" if field.name in _LABEL_NAMES else field.name for field in schema]
        raise SourceError(
            f"{uri}: there is no column of labels beside the images in {image!r} (columns: {first_five(columns)}); "
            f"name it one of {', '.join(_LABEL_NAMES)}, and have names or whole numbers in it"
        )
    refuse_repeated(uri, schema.names, [image, label])
    kind = schema.field(image).type
    is_struct = pa.types.is_struct(kind)
    path = kind.get_field_index("path") if is_struct else -1
    found = ImageColumns(
        data=f"{image}.bytes" if is_struct else image,
        path=f"{image}.path" if path >= 0 and is_label_type(kind.field(path).type) else None,
        label=label,
        class_names=class_names_of(uri, features, label),
    )
    refuse_repeated(uri, [part.name for field in schema for part in field.flatten()], [found.data, found.path])
    return found


def image_column(schema: pa.Schema) -> str | None:
    """The column of images; None where there is none."""
    return _named_or_featured(schema, hugging_face_features(schema), "Image", _IMAGE_NAMES, _is_image)


def hugging_face_features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What the `datasets` library has noted about columns: name -> feature; empty where it has not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: about for name, about in features.items() if isinstance(about, dict)}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return {}


def class_names_of(uri: str, features: dict[str, dict[str, Any]], label: str) -> tuple[str, ...]:
    """The names of the numbers in the column `label`; empty where its feature has none."""
    names = features.get(label, {}).get("names")
    if names is None:
        return ()
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise SourceError(
            f"{uri}: the names of {label!r} in its huggingface metadata are {names!r:.80}, no list of texts; "
            "mend the metadata, or take it out"
        )
    return tuple(names)


def is_label_type(kind: pa.DataType) -> bool:
    """Whether a column of this type can name or number classes."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def values_of(uri: str, name: str, column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; SourceError, with the row, where text is not UTF-8: Arrow does not look."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        row = next(row for row, value in enumerate(column, 1) if not _is_readable(value))
        raise SourceError(
            f"row {row} of {uri} has text in the column {name!r} that is not UTF-8 ({error.reason}); write it in UTF-8"
        ) from error


def _is_readable(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


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
        columns = image_columns(file.uri, parquet.schema_arrow)
        if columns is None:
            names = parquet.schema_arrow.names
            hint = "" if missing_columns(names) else "; a table of paths and labels is given itself, not its folder"
            raise SourceError(
                f"{file.uri} has no column of images (columns: {first_five(names)}); it needs bytes, or a struct of "
                f"bytes and path, named {_IMAGE_NAMES[0]!r}{hint}"
            )
        wanted = [columns.label, *filter(None, [columns.path])]
        with storage.storage_errors(file.uri):
            table = parquet.read(columns=wanted, use_threads=False).flatten()
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
    paths = values_of(file.uri, columns.path, table.column(columns.path)) if columns.path else [None] * table.num_rows
    labels = values_of(file.uri, columns.label, table.column(columns.label))
    if unlabelled := [str(row) for row, label in enumerate(labels, 1) if label is None]:
        many = plural(len(unlabelled), f"row of {file.uri} has", f"rows of {file.uri} have")
        raise SourceError(f"{many} no {columns.label} (row {first_five(unlabelled)}); give them one, or take them out")
    return _Shard(
        name=file.name,
        container=Container(
            kind="parquet",
            uri=file.uri,
            size_bytes=file.size_bytes,
            row_groups=tuple(int(first) for first in np.cumsum([0, *sizes[:-1]])) if sizes else (),
        ),
        columns=columns,
        labels=labels,
        paths=[path or None for path in paths],
    )


def opened_parquet(uri: str, **options: Any) -> pq.ParquetFile:
    """A Parquet file, open, whose columns have names; SourceError where it is none.

    Nothing is read ahead: a thread of Arrow's that still held the file when Python ends would end it by SIGABRT.
    """
    try:
        with storage.storage_errors(uri):
            file = pq.ParquetFile(storage.open_random_access(uri), pre_buffer=False, **options)
            assert file.schema_arrow.names is not None  # read now, so that those that are no text are told here
            return file
    except UnicodeDecodeError as error:
        raise SourceError(f"{uri} has a column whose name is not UTF-8 ({error.reason}); rename it") from error
    except StorageError as error:
        if isinstance(error.__cause__, pa.ArrowInvalid):
            raise SourceError(f"{uri} is no Parquet file ({first_line_of(error.__cause__)}); get it again") from error
        raise


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
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
