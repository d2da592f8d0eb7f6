"""Laws of the CSV files in a page: what was charted is what a reader gets."""

import base64
import csv
import io

from sunspark.bench.download import csv_download


def rows_of(uri: str) -> list[list[str]]:
    head, _, body = uri.partition(",")
    assert head == "data:text/csv;charset=utf-8;base64"
    return list(csv.reader(io.StringIO(base64.b64decode(body).decode())))


def test_names_numbers_and_gaps_come_back() -> None:
    names = ['a "quoted", name', "line\nbreak", "größe"]
    made = csv_download("x.csv", {"name": names, "count": [1, 2, 3], "value": [0.1, float("nan"), 1e-7]})
    assert made.num_rows == 3
    assert rows_of(made.uri) == [
        ["name", "count", "value"],
        [names[0], "1", "0.1"],
        [names[1], "2", ""],
        [names[2], "3", "1e-07"],
    ]


def test_without_rows_there_is_a_heading() -> None:
    assert rows_of(csv_download("x.csv", {"step": []}).uri) == [["step"]]
