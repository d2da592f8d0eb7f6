"""The rows of a table of text: CSV with a header, or JSON lines. Each knows the line of the file that it begins in.

Commas, semicolons or tabs part the columns of CSV: those by which the header names `path` and `label`. A row without
anything in it is none.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sunspark.data.sources.listing import is_image_name
from sunspark.data.sources.table_rows import COLUMNS, Row, column_name, missing_columns, no_table, refuse_repeated
from sunspark.errors import SourceError, clipped, plural

_DELIMITERS: Final = (",", ";", "\t")
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MOST_CELL_LETTERS: Final = 2**24
"""64 MB while it is read; Python's own limit, 131,072, is below what other columns may hold (captions, masks)."""

csv.field_size_limit(max(csv.field_size_limit(), _MOST_CELL_LETTERS))  # that of the process: there is no other


def csv_rows(source: str, body: bytes) -> Iterator[Row]:
    """The rows of the CSV file `source`. Raises SourceError, with the line, where one cannot be read."""
    delimiter, header = _header(source, body)
    names = [column_name(name) for name in header]
    refuse_repeated(source, names, COLUMNS)
    place_of = {name: place for place, name in enumerate(names) if name in COLUMNS}
    records = _records(source, body, delimiter)
    next(records)
    for line, cells in records:
        if len(cells) != len(names):
            raise SourceError(
                f"line {line} of {source} has {plural(len(cells), 'column')}, and its header {len(names)}: "
                f"{clipped(delimiter.join(cells))}; mend it (a text that holds {delimiter!r} stands in quotes)"
            )
        split = cells[place_of["split"]] if "split" in place_of else None
        yield Row(number=line, path=cells[place_of["path"]], label=cells[place_of["label"]], split=split)


def json_rows(source: str, body: bytes) -> Iterator[Row]:
    """The rows of `source`, which has a JSON object a line. Raises SourceError, with the line, for what is none."""
    is_first = True
    for line, text in enumerate(_lines(source, body), 1):
        if not text.strip():
            continue
        values = _object(f"line {line} of {source}", text)
        if is_first:
            if missing_columns(values):
                raise no_table(source, list(values))
            is_first = False
        label = values.get("label")
        if isinstance(label, bool) or not (label is None or isinstance(label, str | int)):
            raise SourceError(f"line {line} of {source} has the label {label!r:.60}; it needs a name or a whole number")
        path, split = (_as_text(f"line {line} of {source}", name, values.get(name)) for name in ("path", "split"))
        yield Row(number=line, path=path, label=label, split=split)


def _lines(source: str, body: bytes) -> Iterator[str]:
    """One at a time: as one text, they would take four bytes a letter."""
    try:
        yield from io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
    except UnicodeDecodeError as error:
        line = len((body[: _first_wrong_byte(body)] + b".").splitlines())
        what = "but UTF-16" if body.startswith(_UTF_16) else f"({error.reason})"
        raise SourceError(f"line {line} of {source} is not UTF-8 {what}; store the table as UTF-8") from error


def _first_wrong_byte(body: bytes) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _header(source: str, body: bytes) -> tuple[str, list[str]]:
    """What parts the columns, and their names as they stand there."""
    headers: dict[str, list[str]] = {}
    refusal = None
    for delimiter in _DELIMITERS:
        try:
            headers[delimiter] = next(_records(source, body, delimiter), (0, []))[1]
        except SourceError as error:  # quotes that make no sense with this one
            refusal = refusal or error
            continue
        if not missing_columns(headers[delimiter]):
            return delimiter, headers[delimiter]
    if not headers:
        assert refusal is not None
        raise refusal
    raise _no_header(source, max(headers.values(), key=len))


def _no_header(source: str, names: list[str]) -> SourceError:
    """What to say of a first line with these cells."""
    if not names:
        return SourceError(f"{source} is empty; a table of images begins with the names of its columns: path,label")
    if images := [name for name in names if is_image_name(name)]:
        return SourceError(
            f"{source} has no header: its first line names an image, {clipped(images[0])}; write the names of the "
            "columns above it, such as path,label"
        )
    line = names[0].strip()
    if line.lower().startswith("sep="):
        return SourceError(
            f"{source} begins with {line}, a note to Excel on what parts the columns; take that line out, so that the "
            "names of the columns come first"
        )
    if mark := next((mark for mark in line if not mark.isalnum() and not missing_columns(line.split(mark))), None):
        return SourceError(
            f"{source} parts its columns by {mark!r}; write commas, semicolons or tabs for it, as in path,label"
        )
    return no_table(source, names)


def _records(source: str, body: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that a record begins in, and its cells."""
    reader = csv.reader(_lines(source, body), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise SourceError(f"line {line} of {source} cannot be read ({error}); mend its quotes") from error
        if cells is None:
            return
        if any(map(str.strip, cells)):
            yield line, cells


def _object(where: str, text: str) -> Mapping[str, Any]:
    """The object in a line, by the names of columns."""
    try:
        found = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is no JSON ({_why(error)}); a table in JSON has one object a line") from error
    if not isinstance(found, _JsonObject):
        raise SourceError(f"{where} is no JSON object but {text.strip():.40}; a table in JSON has one object a line")
    refuse_repeated(where, list(map(column_name, found.names)), COLUMNS)
    values = {column_name(name): value for name, value in found.items()}
    for name in COLUMNS if "\\u" in text else ():  # only so can a file in UTF-8 hold a surrogate
        if isinstance(value := values.get(name), str) and not _is_whole(value):
            raise SourceError(f"{where} has half a character in its {name} ({value!a}); write it in UTF-8")
    return values


def _why(error: ValueError | RecursionError) -> str:
    """Without the place: to the parser, each line is a text of its own."""
    return f"{error.msg} at letter {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


class _JsonObject(dict[str, Any]):
    """An object of JSON that knows all its keys: of two equal ones, Python takes the later in silence."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, _ in pairs]


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_JsonObject)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a surrogate without its other half
        return False
    return True


def _as_text(where: str, name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise SourceError(f"{where} has the {name} {value!r:.60}; paths and splits are text")
