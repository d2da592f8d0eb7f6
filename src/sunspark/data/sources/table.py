"""A table of `path,label[,split]`: CSV with a header, JSON lines or Parquet.

A path is relative to the table's folder, absolute, or a URI. A row that repeats with another split puts its image into
both. Labels that are whole numbers are numbers (`labels.py` says which classes they are).

Cost: the table in memory, and one listing for each folder that it names.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from sunspark import storage
from sunspark.data.sources.listing import Container, Found, FoundImage
from sunspark.data.sources.parquet import (
    class_names_of,
    hugging_face_features,
    image_column,
    is_label_type,
    opened_parquet,
    refuse_repeated,
    values_of,
)
from sunspark.errors import SourceError, first_five, first_line_of

JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES: Final = (".csv", ".parquet", *JSON_SUFFIXES)
_COLUMNS: Final = ("path", "label", "split")
_FOLDERS_AT_ONCE: Final = 16
_MOST_DIGITS: Final = 1000
"""Python refuses to take thousands of digits for a number."""


def is_table(schema: pa.Schema) -> bool:
    """Whether a Parquet file is a table of paths and labels."""
    return {"path", "label"} <= set(schema.names) and image_column(schema) is None


def find_in_table(source: str) -> Found:
    """The images that the table at `source` names. Raises SourceError where they are not all there."""
    table, class_names = _read_table(source)
    paths, labels = values_of(source, "path", table.column("path")), _labels(source, table)
    has_splits = "split" in table.column_names
    splits = values_of(source, "split", table.column("split")) if has_splits else [None] * len(paths)
    folder = storage.parent(source)
    label_of: dict[str, str | int] = {}
    splits_of: dict[str, list[str]] = defaultdict(list)
    for row, (path, label, split) in enumerate(zip(paths, labels, splits, strict=True), 1):
        if not path or label is None or label == "":
            raise SourceError(f"row {row} of {source} lacks a path or a label; complete it, or take it out")
        if "\0" in path or (path.startswith("file:") and "%00" in path):
            raise SourceError(f"row {row} of {source} has a zero byte in its path ({path!r}), as no file has; mend it")
        path = path.removeprefix("./")
        if label_of.setdefault(path, label) != label:
            raise SourceError(f"{source} gives {path} two labels ({label_of[path]}, {label}); take one out")
        splits_of[path] += [split.strip()] if split and split.strip() else []
    sizes = _sizes(source, {path: storage.beside(folder, path) for path in label_of})
    container = Container(kind="folder", uri=folder)
    has_splits = any(splits_of.values())
    return Found(
        images=[
            FoundImage(
                path=path,
                size_bytes=sizes[path],
                container=container,
                label=label,
                splits=tuple(dict.fromkeys(splits_of[path])) if has_splits else None,
            )
            for path, label in label_of.items()
        ],
        class_names=class_names,
    )


def _read_table(source: str) -> tuple[pa.Table, tuple[str, ...]]:
    """The three columns of a table, and the names of its labels where they are numbers that have names."""
    class_names: tuple[str, ...] = ()
    body = b""
    try:
        if storage.name_of(source).lower().endswith(".parquet"):
            with opened_parquet(source) as parquet, storage.storage_errors(source):
                class_names = class_names_of(source, hugging_face_features(parquet.schema_arrow), "label")
                columns = [column for column in _COLUMNS if column in parquet.schema_arrow.names]
                table = parquet.read(columns=columns, use_threads=False)
        else:
            body = storage.read_bytes(source)
            table = _parsed(source, body)
        refuse_repeated(source, table.column_names, _COLUMNS)
        for column in {"path", "split"} & set(table.column_names):
            number = table.column_names.index(column)
            table = table.set_column(number, column, table.column(column).cast(pa.string()))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        why = _where_it_is_no_text(body) or first_line_of(error)
        raise SourceError(f"{source} cannot be read as a table: {why}; paths and splits are text, in UTF-8") from error
    missing = [column for column in ("path", "label") if column not in table.column_names]
    if missing:
        raise SourceError(
            f"{source} has no column {' and none '.join(missing)} (columns: {first_five(table.column_names)}); a table "
            "of images has path, label and, if it likes, split"
        )
    if not table.num_rows:
        raise SourceError(f"{source} has no rows; it needs one for each image")
    return table, class_names


def _parsed(source: str, body: bytes) -> pa.Table:
    """A table of text, by the file's name."""
    if storage.name_of(source).lower().endswith(JSON_SUFFIXES):
        return pa_json.read_json(io.BytesIO(body))
    as_text = {column: pa.string() for column in _COLUMNS}
    return pa_csv.read_csv(
        io.BytesIO(body),
        read_options=pa_csv.ReadOptions(use_threads=False),  # only so do errors name the row
        convert_options=pa_csv.ConvertOptions(column_types=as_text),
    )


def _where_it_is_no_text(body: bytes) -> str:
    """The first line that is not UTF-8, in words; empty where all are."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        num_lines = body.count(b"\n", 0, error.start)
        return f"line {num_lines + 1} is not UTF-8 ({error.reason})"
    return ""


def _labels(source: str, table: pa.Table) -> list[str | int | None]:
    column = table.column("label")
    if not is_label_type(column.type):
        raise SourceError(f"the label column of {source} is {column.type}; it needs names or whole numbers")
    return as_numbers(values_of(source, "label", column))


def as_numbers(labels: list[str | int | None]) -> list[str | int | None]:
    """Labels in letters as numbers, if that is what all of them are."""
    texts = {label for label in labels if isinstance(label, str)}
    if texts and all(map(_is_number, texts)):
        return [int(label) if isinstance(label, str) else label for label in labels]
    return labels


def _is_number(text: str) -> bool:
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() and str(int(text)) == text


def _sizes(source: str, uri_of: dict[str, str]) -> dict[str, int]:
    """path -> bytes, by one listing of each folder."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for path, uri in uri_of.items():
        wanted[storage.parent(uri)].append(path)
    sizes: dict[str, int] = {}
    with ThreadPoolExecutor(_FOLDERS_AT_ONCE, thread_name_prefix="listing") as pool:
        for paths, entries in zip(wanted.values(), pool.map(storage.list_directory, wanted), strict=True):
            there = {entry.name: entry.size_bytes for entry in entries if entry.is_file}
            sizes |= {path: there[name] for path in paths if (name := storage.name_of(uri_of[path])) in there}
    _refuse_missing(source, (path for path in uri_of if path not in sizes))
    return sizes


def _refuse_missing(source: str, paths: Iterable[str]) -> None:
    if missing := list(paths):
        raise SourceError(
            f"{len(missing)} files that {source} names do not exist ({first_five(missing)}); paths are relative to the "
            "table's folder, absolute, or URIs"
        )
