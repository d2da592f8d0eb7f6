"""The page of a dataset: one HTML file that needs nothing else, no network and no script.

Says what is in a dataset: classes with some of their images, splits, balance, sizes, formats, what could not be taken
and why, and which images a model would be trained on and judged by. In the style of a run's report (`report.py`).
Cost: the index, and at most 32 blocks of the dataset (some 250 MB at the default size), one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sunspark import storage
from sunspark.bench.bars import Bar
from sunspark.bench.dataset_samples import Thumbnail, chosen, rows_by_class, thumbnails
from sunspark.bench.download import csv_download
from sunspark.bench.page import environment
from sunspark.bench.tiles import Tile
from sunspark.bench.words import count, percent, plural, share, size
from sunspark.data.dataset import Dataset
from sunspark.data.leaks import Leak
from sunspark.data.quarantine import commonest_reasons
from sunspark.data.summary import DatasetSummary, summarize

_MOST_FILES: Final = 200
"""Rows of the table of bad images; the CSV has all."""
_MOST_PAIRS: Final = 12
_FEW_CLASSES: Final = 60
_ENDS_SHOWN: Final = 15
_SIDES: Final = (0, 64, 128, 256, 512, 1024, 2048, 1 << 31)
"""Pixels of an image's short side, from one column of the chart to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageResult:
    """Where the page of a dataset was written."""

    dataset: str
    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow:
    """A class, with some of its images."""

    name: str
    text: str
    hint: str
    pictures: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakRows:
    """A pair of splits that share images, and some of them side by side."""

    text: str
    pairs: tuple[tuple[Thumbnail, Thumbnail], ...]


def write_dataset_page(dataset: Dataset, out: str) -> PageResult:
    """Write the page of `dataset` to the file `out`."""
    body = render(dataset).encode()
    storage.write_bytes_atomic(out, body)
    return PageResult(dataset=dataset.uri, path=out, size_bytes=len(body))


def render(dataset: Dataset) -> str:
    """The page, as HTML."""
    about = summarize(dataset)
    rows_of = rows_by_class(dataset, _pictures_per_class(about.classes))
    row_of = {path: row for row, path in enumerate(dataset.index.column("path").to_pylist())} if about.leaks else {}
    pairs = [(row_of[one], row_of[other]) for leak in about.leaks for one, other in leak.examples][:_MOST_PAIRS]
    made = thumbnails(
        dataset, [*(row for pair in pairs for row in pair), *(r for rows in rows_of.values() for r in rows)]
    )
    return (
        environment()
        .get_template("dataset.html.j2")
        .render(
            name="/".join(dataset.uri.rstrip("/").split("/")[-2:]),
            subject=_subject(dataset),
            tiles=_tiles(about),
            splits=_split_bars(about),
            classes=_class_rows(about, rows_of, made),
            balance=_balance(about),
            classes_download=_classes_download(about),
            formats=_bars(about.formats),
            sides=_columns(_short_sides(dataset)),
            stored=_bars(about.sizes, whole=about.images),
            sizes_download=_sizes_download(dataset),
            reasons=commonest_reasons(about.quarantine),
            bad=about.quarantine[:_MOST_FILES],
            num_bad=len(about.quarantine),
            bad_download=csv_download(
                "quarantine.csv",
                {key: [getattr(one, key) for one in about.quarantine] for key in ("path", "stage", "reason")},
            ),
            leaks=_leak_rows(about.leaks, row_of, made),
            num_dropped=int(dataset.manifest.get("leaks_dropped", 0)),
        )
    )


def _pictures_per_class(num_classes: int) -> int:
    return 8 if num_classes <= 20 else 5 if num_classes <= _FEW_CLASSES else 3


def _subject(dataset: Dataset) -> list[tuple[str, str]]:
    settings = {key: value for key, value in dataset.manifest["configuration"].items() if value is not None}
    rows = [
        ("dataset", dataset.uri),
        ("id", dataset.id[:16]),
        ("made from", str(dataset.manifest.get("source", ""))),
        ("with", ", ".join(f"{key} {value}" for key, value in settings.items())),
    ]
    return [(term, value) for term, value in rows if value]


def _tiles(about: DatasetSummary) -> list[Tile]:
    leaked = sum(leak.images for leak in about.leaks)
    counts = [one.images for one in about.class_counts]
    return [
        Tile(label="Images", value=count(about.images), note=f"of {count(about.listed)} listed"),
        Tile(label="Classes", value=count(about.classes), note=_from_to(counts)),
        Tile(label="Stored", value=size(about.stored_bytes), note=f"in {plural(about.blocks, 'block')}"),
        Tile(
            label="Quarantined",
            value=count(about.quarantined),
            note=f"{percent(about.quarantined / about.listed, 2)} of the images"
            if about.quarantined
            else "none was bad",
            tone="bad" if about.quarantined else "good",
        ),
        Tile(
            label="Leaks",
            value=count(leaked),
            note=_leak_note(len(about.leaks)),
            tone="bad" if leaked else "good",
        ),
    ]


