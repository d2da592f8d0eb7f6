"""`sunspark inspect DATASET`: count what is in a dataset; its bad images, its page, its augmentation as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.command_line import parse, words_of
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import MOST_PAIRS, Outcome, summary, table
from sunspark.data.augment import AugmentConfig
from sunspark.data.contact_sheet import SheetConfig
from sunspark.data.leak_table import LeakedImage
from sunspark.data.leaks import LabelConflicts, Leak, leaks_in_words
from sunspark.data.summary import DatasetSummary, left_out_in_words
from sunspark.errors import ConfigError, clipped, plural, printable

_MOST_QUARANTINED = 20
_MOST_COLUMNS = 6
"""Splits that have a column in the table of classes; more have a table of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    dataset: Positional[str]
    """Dataset made by 'sunspark ingest'."""
    quarantine: Annotated[bool, FlagCreatePairsOff] = False
    """Show the images that could not be taken, all of them, with their reasons."""
    leaks: Annotated[bool, FlagCreatePairsOff] = False
    """Show the images that are trained on and judged by, those that --drop-leaks took out, and those that have an exact
    copy under another class, all of them, with their copies."""
    html: str | None = None
    """HTML file to write: what is in the dataset, with some of its images; it holds everything it shows."""
    augmented: str | None = None
    """PNG file to write: some images as training sees them in its first epochs, and as evaluation does."""
    sheet: Annotated[SheetConfig, tyro.conf.arg(name="")] = field(default_factory=SheetConfig)
    augment: Annotated[AugmentConfig, tyro.conf.arg(name="")] = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.quarantine and self.leaks:
            raise ConfigError("--quarantine and --leaks are two tables; give one of them")
        changed = words_of(self.sheet, SheetConfig()) + words_of(self.augment, AugmentConfig())
        if changed and self.augmented is None:
            raise ConfigError(f"{changed[0]} has no effect without --augmented FILE; give that, or leave it out")


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and count."""
    description = "Count what is in a dataset, by class and split, size and format; show what could not be taken."
    arguments = parse(Arguments, argv, prog="sunspark inspect", description=description)
    written = []
    if arguments.html is not None:
        written.append(sunspark.inspect_page(arguments.dataset, arguments.html).path)
    if arguments.augmented is not None:
        written.append(
            sunspark.inspect_augmented(arguments.dataset, arguments.augmented, arguments.sheet, arguments.augment).path
        )
    outcome = _outcome(arguments)
    tail = "".join(f"\nwritten: {path}" for path in written)
    return Outcome(result=outcome.result, text=outcome.text + ("\n" + tail if tail else ""))


def _outcome(arguments: Arguments) -> Outcome:
    if arguments.quarantine:
        return _quarantine_outcome(arguments.dataset)
    if arguments.leaks:
        return _leaks_outcome(arguments.dataset)
    return _summary_outcome(arguments.dataset)


def _summary_outcome(dataset: str) -> Outcome:
    result = sunspark.inspect(dataset)
    found = [f"{leak.train} & {leak.test}: {leak.images:,}" for leak in result.leaks]
    parts = [
        summary(
            result,
            leave_out=("class_counts", "quarantine", "splits", "unpaired_splits", "num_sizes", "label_conflicts"),
            words={
                "leaks": leaks_in_words(found, result.unpaired_splits, result.splits),
                "sizes": _sizes(result),
                "left_out": left_out_in_words(result.left_out),
            },
        ),
        *_splits(result),
        _classes(result),
        *_leaks(result.leaks),
        *_label_conflicts(result.label_conflicts),
        *_quarantine(result),
    ]
    return Outcome(result=result, text="\n".join(parts))


def _quarantine_outcome(dataset: str) -> Outcome:
    result = sunspark.inspect_quarantine(dataset)
    parts = [summary(result, leave_out=("reasons", "images"))]
    if result.images:
        reasons = [(one.images, one.stage, one.reason, printable(one.example)) for one in result.reasons]
        parts.append(table("commonest reasons", ["images", "stage", "reason", "for instance"], reasons))
        rows = [(printable(one.path), one.stage, one.reason) for one in result.images]
        parts.append(table("all of them", ["path", "stage", "reason"], rows))
    return Outcome(result=result, text="\n".join(parts))


def _leaks_outcome(dataset: str) -> Outcome:
    result = sunspark.inspect_leaks(dataset)
    leaked = leaks_in_words([f"{result.leaked:,}"], result.unpaired_splits, result.splits)
    left_out = ("splits", "unpaired_splits", "leaks", "dropped", "label_conflicts")
    parts = [summary(result, leave_out=left_out, words={"leaked": leaked})]
    pair = ["path", "class", "copy", "its class"]
    for title, found in (("leaks", result.leaks), ("taken out of training by --drop-leaks", result.dropped)):
        if found:
            parts.append(table(title, ["train", "test", *pair], map(_leak_row, found)))
    if result.label_conflicts:
        conflicting = [
            (printable(one.path), clipped(one.class_name), printable(one.copy), clipped(one.copy_class))
            for one in result.label_conflicts
        ]
        parts.append(table("copies under another class", pair, conflicting))
    return Outcome(result=result, text="\n".join(parts))


def _leak_row(one: LeakedImage) -> tuple[str, ...]:
    copy = _same(one.copy, one.path)
    return one.train, one.test, printable(one.path), clipped(one.class_name), copy, clipped(one.copy_class)


def _sizes(result: DatasetSummary) -> str:
    more = result.num_sizes - len(result.sizes)
    sizes = [f"{size}: {images:,}" for size, images in result.sizes.items()] or ["none"]
    return ", ".join(sizes) + (f" and {more:,} more" if more else "")


def _splits(result: DatasetSummary) -> list[str]:
    """Nothing where the table of classes has a column for each."""
    if len(result.splits) <= _MOST_COLUMNS:
        return []
    is_cut = len(result.splits) > MOST_PAIRS
    title = f"splits ({MOST_PAIRS} of {len(result.splits)}; --json has all)" if is_cut else "splits"
    return [table(title, ["split", "images"], list(result.splits.items())[:MOST_PAIRS])]


def _classes(result: DatasetSummary) -> str:
    """With a last line of sums; a column for bad files where there are any."""
    splits = list(result.splits) if len(result.splits) <= _MOST_COLUMNS else []
    bad = ["bad"] if result.quarantined else []
    rows = [
        (
            clipped(count.name),
            count.images,
            *(count.splits[split] for split in splits),
            *([count.quarantined] if bad else []),
        )
        for count in result.class_counts
    ]
    sums = ("all", result.images, *(result.splits[split] for split in splits), *([result.quarantined] if bad else []))
    title = "classes" if splits or not result.splits else "classes (--json has their splits)"
    return table(title, ["class", "images", *splits, *bad], [*rows, sums])


def _leaks(leaks: Sequence[Leak]) -> list[str]:
    if not leaks:
        return []
    rows = [
        (leak.train, leak.test, leak.images, printable(path), _same(copy, path))
        for leak in leaks
        for path, copy in leak.examples[:1]
    ]
    title = (
        "leaks: exact copies across a training split and its test split (--leaks has all; ingest --drop-leaks takes "
        "them out)"
    )
    return [table(title, ["train", "test", "images", "for instance", "copy"], rows)]


def _label_conflicts(conflicts: LabelConflicts) -> list[str]:
    if not conflicts.images:
        return []
    rows = [(printable(path), printable(copy)) for path, copy in conflicts.examples]
    title = (
        f"{plural(conflicts.images, 'image has', 'images have')} an exact copy under another class (--leaks has all)"
    )
    return [table(title, ["for instance", "copy"], rows)]


def _quarantine(result: DatasetSummary) -> list[str]:
    if not result.quarantine:
        return []
    shown = result.quarantine[:_MOST_QUARANTINED]
    title = f"quarantine ({len(shown)} of {len(result.quarantine)}; --quarantine has all)"
    return [table(title, ["path", "stage", "reason"], [(printable(one.path), one.stage, one.reason) for one in shown])]


def _same(copy: str, path: str) -> str:
    return "the same file" if copy == path else printable(copy)
