"""`sunspark inspect DATASET`: count what is in a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary, table
from sunspark.data.summary import DatasetSummary

_MOST_QUARANTINED = 20
_MOST_COLUMNS = 6
"""Splits that have a column in the table of classes; of more, a few are shown."""
_FEW_SPLITS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    dataset: Positional[str]
    """Dataset made by 'sunspark ingest'."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and count."""
    description = "Count what is in a dataset, by class and split, size and format; reads no pixels."
    arguments = parse(Arguments, argv, prog="sunspark inspect", description=description)
    result = sunspark.inspect(arguments.dataset)
    parts = [
        summary(result, leave_out=("class_counts", "quarantine", "splits")),
        _splits(result),
        _classes(result),
        *_quarantine(result),
    ]
    return Outcome(result=result, text="\n".join(parts))


def _splits(result: DatasetSummary) -> str:
    shown = list(result.splits.items())
    title = "splits"
    if len(shown) > _MOST_COLUMNS:
        shown, title = shown[:_FEW_SPLITS], f"splits ({_FEW_SPLITS} of {len(shown)}; --json has all)"
    return table(title, ["split", "images"], shown)


def _classes(result: DatasetSummary) -> str:
    splits = list(result.splits) if len(result.splits) <= _MOST_COLUMNS else []
    rows = [
        (count.name, count.images, *(count.splits.get(split, 0) for split in splits)) for count in result.class_counts
    ]
    title = "classes" if splits else "classes (--json has their splits)"
    return table(title, ["class", "images", *splits], rows)


def _quarantine(result: DatasetSummary) -> list[str]:
    if not result.quarantine:
        return []
    shown = result.quarantine[:_MOST_QUARANTINED]
    title = f"quarantine ({len(shown)} of {len(result.quarantine)}; --json has all)"
    return [table(title, ["path", "stage", "reason"], [(one.path, one.stage, one.reason) for one in shown])]
