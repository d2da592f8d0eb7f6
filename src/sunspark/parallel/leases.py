"""The leases of an evaluation: which worker counts which samples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final


@final
@dataclass(slots=True)
class LeaseBook:
    """Ranges of an evaluation: leased, leased again when the holder is lost, counted once."""

    ranges: list[tuple[int, int]]
    count: Callable[[dict[str, Any]], None]
    """Takes the tally of each range, once."""
    _counted: set[int] = field(default_factory=set)
    _holders: dict[int, tuple[str, float]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return len(self._counted) == len(self.ranges)

    @property
    def num_counted(self) -> int:
        """Samples in the ranges that are counted."""
        return sum(end - begin for begin, end in self.ranges if begin in self._counted)

    @property
    def holders(self) -> set[str]:
        """Who has a lease of a range that is not counted."""
        return {holder for begin, (holder, _) in self._holders.items() if begin not in self._counted}

    def lease(self, replica_id: str, now: float, lease_seconds: float = 60.0) -> tuple[int, int] | None:
        """A range that nobody works on, or whose holder has had it for too long; None when there is none.

        Who asks while it has one gets that again: it has not heard of it.
        """
        for begin, end in self.ranges:
            holder, since = self._holders.get(begin, ("", -1e9))
            if begin not in self._counted and (holder == replica_id or now - since > lease_seconds):
                self._holders[begin] = (replica_id, now)
                return begin, end
        return None

    def give_back(self, replica_id: str) -> None:
        """The leases of a lost worker are free again."""
        self._holders = {b: holder for b, holder in self._holders.items() if holder[0] != replica_id}

    def hand_in(self, begin: int, tally: dict[str, Any]) -> None:
        """The tally of a range; the first one counts."""
        if begin not in self._counted:
            self.count(tally)
            self._counted.add(begin)
