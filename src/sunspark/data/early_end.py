"""An ingest that can only fail ends at once: too many images are bad already, whatever the others are.

Its engine notes each result as it comes. Bad images are kept by their paths: a result that comes twice, from a task
that was tried again, counts once, so that no ingest ends that would not have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, final

from sunspark.data.dataset import Quarantined

Hopeless = Callable[[int], bool]
"""Whether an ingest with so many bad images, or more, can only fail."""


class Result(Protocol):
    """What comes back about some images."""

    @property
    def quarantine(self) -> Sequence[Quarantined]: ...

    @property
    def block_name(self) -> str:
        """Of the block that was written; empty where there is none."""
        ...


@final
class SoFar:
    """What the results have told that have come."""

    def __init__(self) -> None:
        self.bad: dict[str, Quarantined] = {}
        """By path."""
        self.block_names: set[str] = set()

    def note(self, result: Result) -> None:
        """One more has come."""
        self.bad.update((entry.path, entry) for entry in result.quarantine)
        self.block_names.add(result.block_name)

    def add(self, other: SoFar) -> None:
        """What has been noted elsewhere."""
        self.bad |= other.bad
        self.block_names |= other.block_names


@final
class EndedEarly(Exception):
    """Raised by an engine that has ended its work, since what has come is hopeless."""

    def __init__(self, so_far: SoFar) -> None:
        super().__init__(f"{len(so_far.bad)} bad images")
        self.so_far = so_far
