"""The page of a dataset: one HTML file that needs nothing else, no network and no script.

Says what is in a dataset: classes with some of their images, splits, balance, sizes, formats, what could not be taken
and why, and which exact copies spoil what is learnt or measured. In the style of a run's report (`report.py`).
Cost: the index, and at most 32 blocks of the dataset (some 250 MB at the default size), one at a time; where
`--drop-leaks` took images out of training, a column of each block. A page of 10,000 classes has some 2 MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sunspark import storage
from sunspark.bench.bars import Bar
from sunspark.bench.dataset_classes import (
    balance,
    class_rows,
    class_table,
    classes_download,
    pictured,
    pictures_per_class,
)
from sunspark.bench.dataset_samples import rows_by_class, thumbnails
from sunspark.bench.download import Download, csv_download
from sunspark.bench.page import environment
from sunspark.bench.tiles import Tile
from sunspark.bench.words import count, percent, plural, share, size
from sunspark.command_line import command
from sunspark.data.dataset import Dataset
from sunspark.data.leak_table import LeakedImage, dropped_leaks
from sunspark.data.leaks import Examples, Leak, leaks_in_words
from sunspark.data.quarantine import commonest_reasons
from sunspark.data.summary import DatasetSummary, summarize
from sunspark.errors import clipped

_MOST_FILES: Final = 200
"""Rows of the tables of bad images and of dropped leaks; their CSVs have all."""
_MOST_LEAKS: Final = 8
_MOST_CONFLICTS: Final = 4
"""Pairs of pictures. Each may take two blocks."""
_SIDES: Final = (0, 64, 128, 256, 512, 1024, 2048, 1 << 31)
"""Pixels of an image's short side, from one column of the chart to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageResult:
    """Where the page of a dataset was written."""

    dataset: str
    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Twin:
    """One of two exact copies, side by side."""

    path: str
    uri: str
    class_name: str


Twins = tuple[tuple[Twin, Twin], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakRows:
    """A pair of splits that share images, and some of them side by side."""

    text: str
    pairs: Twins


def write_dataset_page(dataset: Dataset, out: str) -> PageResult:
    """Write the page of `dataset` to the file `out`."""
    storage.refuse_other_suffix(out, ".html")
    body = render(dataset).encode()
    storage.write_bytes_atomic(out, body)
    return PageResult(dataset=dataset.uri, path=out, size_bytes=len(body))


def render(dataset: Dataset) -> str:
    """The page, as HTML."""
    about, index = summarize(dataset), dataset.read_index(["source_width", "source_height"])
    rows_of = pictured(rows_by_class(dataset, pictures_per_class(about.classes)))
    dropped = dropped_leaks(dataset)
    leaked = [pair for leak in about.leaks for pair in leak.examples][:_MOST_LEAKS]
    conflicting = about.label_conflicts.examples[:_MOST_CONFLICTS]
    row_of = _row_of(dataset, [path for pair in (*leaked, *conflicting) for path in pair])
    made = thumbnails(dataset, [*row_of.values(), *(row for rows in rows_of.values() for row in rows)])
    twin_of = {
        path: Twin(path=path, uri=made[row].uri, class_name=clipped(dataset.classes[dataset.labels[row]]))
        for path, row in row_of.items()
    }
    return (
        environment()
        .get_template("dataset.html.j2")
        .render(
            name=_name_of(dataset.uri),
            subject=_subject(dataset),
            tiles=_tiles(about, dropped),
            splits=_split_bars(about),
            in_no_split=count(about.in_no_split),
            classes=class_rows(about.class_counts, rows_of, made),
            num_classes=count(about.classes),
            is_cut=len(rows_of) < about.classes,
            counts=class_table(about),
            balance=balance(about.class_counts),
            classes_download=classes_download(about),
            formats=_bars(about.formats),
            sides=_columns(_short_sides(index)),
            stored=_bars(about.sizes, whole=about.images),
            sizes_download=_sizes_download(index),
            reasons=commonest_reasons(about.quarantine),
            bad=about.quarantine[:_MOST_FILES],
            bad_files=plural(len(about.quarantine), "file"),
            num_bad=len(about.quarantine),
            bad_download=csv_download(
                "quarantine.csv",
                {key: [getattr(one, key) for one in about.quarantine] for key in ("path", "stage", "reason")},
            ),
            left_out=None if about.left_out is None else _bars(about.left_out),
            num_left_out=plural(sum((about.left_out or {}).values()), "file"),
            leaks=_leak_rows(about.leaks, twin_of),
            unlooked=_leaks_in_words(about) if about.unpaired_splits else "",
            leaks_command=command("inspect", dataset.uri, "--leaks"),
            copies=", ".join(f"{split} {count(number)}" for split, number in about.copies_in_split.items()),
            dropped=_clipped(dropped[:_MOST_FILES]),
            dropped_images=plural(about.leaks_dropped, "image"),
            dropped_rows=count(len(dropped)),
            num_dropped=len(dropped),
            dropped_download=_dropped_download(dropped),
            conflicts=count(about.label_conflicts.images),
            conflicting=_twins(about.label_conflicts.examples, twin_of),
        )
    )


def _name_of(uri: str) -> str:
    """The last two parts of the place, without its options."""
    return "/".join(part for part in (storage.name_of(storage.parent(uri)), storage.name_of(uri)) if part)


def _row_of(dataset: Dataset, paths: Sequence[str]) -> dict[str, int]:
    """The rows of some images, in the order of `paths`."""
    wanted = dict.fromkeys(paths, -1)
    if wanted:
        wanted |= {path: row for row, path in enumerate(dataset.paths.to_pylist()) if path in wanted}
    return wanted


def _subject(dataset: Dataset) -> list[tuple[str, str]]:
    settings = {key: value for key, value in dataset.manifest["configuration"].items() if value is not None}
    rows = [
        ("dataset", dataset.uri),
        ("id", dataset.id[:16]),
        ("made from", str(dataset.manifest.get("source", ""))),
        ("with", ", ".join(f"{key} {value}" for key, value in settings.items())),
    ]
    return [(term, value) for term, value in rows if value]


def _tiles(about: DatasetSummary, dropped: Sequence[LeakedImage]) -> list[Tile]:
    conflicts = about.label_conflicts.images
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
        _leak_tile(about),
        Tile(
            label="Label conflicts",
            value=count(conflicts),
            note=_conflict_note(conflicts, dropped),
            tone="bad" if conflicts else "good",
        ),
    ]


