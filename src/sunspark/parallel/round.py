"""Who computes which replicas of a round, and whose work of it is kept.

A round is the steps that count together, with an exchange at their end. Each replica of it is a trajectory of its own,
a function of the round's start alone, so it does not matter who computes it. A worker sums the results of the replicas
that it has finished, and may be on its way through one more; it says so when it comes to a quorum. What follows is a
pure function of the quorum, as the rest is (`membership.py`): nobody's work is done again while its worker is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What a worker holds of the round at hand."""

    finished: tuple[int, ...] = ()
    """Replicas whose results it has, as one sum."""
    replica: int = -1
    """The replica that it is on its way through; -1 for none."""
    steps: int = 0
    """Steps of that replica it has taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """A worker's part of a round from a quorum on."""

    keeps_finished: bool
    """False where its sum holds a replica that another one's sum holds too: it is then forgotten."""
    goes_on: bool
    """Whether it goes on with the replica that it was on its way through: the first of `replicas`."""
    replicas: tuple[int, ...]
    """What it has to do, in order."""


def duties_of(helds: Sequence[Held], num_replicas: int) -> list[Duty]:
    """The duty of each member, in rank order, so that every replica is in the result once.

    `helds` are what the members hold of this round. The rest is spread evenly, to the lowest ranks first.
    """
    ranks = range(len(helds))
    covered: set[int] = set()
    keepers: set[int] = set()
    for rank in sorted(ranks, key=lambda rank: -len(helds[rank].finished)):
        if covered.isdisjoint(helds[rank].finished):
            keepers.add(rank)
            covered.update(helds[rank].finished)
    replicas: list[list[int]] = [[] for _ in ranks]
    travellers: set[int] = set()
    for rank in sorted(ranks, key=lambda rank: -helds[rank].steps):
        if helds[rank].replica >= 0 and helds[rank].replica not in covered:
            travellers.add(rank)
            covered.add(helds[rank].replica)
            replicas[rank].append(helds[rank].replica)
    for replica in range(num_replicas):
        if replica not in covered:
            replicas[min(ranks, key=lambda rank: len(replicas[rank]))].append(replica)
    return [
        Duty(keeps_finished=rank in keepers, goes_on=rank in travellers, replicas=tuple(replicas[rank]))
        for rank in ranks
    ]
