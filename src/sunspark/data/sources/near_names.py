"""Names that are probably one: they differ in nothing but capitals, white space and how accents are stored (an `é` is
one character or two, as on macOS). They are kept apart.
"""

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from sunspark.errors import clipped, first_five

logger = logging.getLogger(__name__)


def warn_of_near_names(
    source: str, one: str, many: str, names: Sequence[str], num_images: Callable[[int], int]
) -> None:
    """A word on the classes or splits whose names are nearly equal; `num_images` counts by their numbers."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        alike[_core(name)].append(number)
    groups = [
        " and ".join(f"{clipped(names[number])!r} ({num_images(number):,})" for number in numbers)
        for numbers in alike.values()
        if len({names[number] for number in numbers}) > 1  # the same name twice is another mistake
    ]
    if groups:
        logger.warning(
            "%s has %s whose names differ in nothing but capitals, white space and how accents are stored, and keeps "
            "them apart (images in brackets): %s; give them one name if they are one %s",
            source, many, first_five(groups), one,
        )  # fmt: skip


def in_other_capitals(strangers: Iterable[str], known: Iterable[str]) -> tuple[str, str] | None:
    """The first of `strangers`, none of which is known, that is but for its capitals; and the name that is known."""
    known_of = {name.casefold(): name for name in known}
    return next(((name, known_of[name.casefold()]) for name in strangers if name.casefold() in known_of), None)


def _core(name: str) -> str:
    """What is left of a name without that: equal for names that are probably one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", "".join(name.split())).casefold())
