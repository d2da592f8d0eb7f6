"""Labels in letters that are numbers: `7`, and in tables `7.0` and `007`, as libraries and spreadsheets write them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from sunspark.errors import SourceError, clipped

_MOST_DIGITS: Final = 1000
"""Python refuses to take thousands of digits for a number."""
_NUMERAL: Final = re.compile(rf"(-?[0-9]{{1,{_MOST_DIGITS}}})(?:\.0+)?")
_NOT_A_NUMBER: Final = "nan"

Label = str | int


def as_numbers(labels: list[Label | None]) -> list[Label | None]:
    """Labels in letters as numbers, if that is what all of them are."""
    texts = {label for label in labels if isinstance(label, str)}
    if texts and all(map(_is_number, texts)):
        return [int(label) if isinstance(label, str) else label for label in labels]
    return labels


def table_labels(source: str, row_of: Mapping[Label, str], *, quotes_tell: bool) -> dict[Label, Label]:
    """What each label of a table means, a name or a number; `row_of` has the row of each, for people.

    Where they are numbers, `0.0` is 0; all in letters are names where one has zeros before it. `quotes_tell`: what
    stands in quotes among names is one. Raises SourceError where some are names and others numbers, and for numbers
    that are none of a class.
    """
    numbers = {label for label in row_of if isinstance(label, int) or _NUMERAL.fullmatch(label)}
    is_missing = {label: isinstance(label, str) and label.lower() == _NOT_A_NUMBER for label in row_of}
    names = [label for label in row_of if label not in numbers and not is_missing[label]]
    if not numbers or names:
        told = [label for label in row_of if label in numbers and not (quotes_tell and isinstance(label, str))]
        _refuse_mixed(source, row_of, names, told, quotes_tell=quotes_tell)
        return {label: label for label in row_of}
    for label in row_of:
        if is_missing[label] or str(label).startswith("-"):
            raise SourceError(
                f"{row_of[label]} of {source} has the label {label}; labels that are numbers are 0 or more: complete "
                "it, or take the row out"
            )
    digits = {label: str(label).partition(".")[0] for label in row_of}
    _refuse_two_spellings(source, row_of, digits)
    if not any(isinstance(label, int) for label in row_of) and not all(map(_is_number, digits.values())):
        return {label: label for label in row_of}
    return {label: int(digits[label]) for label in row_of}


def _refuse_mixed(
    source: str, row_of: Mapping[Label, str], names: list[Label], numbers: list[Label], *, quotes_tell: bool
) -> None:
    if names and numbers:
        remedy = (
            "put the numbers in quotes if they are names"
            if quotes_tell
            else "name all, or number all (in a table of JSON lines, numbers in quotes may be names)"
        )
        name, number = names[0], numbers[0]
        raise SourceError(
            f"{source} names some labels ({clipped(str(name))}, {row_of[name]}) and numbers others ({number}, "
            f"{row_of[number]}); {remedy}"
        )


def _refuse_two_spellings(source: str, row_of: Mapping[Label, str], digits: Mapping[Label, str]) -> None:
    spelled: dict[int, dict[str, Label]] = defaultdict(dict)
    for label, text in digits.items():
        spelled[int(text)].setdefault(text, label)
    for labels in spelled.values():
        if len(labels) > 1:
            one, other, *_ = labels.values()
            raise SourceError(
                f"{source} spells one number in two ways, {one} ({row_of[one]}) and {other} ({row_of[other]}); spell "
                "it in one, without zeros before it"
            )


def _is_number(text: str) -> bool:
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() and str(int(text)) == text