def _conflict_note(conflicts: int, dropped: Sequence[LeakedImage]) -> str:
    if conflicts:
        return "exact copies under another class"
    is_taken_out = any(one.class_name != one.copy_class for one in dropped)
    return "no copy is under another class" + (", but for what was taken out of training" if is_taken_out else "")


def _leak_tile(about: DatasetSummary) -> Tile:
    leaked, num_pairs = sum(leak.images for leak in about.leaks), len(about.leaks)
    if leaked:
        return Tile(label="Leaks", value=count(leaked), note=_leak_note(leaked, num_pairs), tone="bad")
    if about.unpaired_splits:
        return Tile(label="Leaks", value="?", note=_leaks_in_words(about))
    return Tile(label="Leaks", value=count(0), note="no training image is a test image", tone="good")


def _leaks_in_words(about: DatasetSummary) -> str:
    found = [f"{leak.train} & {leak.test}: {count(leak.images)}" for leak in about.leaks]
    return leaks_in_words(found, about.unpaired_splits, about.splits)


def _leak_note(leaked: int, num_pairs: int) -> str:
    among = "" if num_pairs == 1 else f", over {num_pairs} pairs of splits"
    what = "training image that is a test image" if leaked == 1 else "training images that are test images"
    return f"{what} too{among}"


def _from_to(counts: Sequence[int]) -> str:
    least, most = min(counts, default=0), max(counts, default=0)
    return f"{plural(most, 'image')} each" if least == most else f"{count(least)} to {plural(most, 'image')} each"


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


def _short_sides(index: pa.Table) -> dict[str, int]:
    """Images at the source by their short side."""
    sides = _short_side(index, "source_")
    numbers = np.histogram(sides, bins=np.array(_SIDES))[0]
    names = [f"under {_SIDES[1]}", *(f"{a} to {b - 1}" for a, b in pairwise(_SIDES[1:-1]))]
    return dict(zip([*names, f"{_SIDES[-2]} and more"], map(int, numbers), strict=True))


def _short_side(index: pa.Table, prefix: str) -> npt.NDArray[np.int32]:
    width, height = (index.column(f"{prefix}{name}").to_numpy() for name in ("width", "height"))
    shorter: npt.NDArray[np.int32] = np.minimum(width, height)
    return shorter


def _sizes_download(index: pa.Table) -> Download:
    sizes = zip(*(index.column(f"source_{name}").to_pylist() for name in ("width", "height")), strict=True)
    numbers: dict[tuple[int, int], int] = {}
    for one in sizes:
        numbers[one] = numbers.get(one, 0) + 1
    ordered = sorted(numbers.items(), key=lambda item: -item[1])
    return csv_download(
        "sizes.csv",
        {"width": [s[0] for s, _ in ordered], "height": [s[1] for s, _ in ordered], "images": [n for _, n in ordered]},
    )


def _clipped(leaks: Sequence[LeakedImage]) -> list[LeakedImage]:
    """The same with short names of classes."""
    return [replace(one, class_name=clipped(one.class_name), copy_class=clipped(one.copy_class)) for one in leaks]


def _dropped_download(dropped: Sequence[LeakedImage]) -> Download:
    names = [field.name for field in fields(LeakedImage)]
    return csv_download("dropped.csv", {name: [getattr(one, name) for one in dropped] for name in names})


def _leak_rows(leaks: Sequence[Leak], twin_of: Mapping[str, Twin]) -> list[LeakRows]:
    pairs_of = [(leak, _twins(leak.examples, twin_of)) for leak in leaks]
    return [LeakRows(text=_leak_text(leak, len(pairs)), pairs=pairs) for leak, pairs in pairs_of]


def _leak_text(leak: Leak, num_shown: int) -> str:
    shown = f", {num_shown} of them here" if 0 < num_shown < leak.images else ""
    return f"In {leak.train} and in {leak.test}: {plural(leak.images, 'image')}{shown}"


def _twins(examples: Examples, twin_of: Mapping[str, Twin]) -> Twins:
    """Those that were looked up."""
    return tuple((twin_of[one], twin_of[other]) for one, other in examples if one in twin_of and other in twin_of)
