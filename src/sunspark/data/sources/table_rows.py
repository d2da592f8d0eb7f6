"""The rows of a table of images, and the columns that they need, whatever it is stored as.

Names of columns may be in capitals, and have white space around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sunspark.errors import SourceError, clipped, first_five

COLUMNS: Final = ("path", "label", "split")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table, as it stands there."""

    number: int
    """Of the line of a text, as an editor counts, or of the row of Parquet; from 1 on."""
    path: str | None
    label: str | int | None
    split: str | None


def column_name(name: str) -> str:
    """` Path` -> path"""
    return name.strip().lower()


def missing_columns(names: Iterable[str]) -> list[str]:
    """Which columns a table with columns of these names lacks; empty where it is one of images."""
    there = set(map(column_name, names))
    return [column for column in ("path", "label") if column not in there]


def no_table(source: str, names: Sequence[str]) -> SourceError:
    """What to say of a table that lacks columns."""
    return SourceError(
        f"{source} has no column {' and none '.join(missing_columns(names))} (columns: "
        f"{first_five(map(clipped, names))}); a table of images has path, label and, if it likes, split"
    )


def refuse_repeated(source: str, names: Sequence[str], wanted: Iterable[str | None]) -> None:
    """SourceError where one of the `wanted` columns is there more than once among all `names`."""
    for name in wanted:
        if name is not None and names.count(name) > 1:
            raise SourceError(f"{source} has {names.count(name)} columns named {name!r}; rename all but one")
