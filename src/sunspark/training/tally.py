"""What came of the samples of an evaluation: counts, and a few samples to look at.

A tally is small whatever it counts, and tallies add up in any order to the same counts and the same samples; so
workers hand in one per lease and the driver keeps only their sum. Free of torch.
Cost: one entry per pair of classes that occurred, and at most `NUM_MISTAKES` + `NUM_RIGHT` samples.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, final

NUM_MISTAKES: Final = 24
"""Samples that are kept of those the model was wrong about."""
NUM_RIGHT: Final = 12
"""Samples that are kept of those the model was right about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """A sample, and what the model took it for."""

    row: int
    """Row of the dataset."""
    label: int
    predicted: int
    probability: float
    """What the model gave the predicted class, 0 to 1."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What came of some samples."""

    confusion: Mapping[tuple[int, int], int]
    """Samples by (label, predicted); pairs that did not occur are left out."""
    top5: int
    """Samples whose label is among the five classes that were ranked highest."""
    loss_sum: float
    """Sum of the cross-entropies (nats)."""
    mistakes: Sequence[Sighting]
    """The mistakes of which the model was surest, surest first."""
    right: Sequence[Sighting]
    """The samples in the lowest rows that were right: rows lie in the order of a hash, so this is a random draw."""

    def __add__(self, other: "Tally") -> "Tally":
        return tally(
            confusion=Counter(self.confusion) + Counter(other.confusion),
            top5=self.top5 + other.top5,
            loss_sum=self.loss_sum + other.loss_sum,
            sightings=[*self.mistakes, *self.right, *other.mistakes, *other.right],
        )

    def to_plain(self) -> dict[str, Any]:
        """As what JSON holds."""
        return asdict(self) | {"confusion": [[*pair, count] for pair, count in sorted(self.confusion.items())]}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`."""
        return cls(
            confusion={(label, predicted): count for label, predicted, count in plain["confusion"]},
            top5=plain["top5"],
            loss_sum=plain["loss_sum"],
            mistakes=[Sighting(**one) for one in plain["mistakes"]],
            right=[Sighting(**one) for one in plain["right"]],
        )


def tally(
    *, confusion: Mapping[tuple[int, int], int], top5: int, loss_sum: float, sightings: Sequence[Sighting]
) -> Tally:
    """A tally that keeps of `sightings` those worth looking at; a model that has diverged gives nothing to look at."""
    finite = [one for one in sightings if math.isfinite(one.probability)]
    mistakes = [one for one in finite if one.label != one.predicted]
    right = [one for one in finite if one.label == one.predicted]
    return Tally(
        confusion=confusion,
        top5=top5,
        loss_sum=loss_sum,
        mistakes=sorted(mistakes, key=lambda one: (-one.probability, one.row))[:NUM_MISTAKES],
        right=sorted(right, key=lambda one: one.row)[:NUM_RIGHT],
    )


NOTHING: Final = tally(confusion={}, top5=0, loss_sum=0.0, sightings=())
"""The tally of no samples."""
