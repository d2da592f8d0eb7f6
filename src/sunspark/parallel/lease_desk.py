"""The parameter server's judgement: who trains on which samples, whose update counts, and who must wait.

The samples of a training are cut into units: a replica's slices of some consecutive steps. A worker leases a unit,
takes the parameters as they are, trains, and pushes what it has changed. The push closes the lease. A lease whose
worker is gone is void, and its unit is leased again, as is one that waits beside another of the same worker while
somebody has nothing to do; a push under a void lease is refused, a repeated one gets its first answer. So each unit is
applied once, whoever dies, comes back, or asks twice.

How stale an update is, is the number of others applied since its worker took the parameters; it is scaled by
1 / sqrt(1 + staleness) (Xie et al., arXiv 1903.03934, section 5.2: polynomial, a = 1/2). With a bound nobody takes the
parameters while that could make an update staler (Ho et al., "More effective distributed ML via a stale synchronous
parallel parameter server", NIPS 2013): whoever is ahead waits, nothing is dropped.

No network, no tensors, no clock: a test can play any interleaving.
"""

import heapq
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Unit:
    """What is leased: the slices of one replica in the steps of one round."""

    round: int
    replica: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to push the update of a unit, once."""

    number: int
    """No other lease ever has it."""
    unit: Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The update of a push is to be applied."""

    unit: Unit
    staleness: int
    """Updates of others that were applied since the worker took the parameters."""
    is_repeated: bool = False
    """It has been applied before, and is not to be applied again."""

    @property
    def scale(self) -> float:
        """What the update is multiplied with."""
        return 1.0 / math.sqrt(1 + self.staleness)


@dataclass(slots=True)
class _Holding:
    lease: Lease
    holder: str
    version: int | None = None
    """Updates that were in the parameters when the holder took them; None before it has."""


@final
class LeaseDesk:
    """Leases out all units in order, and closes each once."""

    def __init__(
        self,
        num_replicas: int,
        staleness_bound: int | None = None,
        *,
        first_round: int = 0,
        applied: Collection[Unit] = (),
    ) -> None:
        """Of the units from `first_round` on, the updates of those in `applied` are in the parameters already."""
        self._num_replicas = num_replicas
        self._staleness_bound = staleness_bound
        self._applied = set(applied)
        self._next = first_round * num_replicas
        self._returned: list[Unit] = []
        self._holdings: dict[int, _Holding] = {}
        self._answers: dict[str, tuple[int, Accepted]] = {}
        """Holder -> its last push that was accepted."""
        self._waiting: list[int] = []
        """Leases that could not be begun, in the order of their first attempt."""
        self._unsettled: set[int] = set()
        """Leases whose updates are accepted, and may be missing in the parameters that are taken now."""
        self._last_number = 0
        self.version = 0
        """Updates accepted."""
        self.end_round = first_round
        """Units of this round and later ones are not leased yet."""

    @property
    def holders(self) -> set[str]:
        """Who has a lease."""
        return {holding.holder for holding in self._holdings.values()}

    def ask(self, holder: str) -> Lease | None:
        """A unit for `holder` to train on: the one it has not begun yet, else the first free one, if there is any.

        Where none is free, who has nothing gets one that another holds beside the one it trains on.
        """
        for holding in self._holdings.values():
            if holding.holder == holder and holding.version is None:
                return holding.lease
        unit = self._returned[0] if self._returned else self._next_unit()
        if unit.round >= self.end_round:
            return self._take_over(holder)
        if self._returned:
            heapq.heappop(self._returned)
        else:
            self._next += 1
        return self._lease(unit, holder)

    def _take_over(self, holder: str) -> Lease | None:
        holdings = list(self._holdings.values())
        busy = {holding.holder for holding in holdings if holding.version is not None}
        spare = [holding.lease for holding in holdings if holding.version is None and holding.holder in busy]
        if holder in busy or not spare:
            return None
        lease = min(spare, key=lambda lease: lease.unit)
        self._void(lease)
        return self._lease(lease.unit, holder)

    def _lease(self, unit: Unit, holder: str) -> Lease:
        self._last_number += 1
        lease = Lease(number=self._last_number, unit=unit)
        self._holdings[lease.number] = _Holding(lease, holder)
        return lease

    def is_held(self, number: int) -> bool:
        """Whether the lease of that number is neither closed nor void."""
        return number in self._holdings

    def begin(self, number: int) -> bool:
        """The holder takes the parameters now, or has before; False when it has to wait. The lease must be held."""
        if self._holdings[number].version is not None:
            return True  # its reply was lost: were it to wait, it might be for those that wait for its update
        if number not in self._waiting:
            self._waiting.append(number)
        if self._waiting[0] != number or self._may_go_stale(number):
            return False
        self._waiting.remove(number)
        self._holdings[number].version = self.version - len(self._unsettled)
        return True

    def _may_go_stale(self, number: int) -> bool:
        """Whether an update may get staler than allowed if this one is begun now."""
        if self._staleness_bound is None:
            return False
        begun = [h.version for h in self._holdings.values() if h.version is not None and h.lease.number != number]
        oldest = min(begun, default=self.version)
        lacks = max(self.version - oldest, len(self._unsettled))
        return lacks + len(begun) > self._staleness_bound  # were the oldest, or this one, pushed after them all

    def push(self, holder: str, number: int, *, settles: bool = True) -> Accepted | None:
        """An update comes: whether it is to be applied. None: its lease is void, and it counts nowhere.

        Who takes the parameters from now on gets them with it; without `settles`, not before `settle` is called.
        """
        last_number, answer = self._answers.get(holder, (0, None))
        if number == last_number and answer is not None:
            return Accepted(unit=answer.unit, staleness=answer.staleness, is_repeated=True)
        holding = self._holdings.get(number)
        if holding is None or holding.holder != holder or holding.version is None:
            return None
        del self._holdings[number]
        accepted = Accepted(unit=holding.lease.unit, staleness=self.version - holding.version)
        self.version += 1
        if not settles:
            self._unsettled.add(number)
        self._answers[holder] = (number, accepted)
        return accepted

    def settle(self, number: int) -> None:
        """Who takes the parameters from now on gets the update of that lease with them."""
        self._unsettled.discard(number)

    def release(self, holder: str) -> list[Unit]:
        """A worker process is gone: its leases are void. The units that somebody else has to do again, if begun."""
        gone = [holding for holding in self._holdings.values() if holding.holder == holder]
        for holding in gone:
            self._void(holding.lease)
            heapq.heappush(self._returned, holding.lease.unit)
        self._answers.pop(holder, None)
        return [holding.lease.unit for holding in gone if holding.version is not None]

    def _void(self, lease: Lease) -> None:
        del self._holdings[lease.number]
        self._waiting = [number for number in self._waiting if number != lease.number]

    def _next_unit(self) -> Unit:
        """The first that was never leased."""
        while True:
            unit = Unit(round=self._next // self._num_replicas, replica=self._next % self._num_replicas)
            if unit not in self._applied:
                return unit
            self._applied.discard(unit)
            self._next += 1
