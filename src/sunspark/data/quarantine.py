"""What could not be taken, and why: the commonest reasons, and how many bad images are too many.

An ingest that finds too many bad images makes no dataset, but leaves the table of them: it is read with
`quarantine_table` as that of a dataset is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sunspark import storage
from sunspark.command_line import command
from sunspark.data.dataset import Dataset, Quarantined, parse_quarantine, read_quarantine
from sunspark.data.manifest import MANIFEST_NAME, QUARANTINE_NAME
from sunspark.errors import SourceError, printable

MOST_REASONS = 10
_PARTICULAR = re.compile(r"(?<=begins with ).*|(?<=brand is ).*|b(['\"]).*\1|\d+")
"""What differs from image to image in reasons that are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why some images could not be taken."""

    stage: str
    reason: str
    """Of the first of them by path; numbers and bytes in it are its own."""
    images: int
    example: str
    """The path of that image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuarantineTable:
    """What could not be taken of a source."""

    dataset: str
    quarantined: int
    reasons: tuple[Reason, ...]
    """The ten commonest."""
    images: tuple[Quarantined, ...]
    """All of them, by path."""


def commonest_reasons(quarantine: Sequence[Quarantined], most: int = MOST_REASONS) -> tuple[Reason, ...]:
    """The reasons that most images share, the commonest first. Those that differ in numbers alone are the same."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], Quarantined] = {}
    for entry in sorted(quarantine, key=lambda entry: entry.path):
        kind = entry.stage, _PARTICULAR.sub("", entry.reason)
        counts[kind] += 1
        examples.setdefault(kind, entry)
    return tuple(
        Reason(stage=examples[kind].stage, reason=examples[kind].reason, images=images, example=examples[kind].path)
        for kind, images in counts.most_common(most)
    )


def refuse_too_many(dataset: str, quarantine: Sequence[Quarantined], num_listed: int, max_bad_fraction: float) -> None:
    """SourceError, with the commonest reasons, when more than that share of the listed images could not be taken.

    That none could is too many in any case.
    """
    share = len(quarantine) / num_listed
    if share == 1:
        raise _refusal(dataset, quarantine, f"none of the {num_listed} images can be taken", "mend them", "them all")
    if are_too_many(num_listed, max_bad_fraction, len(quarantine)):
        what = f"{_share_text(quarantine, num_listed)}, more than {_allowed_text(max_bad_fraction)}"
        enough = math.ceil(1000 * share) / 1000
        remedy = f"mend them, or leave them out with --max-bad-fraction {enough:g}"
        raise _refusal(dataset, quarantine, what, remedy, "them all")


def are_too_many(num_listed: int, max_bad_fraction: float, num_bad: int) -> bool:
    """Whether so many bad images are too many, however the others are."""
    return num_bad / num_listed > max_bad_fraction


def refusal_of_early_end(
    dataset: str, quarantine: Sequence[Quarantined], num_listed: int, max_bad_fraction: float
) -> SourceError:
    """What to say where an ingest has ended as soon as too many were bad, with these."""
    what = (
        f"{_share_text(quarantine, num_listed)}, more than {_allowed_text(max_bad_fraction)}; ended early, since the "
        "other images change nothing about that"
    )
    return _refusal(dataset, quarantine, what, "mend them, or allow more", "those that were found so far")


def _share_text(quarantine: Sequence[Quarantined], num_listed: int) -> str:
    share = len(quarantine) / num_listed
    return f"{len(quarantine)} of {num_listed} images ({100 * share:.3g} %) cannot be taken"


def _allowed_text(max_bad_fraction: float) -> str:
    return f"the {100 * max_bad_fraction:.3g} % that --max-bad-fraction allows"


def _refusal(dataset: str, quarantine: Sequence[Quarantined], what: str, remedy: str, named: str) -> SourceError:
    rows = [
        f"  {reason.images} x {reason.stage}: {reason.reason} (for instance {printable(reason.example)})"
        for reason in commonest_reasons(quarantine)
    ]
    return SourceError(
        f"{what}:\n" + "\n".join(rows) + f"\n{remedy}; `{command('inspect', dataset, '--quarantine')}` names {named}"
    )


def quarantine_table(uri: str) -> QuarantineTable:
    """What ingest could not take; also where too many bad images kept it from making a dataset.

    Raises DatasetError when there is neither a dataset nor such a table.
    """
    table = storage.join(uri, QUARANTINE_NAME)
    if not storage.exists(storage.join(uri, MANIFEST_NAME)) and storage.exists(table):
        images = parse_quarantine(uri, storage.read_bytes(table))
    else:
        images = read_quarantine(Dataset.open(uri))
    return QuarantineTable(
        dataset=uri, quarantined=len(images), reasons=commonest_reasons(images), images=tuple(images)
    )
