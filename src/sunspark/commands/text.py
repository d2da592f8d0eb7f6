"""The result of a command as text for people: what it hands to the front door, one line per field, tables."""

import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TextIO, cast

from sunspark.bench.words import size
from sunspark.errors import first_five

_SHARES = ("top1", "top5", "mean_per_class")
_DATASET_ID_DIGITS: Final = 16
"""Enough to tell any two datasets apart; all 64 fill a line."""
MOST_PAIRS: Final = 40
"""Of splits SUN397 has twenty, and whoever ingests it may add some."""
_RATE: Final = "_per_second"
_LEAST_SECONDS: Final = 1.0
"""Of what lasted less, no rate is told."""
_NO_TERMINAL: Final = 10_000
_LEAST_WIDTH: Final = 24
"""Columns for a value below which it is not broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a command hands to the front door."""

    result: object
    """A dataclass: what `--json` prints."""
    text: str
    """The same for people."""
    exit_code: int = 0


def summary(result: object, *, leave_out: Iterable[str] = (), words: Mapping[str, str] | None = None) -> str:
    """The fields of a result, one a line: name, value, unit; `words` stand in place of the values of some fields."""
    given = words or {}
    names = [field.name for field in fields(cast(Any, result)) if field.name not in leave_out]
    shown = [name for name in names if not (name.endswith(_RATE) and _says_nothing(result, name))]
    pairs = [_in_words(name, given.get(name, getattr(result, name))) for name in shown]
    width = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(fitted(value, sys.stdout, head=f"{name:<{width}}  ") for name, value in pairs)


def _says_nothing(result: object, name: str) -> bool:
    """Whether a rate is that of nothing, or of a moment in which starting was all."""
    return not getattr(result, name) or getattr(result, "seconds", _LEAST_SECONDS) < _LEAST_SECONDS


def terminal_width(stream: TextIO) -> int:
    """Columns of the terminal that is written to; where there is none, a line stays a line, for whoever searches."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _NO_TERMINAL
    except (OSError, ValueError):  # a file, a pipe, or in memory
        return _NO_TERMINAL


def fitted(text: str, stream: TextIO, head: str = "") -> str:
    """`head` and the lines of `text` to its right, broken between words where the terminal ends."""
    width = terminal_width(stream) - len(head)
    if width < _LEAST_WIDTH:
        return head + text
    lines = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return head + f"\n{' ' * len(head)}".join(lines)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A titled table, after an empty line; numbers stand to the right."""
    cells = [tuple(columns), *(tuple(_number(cell) for cell in row) for row in rows)]
    return f"\n{title}\n{_aligned(cells)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in columns; a column that holds nothing but numbers below its head stands to the right."""
    widths = [max(map(_columns_of, column)) for column in zip(*rows, strict=True)]
    to_the_right = [all(_is_number(word) for word in column[1:]) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            _filled(word, width, right) for word, width, right in zip(row, widths, to_the_right, strict=True)
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _filled(word: str, width: int, to_the_right: bool) -> str:
    """`word` in so many columns of a terminal."""
    space = " " * (width - _columns_of(word))
    return space + word if to_the_right else word + space


def _columns_of(word: str) -> int:
    """Of a terminal: letters of East Asia take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in word)


def _is_number(word: str) -> bool:
    return word == "-" or word[:1].isdigit()


def _in_words(name: str, value: object) -> tuple[str, str]:
    """The name without its unit, and the value with it."""
    if name.endswith("_bytes"):
        return name.removesuffix("_bytes").replace("_", " "), size(int(cast(Any, value))).replace("\u00a0", " ")
    if name.endswith(_RATE):
        return "speed", f"{_number(value)} {name.removesuffix(_RATE).replace('_', ' ')}/s"
    if name.endswith("_seconds"):
        return name.removesuffix("_seconds").replace("_", " "), f"{_number(value)} s"
    if name == "seconds":
        return "time", f"{_number(value)} s"
    if name in _SHARES and isinstance(value, float):
        return name.replace("_", " "), f"{100 * value:.2f} %"
    if name == "dataset_id":
        return "dataset id", str(value)[:_DATASET_ID_DIGITS]
    return name.replace("_", " "), _number(value)


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping | list | tuple) and not value:
        return "none"
    if isinstance(value, Mapping):
        pairs = [f"{key}: {_number(item)}" for key, item in value.items()]
        return ", ".join(pairs) if len(pairs) <= MOST_PAIRS else first_five(pairs)
    if isinstance(value, list | tuple):
        return ", ".join(_number(item) for item in value)
    return "-" if value is None else str(value)