def _leak_note(num_pairs: int) -> str:
    if not num_pairs:
        return "no training image is a test image"
    among = "" if num_pairs == 1 else f", over {num_pairs} pairs of splits"
    return f"training images that are test images too{among}"


def _from_to(counts: Sequence[int]) -> str:
    least, most = min(counts, default=0), max(counts, default=0)
    return f"{count(least)} images each" if least == most else f"{count(least)} to {count(most)} images each"


def _split_bars(about: DatasetSummary) -> tuple[Bar, ...]:
    return _bars(about.splits, whole=about.images)


def _bars(numbers: dict[str, int], whole: int = 0) -> tuple[Bar, ...]:
    """A bar for each number; as shares of `whole`, or of their sum."""
    total = whole or sum(numbers.values()) or 1
    return tuple(
        Bar(
            name=name,
            share=number / total,
            text=count(number),
            hint=f"{name}: {count(number)}, {share(number / total)}",
        )
        for name, number in numbers.items()
    )


def _columns(numbers: dict[str, int]) -> tuple[Bar, ...]:
    """A column for each number, the highest to the top."""
    most = max(numbers.values(), default=0) or 1
    return tuple(
        Bar(name=name, share=number / most, text=count(number) if number else "", hint=f"{count(number)}: {name}")
        for name, number in numbers.items()
    )


def _short_sides(dataset: Dataset) -> dict[str, int]:
    """Images at the source by their short side."""
    sides = _short_side(dataset, "source_")
    numbers = np.histogram(sides, bins=np.array(_SIDES))[0]
    names = [f"under {_SIDES[1]}", *(f"{a} to {b - 1}" for a, b in pairwise(_SIDES[1:-1]))]
    return dict(zip([*names, f"{_SIDES[-2]} and more"], map(int, numbers), strict=True))


def _short_side(dataset: Dataset, prefix: str) -> npt.NDArray[np.int32]:
    width, height = (dataset.index.column(f"{prefix}{name}").to_numpy() for name in ("width", "height"))
    shorter: npt.NDArray[np.int32] = np.minimum(width, height)
    return shorter


def _class_rows(about: DatasetSummary, rows_of: dict[int, list[int]], made: dict[int, Thumbnail]) -> list[ClassRow]:
    return [
        ClassRow(
            name=one.name,
            text=plural(one.images, "image"),
            hint=", ".join(f"{split} {count(number)}" for split, number in one.splits.items()),
            pictures=chosen(made, rows_of[label]),
        )
        for label, one in enumerate(about.class_counts)
    ]


def _balance(about: DatasetSummary) -> dict[str, tuple[Bar, ...]]:
    """The largest and the smallest classes; of few classes all are the largest."""
    ordered = sorted(about.class_counts, key=lambda one: (-one.images, one.name))
    most = max((one.images for one in ordered), default=0) or 1
    bars = tuple(Bar(name=one.name, share=one.images / most, text=count(one.images)) for one in ordered)
    if len(bars) <= _FEW_CLASSES:
        return {"largest": bars, "smallest": ()}
    return {"largest": bars[:_ENDS_SHOWN], "smallest": bars[-_ENDS_SHOWN:]}


def _classes_download(about: DatasetSummary) -> Any:
    names = [one.name for one in about.class_counts]
    columns = {split: [one.splits[split] for one in about.class_counts] for split in about.splits}
    images = [one.images for one in about.class_counts]
    return csv_download("classes.csv", {"class": names, "images": images, **columns})


def _sizes_download(dataset: Dataset) -> Any:
    sizes = zip(*(dataset.index.column(f"source_{name}").to_pylist() for name in ("width", "height")), strict=True)
    numbers: dict[tuple[int, int], int] = {}
    for one in sizes:
        numbers[one] = numbers.get(one, 0) + 1
    ordered = sorted(numbers.items(), key=lambda item: -item[1])
    return csv_download(
        "sizes.csv",
        {"width": [s[0] for s, _ in ordered], "height": [s[1] for s, _ in ordered], "images": [n for _, n in ordered]},
    )


def _leak_rows(leaks: Sequence[Leak], row_of: dict[str, int], made: dict[int, Thumbnail]) -> list[LeakRows]:
    return [
        LeakRows(
            text=f"In {leak.train} and in {leak.test}: {plural(leak.images, 'image')}",
            pairs=tuple(
                (made[row_of[one]], made[row_of[other]])
                for one, other in leak.examples
                if row_of[one] in made and row_of[other] in made
            ),
        )
        for leak in leaks
    ]
