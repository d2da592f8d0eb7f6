"""The ledger: which samples each step really applied, in sums that cannot be made up by accident.

Every rank hashes what the loader returned to it. The hashes are summed modulo 2^64, so the sum over ranks (an
integer all-reduce beside the gradient) does not depend on who held which sample. One sum is over (sample id, label,
epoch) and can be computed again from the dataset's index alone; the other is over the pixels that were trained on and
takes decoding them again. The lines of all steps applied are chained: a chain names one history, step by step.
"""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

GENESIS = "0" * 32
_FIELDS = ("step", "quorum_id", "samples", "sample_sum", "pixel_sum")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was seen of some samples: how many, and two sums of hashes (int64, modulo 2^64)."""

    samples: int
    sample_sum: int
    pixel_sum: int

    def to_array(self) -> Int64Array:
        return np.array([self.samples, self.sample_sum, self.pixel_sum], dtype=np.int64)

    @classmethod
    def from_array(cls, values: Sequence[int] | Int64Array) -> "Evidence":
        samples, sample_sum, pixel_sum = (int(value) for value in values)
        return cls(samples=samples, sample_sum=sample_sum, pixel_sum=pixel_sum)

    def __add__(self, other: "Evidence") -> "Evidence":
        with np.errstate(over="ignore"):
            return Evidence.from_array(self.to_array() + other.to_array())


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """One applied step."""

    step: int
    quorum_id: int
    evidence: Evidence


@final
class Ledger:
    """The lines of all steps applied, in order, and the hash chain over them (the lineage)."""

    def __init__(self, lines: Iterable[LedgerLine] = ()) -> None:
        self._numbers = array("q")  # 40 bytes a line: a long training has many
        self.lineage = GENESIS
        for line in lines:
            self.append(line)

    @property
    def lines(self) -> tuple[LedgerLine, ...]:
        return tuple(_line_of(row) for row in self.to_array())

    def __len__(self) -> int:
        return len(self._numbers) // len(_FIELDS)

    def append(self, line: LedgerLine) -> None:
        row = _row_of(line)
        self._numbers.extend(row)
        self.lineage = hashlib.blake2b(f"{self.lineage} {row}".encode(), digest_size=16).hexdigest()

    def to_array(self) -> Int64Array:
        """int64[steps, 5]: step, quorum id, samples, sample sum, pixel sum."""
        return np.array(self._numbers, dtype=np.int64).reshape(-1, len(_FIELDS))

    @classmethod
    def from_array(cls, rows: Int64Array) -> "Ledger":
        return cls(map(_line_of, rows))


def evidence_of(sample_ids: UInt64Array, labels: Int64Array, pixels: npt.NDArray[np.uint8], epoch: int) -> Evidence:
    """The evidence of samples as they are: sample_ids and labels of shape (B,), pixels of shape (B, H, W, C)."""
    return Evidence(
        samples=len(sample_ids),
        sample_sum=sum_of_samples(sample_ids, labels, epoch),
        pixel_sum=_wrapped_sum(_mix(sample_ids ^ np.array([_pixel_hash(image) for image in pixels], dtype=np.uint64))),
    )


def sum_of_samples(sample_ids: UInt64Array, labels: npt.NDArray[np.integer], epoch: int) -> int:
    """The sum over (sample id, label, epoch), as int64 modulo 2^64."""
    with np.errstate(over="ignore"):
        salt = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(epoch)
    return _wrapped_sum(_mix(sample_ids ^ _mix(salt)))


def _row_of(line: LedgerLine) -> tuple[int, ...]:
    evidence = line.evidence
    return line.step, line.quorum_id, evidence.samples, evidence.sample_sum, evidence.pixel_sum


def _pixel_hash(image: npt.NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")


def _line_of(row: Int64Array) -> LedgerLine:
    return LedgerLine(step=int(row[0]), quorum_id=int(row[1]), evidence=Evidence.from_array(row[2:]))


def _wrapped_sum(values: UInt64Array) -> int:
    with np.errstate(over="ignore"):
        return int(np.sum(values, dtype=np.uint64).astype(np.int64))


def _mix(values: UInt64Array) -> UInt64Array:
    """splitmix64's finalizer (Steele, Lea, Flood, OOPSLA 2014): a bijection in which every bit moves every other."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
