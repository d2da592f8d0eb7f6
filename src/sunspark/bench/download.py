"""The numbers behind a chart as a CSV file that the page holds: a link saves it, no server is needed."""

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A file inside the page."""

    file: str
    uri: str
    """data: URI with the whole content."""
    num_rows: int


def csv_download(file: str, columns: Mapping[str, Sequence[Any]]) -> Download:
    """Columns of equal length by their heading; a number that is not finite becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    rows = list(zip(*columns.values(), strict=True))
    writer.writerows([_cell(value) for value in row] for row in rows)
    body = base64.b64encode(text.getvalue().encode()).decode()
    return Download(file=file, uri=f"data:text/csv;charset=utf-8;base64,{body}", num_rows=len(rows))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.8g}" if math.isfinite(value) else ""
    return str(value)
