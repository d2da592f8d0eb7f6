"""What lies in a source and is left out before it is opened: told in a warning, and counted by kind for the manifest.

A kind is the suffix of a file that is named like no image, or one of the words below.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from sunspark.data.sources.listing import IMAGE_SUFFIXES, is_hidden, is_image_name
from sunspark.errors import clipped, first_five, plural

NO_SUFFIX: Final = "no suffix"
HIDDEN: Final = "hidden image"
NO_FILE: Final = "no file"
REST: Final = "other suffixes"
"""Of files whose suffixes are not among the commonest."""

_MOST_SUFFIXES: Final = 30
_MOST_LETTERS: Final = 20
logger = logging.getLogger(__name__)

LeftOut = dict[str, int]
"""How many of each kind."""


def leave_out_others(names: Sequence[str]) -> LeftOut:
    """Say which files among the images are named like none; names are relative to the source.

    Files directly in the source, lists and notes, lie beside the images and not among them.
    """
    others = [name for name in names if "/" in name and not is_image_name(name)]
    if not others:
        return {}
    counts = sorted(Counter(map(_suffix_of, others)).items(), key=lambda item: (-item[1], item[0]))
    told = first_five(f"{suffix} {count}" for suffix, count in counts)
    logger.warning(
        "%s named like no image and left out (%s), for instance %s; images end in %s",
        plural(len(others), "file is", "files are"), told, others[0], ", ".join(IMAGE_SUFFIXES),
    )  # fmt: skip
    commonest = dict(counts[:_MOST_SUFFIXES])
    rest = len(others) - sum(commonest.values())
    return commonest | ({REST: rest} if rest else {})


def leave_out_hidden(names: Iterable[str]) -> LeftOut:
    """Say which images are hidden."""
    hidden = [name for name in names if is_hidden(name) and is_image_name(name)]
    if not hidden:
        return {}
    logger.warning(
        "%s hidden and left out (a name or folder that begins with a dot, or __MACOSX), for instance %s; rename "
        "those that are meant",
        plural(len(hidden), "image is", "images are"), hidden[0],
    )  # fmt: skip
    return {HIDDEN: len(hidden)}


def leave_out_no_files(names: Sequence[str], why: str) -> LeftOut:
    """Say which entries are no files."""
    if not names:
        return {}
    logger.warning("left out, because %s: %s", why, first_five(names))
    return {NO_FILE: len(names)}


def _suffix_of(name: str) -> str:
    return clipped(os.path.splitext(name)[1].lower(), _MOST_LETTERS) or NO_SUFFIX
