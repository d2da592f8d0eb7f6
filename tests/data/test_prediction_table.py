"""The table of predictions: the same bytes however the rows come, and a receipt that tells whose it is."""

import csv
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sunspark import storage
from sunspark.data.prediction_table import (
    ClassProbability,
    Prediction,
    TableWriter,
    counts_if_done,
    refuse_other_suffixes,
    write_receipt,
)
from sunspark.errors import ConfigError

JOB = {"images": "0123", "top": 2, "settings": {"image_size": 16}}
COUNTS = {"images": 2, "predicted": 1, "failed": 1}


def rows(count: int) -> list[Prediction]:
    """Every third is bad; names as they come: with comma, quote, line end."""
    good = (ClassProbability(name='beach, "sandy"', probability=2 / 3), ClassProbability(name="a\nb", probability=0.1))
    return [
        Prediction(path=f"{n}.jpg", error="the file is empty") if n % 3 == 0 else Prediction(path=f"{n}.jpg", top=good)
        for n in range(count)
    ]


def written(out: str, predictions: list[Prediction], at_once: int) -> bytes:
    file = io.BytesIO()
    writer = TableWriter(out, file, num_classes=2)
    for start in range(0, len(predictions), at_once):
        writer.write(predictions[start : start + at_once])
    writer.close()
    return file.getvalue()


def test_parquet_and_csv_hold_the_same() -> None:
    as_csv = list(csv.DictReader(io.StringIO(written("t.csv", rows(7), 3).decode())))
    as_parquet = pq.read_table(io.BytesIO(written("t.parquet", rows(7), 3))).to_pylist()
    assert list(as_csv[0]) == ["path", "class_1", "probability_1", "class_2", "probability_2", "error"]
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in as_parquet] == as_csv
    assert as_parquet[0] == dict.fromkeys(as_csv[0]) | {"path": "0.jpg", "error": "the file is empty"}
    assert as_parquet[1]["class_1"] == 'beach, "sandy"'
    assert as_parquet[1]["probability_1"] == 2 / 3
    assert as_parquet[1]["error"] is None


@pytest.mark.parametrize("out", ["t.csv", "t.parquet"])
def test_the_bytes_do_not_depend_on_how_many_rows_come_at_once(out: str) -> None:
    many = rows(20_000)
    assert len({written(out, many, at_once) for at_once in (64, 1000, 20_000)}) == 1


def test_a_table_without_rows_has_its_columns() -> None:
    assert written("t.csv", [], 1).startswith(b'"path","class_1"')


@pytest.mark.parametrize("out", ["table", "table.txt", "table.csv.gz"])
def test_the_name_must_tell_the_format(out: str) -> None:
    with pytest.raises(ConfigError, match=rf"{out} must end in \.parquet or \.csv"):
        refuse_other_suffixes(out)
    refuse_other_suffixes("TABLE.CSV")


def test_the_same_job_finds_its_table_and_every_other_is_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "t.csv")
    assert counts_if_done(out, JOB) is None
    write_receipt(out, JOB, COUNTS, 10)
    assert counts_if_done(out, JOB) is None, "a receipt without a table: its writer died"
    storage.write_bytes(out, b"0123456789")
    assert counts_if_done(out, JOB) == COUNTS
    with pytest.raises(ConfigError, match=r"t\.csv is there already, made with other top; choose another --out"):
        counts_if_done(out, JOB | {"top": 3})
    storage.write_bytes(out, b"01234567890")
    with pytest.raises(ConfigError, match="has been changed since it was written"):
        counts_if_done(out, JOB)
    for damage in (b"{", b"[]", b'{"format": "something else"}'):
        storage.write_bytes(f"{out}.json", damage)
        with pytest.raises(ConfigError, match="not a table of predictions"):
            counts_if_done(out, JOB)
