"""A table of `path,label[,split]`: CSV with a header, JSON lines or Parquet.

A path is relative to the table's folder, absolute, or a URI. A row that repeats with another split puts its image into
both, however it spells the path (`a.jpg`, `sub/../a.jpg`); the image is named as the first such row has it. White space
around labels and splits is none of theirs. Labels that are whole numbers are numbers (`labels.py` says which classes
they are).

Cost: the table in memory, and one listing for each folder that it names.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa

from sunspark import storage
from sunspark.data.sources.listing import Container, Found, FoundImage
from sunspark.data.sources.number_labels import table_labels
from sunspark.data.sources.parquet import (
    class_names_of,
    hugging_face_features,
    image_column,
    is_label_type,
    opened_parquet,
    values_of,
)
from sunspark.data.sources.table_rows import COLUMNS, Row, column_name, missing_columns, no_table, refuse_repeated
from sunspark.data.sources.text_table import csv_rows, json_rows
from sunspark.errors import SourceError, first_five, first_line_of, plural

_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES: Final = (".csv", ".tsv", ".parquet", *_JSON_SUFFIXES)
_HERE: Final = re.compile(r"\A\./+")
_DRIVE: Final = re.compile(r"(file:/*)?[A-Za-z]:[/\\]", re.IGNORECASE)
"""With which paths of Windows begin, and none that is there."""
_FOLDERS_AT_ONCE: Final = 16
logger = logging.getLogger(__name__)


def is_table(schema: pa.Schema) -> bool:
    """Whether a Parquet file is a table of paths and labels."""
    return not missing_columns(schema.names) and image_column(schema) is None


def find_in_table(source: str) -> Found:
    """The images that the table at `source` names. Raises SourceError where they are not all there."""
    unit, rows, class_names = _rows(source)
    folder = storage.parent(source)
    path_of: dict[str, str] = {}
    label_of: dict[str, str | int] = {}
    row_of: dict[str | int, str] = {}
    splits_of: dict[str, list[str]] = defaultdict(list)
    repeats: list[int] = []
    for row in rows:
        spelled, label, split = _cells(f"{unit} {row.number} of {source}", row)
        path = path_of.setdefault(storage.absolute(storage.beside(folder, spelled)), spelled)
        if label_of.setdefault(path, label) != label:
            before = f"a {unit} before it" if path == spelled else f"a {unit} before it gives {path}"
            raise SourceError(
                f"{unit} {row.number} of {source} gives {spelled} another label, {label}, than {before}, "
                f"{label_of[path]}; take one out"
            )
        row_of.setdefault(label, f"{unit} {row.number}")
        if path in splits_of and (not split or split in splits_of[path]):
            repeats.append(row.number)
        splits_of[path] += [split] if split else []
    if not label_of:
        raise SourceError(f"{source} has no rows; it needs one for each image")
    if repeats:
        many = plural(len(repeats), f"row of {source} repeats", f"rows of {source} repeat")
        logger.warning("%s an image and its split, for instance %s %d; an image counts once", many, unit, repeats[0])
    meant = table_labels(source, row_of, quotes_tell=_is_json(source))
    sizes = _sizes(source, {path: uri for uri, path in path_of.items()})
    container = Container(kind="folder", uri=folder)
    has_splits = any(splits_of.values())
    return Found(
        images=[
            FoundImage(
                path=path,
                size_bytes=sizes[path],
                container=container,
                label=meant[label],
                splits=tuple(dict.fromkeys(splits_of[path])) if has_splits else None,
            )
            for path, label in label_of.items()
        ],
        class_names=class_names,
    )


def _cells(where: str, row: Row) -> tuple[str, str | int, str]:
    """Path, label and split (empty where there is none), without the white space and `./` that do not count."""
    path, label, split = row.path, row.label, (row.split or "").strip()
    if isinstance(label, str):
        label = label.strip()
    if not path or label is None or label == "":
        lacking = [name for name, cell in (("path", path), ("label", label)) if cell in (None, "")]
        raise SourceError(f"{where} lacks its {' and its '.join(lacking)}; complete it, or take it out")
    if "\0" in path or (path.startswith("file:") and "%00" in path):
        raise SourceError(f"{where} has a zero byte in its path ({path!r}), as no file has; mend it")
    return _HERE.sub("", path), label, split


def _rows(source: str) -> tuple[str, Iterator[Row], tuple[str, ...]]:
    """What rows are counted in, the rows, and the names of their labels where they are numbers that have names."""
    if storage.name_of(source).lower().endswith(".parquet"):
        return "row", *_parquet_rows(source)
    body = storage.read_bytes(source)
    return "line", json_rows(source, body) if _is_json(source) else csv_rows(source, body), ()


def _is_json(source: str) -> bool:
    return storage.name_of(source).lower().endswith(_JSON_SUFFIXES)


def _parquet_rows(source: str) -> tuple[Iterator[Row], tuple[str, ...]]:
    try:
        with opened_parquet(source) as parquet, storage.storage_errors(source):
            schema = parquet.schema_arrow
            if missing_columns(schema.names):
                raise no_table(source, schema.names)
            refuse_repeated(source, list(map(column_name, schema.names)), COLUMNS)
            real = {column_name(column): column for column in schema.names if column_name(column) in COLUMNS}
            class_names = class_names_of(source, hugging_face_features(schema), real["label"])
            table = parquet.read(columns=list(real.values()), use_threads=False)
    except pa.ArrowException as error:
        raise SourceError(f"{source} cannot be read as a table ({first_line_of(error)}); get it again") from error
    if not is_label_type(kind := table.column(real["label"]).type):
        raise SourceError(f"the label column of {source} is {kind}; it needs names or whole numbers")
    labels = values_of(source, real["label"], table.column(real["label"]))
    paths, splits = (
        _texts(source, real[column], table.column(real[column])) if column in real else [None] * len(labels)
        for column in ("path", "split")
    )
    rows = enumerate(zip(paths, labels, splits, strict=True), 1)
    return (Row(number=row, path=path, label=label, split=split) for row, (path, label, split) in rows), class_names


def _texts(source: str, name: str, column: pa.ChunkedArray) -> list[str | None]:
    try:
        return values_of(source, name, column.cast(pa.string()))
    except pa.ArrowException as error:
        raise SourceError(f"the column {name!r} of {source} is {column.type}; paths and splits are text") from error


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
        many = plural(len(missing), f"file that {source} names does", f"files that {source} names do")
        raise SourceError(f"{many} not exist ({first_five(missing)}); {_why(missing)}")


def _why(missing: list[str]) -> str:
    remedies = ["write / for \\"] if any("\\" in path for path in missing) else []
    if any(map(_DRIVE.match, missing)):
        remedies.append("leave the drive out, so that they are relative to the table's folder or begin with /")
    if remedies:
        return f"these are paths of Windows: {', and '.join(remedies)}"
    if any(path != path.strip() for path in missing):
        return "some have white space around them: take it out"
    return "paths are relative to the table's folder, absolute, or URIs"
