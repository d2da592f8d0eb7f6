"""A table of predictions at rest: one row per image, as Parquet or CSV, and beside it what it was made from.

    TABLE        path, class_1, probability_1, class_2, probability_2, ..., error
    TABLE.json   the receipt: the job, what it came to, and the size of the table

A row has an error or a prediction. The table appears whole, by a rename, after its receipt; so a table without a
fitting receipt is not this program's, or has been changed.

Cost: the rows of one row group in memory, whatever the length of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from sunspark import storage
from sunspark.errors import ConfigError, StorageError

SUFFIXES: Final = (".parquet", ".csv")

_FORMAT: Final = "sunspark-predictions-1"
_ROWS_PER_GROUP: Final = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassProbability:
    """One class that an image may show."""

    name: str
    probability: float
    """0 to 1; not a number when the model has diverged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the model sees in one image, or why it cannot be seen."""

    path: str
    top: tuple[ClassProbability, ...] = ()
    """The most probable classes, the first the most so; none for an image that cannot be seen."""
    error: str | None = None
    """The reason that `sunspark ingest` would quarantine it for."""


@final
class TableWriter:
    """Writes rows in the order in which they come; `close` writes the rest."""

    def __init__(self, out: str, file: BinaryIO, num_classes: int) -> None:
        """Rows with `num_classes` classes to `file`, which will be `out`."""
        self._out = out
        self._num_classes = num_classes
        self._schema = _schema(num_classes)
        self._waiting: list[Prediction] = []
        make = pq.ParquetWriter if out.lower().endswith(".parquet") else pa_csv.CSVWriter
        self._writer = make(file, self._schema)

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Add rows. The bytes that come of them do not depend on how many are given at once."""
        self._waiting.extend(predictions)
        while len(self._waiting) >= _ROWS_PER_GROUP:
            self._write_group(self._waiting[:_ROWS_PER_GROUP])
            del self._waiting[:_ROWS_PER_GROUP]

    def close(self) -> None:
        if self._waiting:
            self._write_group(self._waiting)
            self._waiting = []
        with storage.storage_errors(self._out):
            self._writer.close()

    def _write_group(self, predictions: Sequence[Prediction]) -> None:
        columns = _columns(predictions, self._num_classes)
        with storage.storage_errors(self._out):
            self._writer.write_table(pa.table(columns, schema=self._schema))


def refuse_other_suffixes(out: str) -> None:
    """ConfigError when the name of the table does not tell its format."""
    if not out.lower().endswith(SUFFIXES):
        raise ConfigError(f"{out} must end in {' or '.join(SUFFIXES)}: its end tells the format of the table")


def write_receipt(out: str, job: Mapping[str, Any], counts: Mapping[str, int], size_bytes: int) -> None:
    """Say what the table `out` is made from, before it is there."""
    body = {"format": _FORMAT, "job": dict(job), "counts": dict(counts), "size_bytes": size_bytes}
    storage.write_json_atomic(_receipt_of(out), body)


def counts_if_done(out: str, job: Mapping[str, Any]) -> dict[str, int] | None:
    """What the same job came to that has written `out` already; None when there is no table yet.

    Raises ConfigError when there is another.
    """
    entry = storage.entry_at(out)
    if entry is None:
        return None
    receipt = _read_receipt(out)
    there = receipt.get("job", {})
    if receipt.get("size_bytes") == entry.size_bytes and there == dict(job):
        counts: dict[str, int] = receipt["counts"]
        return counts
    raise ConfigError(f"{out} is there already, {_why_other(receipt, job)}; choose another --out, or delete it first")


def _why_other(receipt: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    if not receipt:
        return "and not a table of predictions (it has no receipt beside it)"
    there = receipt.get("job", {})
    different = [key for key, value in job.items() if there.get(key) != value]
    if different:
        return f"made with other {', '.join(different)}"
    return "and has been changed since it was written"


def _read_receipt(out: str) -> dict[str, Any]:
    """The receipt of a table; empty when there is none, or something else has written it."""
    if not storage.exists(_receipt_of(out)):
        return {}
    try:
        body = storage.read_json(_receipt_of(out))
    except StorageError:
        return {}
    return body if isinstance(body, dict) and body.get("format") == _FORMAT else {}


def _receipt_of(out: str) -> str:
    base, mark, options = out.partition("?") if "://" in out else (out, "", "")
    return f"{base}.json{mark}{options}"


def _schema(num_classes: int) -> pa.Schema:
    pairs = [
        field
        for rank in range(1, num_classes + 1)
        for field in ((f"class_{rank}", pa.string()), (f"probability_{rank}", pa.float64()))
    ]
    return pa.schema([("path", pa.string()), *pairs, ("error", pa.string())])


def _columns(predictions: Sequence[Prediction], num_classes: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"path": [one.path for one in predictions]}
    for rank in range(num_classes):
        found = [one.top[rank] if one.top else None for one in predictions]
        columns[f"class_{rank + 1}"] = [one.name if one else None for one in found]
        columns[f"probability_{rank + 1}"] = [one.probability if one else None for one in found]
    columns["error"] = [one.error for one in predictions]
    return columns
