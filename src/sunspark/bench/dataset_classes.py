"""The classes on the page of a dataset: how many images each has, as bars, as a table and as a file; some of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sunspark.bench.bars import Bar
from sunspark.bench.dataset_samples import Thumbnail, chosen
from sunspark.bench.download import Download, csv_download
from sunspark.bench.words import count, plural
from sunspark.data.summary import ClassCount, DatasetSummary
from sunspark.errors import clipped

FEW_CLASSES: Final = 60
_MOST_PICTURED: Final = 100
"""Classes of which images are shown."""
_MOST_COLUMNS: Final = 6
"""Splits that have a column in the table; the file has all."""
_ENDS_SHOWN: Final = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow:
    """A class, with some of its images."""

    name: str
    text: str
    hint: str
    pictures: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassTable:
    """The numbers of every class, in the order of the labels."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_long: bool


def pictured(rows_of: Mapping[int, list[int]]) -> dict[int, list[int]]:
    """What there is to show of the first classes."""
    return dict(list(rows_of.items())[:_MOST_PICTURED])


def pictures_per_class(num_classes: int) -> int:
    """The more classes, the fewer: a page holds some hundred pictures."""
    return 8 if num_classes <= 20 else 5 if num_classes <= FEW_CLASSES else 3


def class_rows(
    counts: Sequence[ClassCount], rows_of: Mapping[int, list[int]], made: Mapping[int, Thumbnail]
) -> list[ClassRow]:
    """The classes in `rows_of`, with their pictures."""
    return [
        ClassRow(
            name=clipped(counts[label].name),
            text=_in_words(counts[label]),
            hint=", ".join(f"{split} {count(number)}" for split, number in counts[label].splits.items()),
            pictures=chosen(made, rows),
        )
        for label, rows in rows_of.items()
    ]


def class_table(about: DatasetSummary) -> ClassTable:
    """A column for each split, if they are few, and one for bad files, if there are any."""
    splits = list(about.splits) if len(about.splits) <= _MOST_COLUMNS else []
    bad = ["bad files"] if about.quarantined else []
    return ClassTable(
        columns=("class", "images", *splits, *bad),
        rows=tuple(
            (
                clipped(one.name),
                *map(
                    count, [one.images, *(one.splits[split] for split in splits), *([one.quarantined] if bad else [])]
                ),
            )
            for one in about.class_counts
        ),
        is_long=about.classes > FEW_CLASSES,
    )


def balance(counts: Sequence[ClassCount]) -> dict[str, tuple[Bar, ...]]:
    """The largest and the smallest classes; of few classes all are the largest."""
    ordered = sorted(counts, key=lambda one: (-one.images, one.name))
    most = max((one.images for one in ordered), default=0) or 1
    bars = tuple(Bar(name=clipped(one.name), share=one.images / most, text=count(one.images)) for one in ordered)
    if len(bars) <= FEW_CLASSES:
        return {"largest": bars, "smallest": ()}
    return {"largest": bars[:_ENDS_SHOWN], "smallest": bars[-_ENDS_SHOWN:]}


def classes_download(about: DatasetSummary) -> Download:
    """The numbers of every class and split, and the whole names."""
    names = [one.name for one in about.class_counts]
    columns = {split: [one.splits[split] for one in about.class_counts] for split in about.splits}
    images = [one.images for one in about.class_counts]
    bad = {"bad files": [one.quarantined for one in about.class_counts]}
    return csv_download("classes.csv", {"class": names, "images": images, **columns, **bad})


def _in_words(one: ClassCount) -> str:
    return plural(one.images, "image") + (f", {plural(one.quarantined, 'bad file')}" if one.quarantined else "")
