"""What training costs in one place: the numbers that a forecast is made of. `fitting.py` finds them.

A sum among W workers is a ring: 2 (W - 1) messages, and 2 (W - 1) / W of all bytes over each link (Patarasuk and Yuan,
J. Parallel Distrib. Comput. 69 (2009)); its time is latency plus bytes by bandwidth (Hockney, Parallel Computing 20
(1994)). Workers that share cores slow each other down (`crowding`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sunspark.errors import RunError
from sunspark.parallel.codec import Compression

QUORUM_SECONDS_PER_WORKER: Final = 1.1e-3
"""What each worker adds to the time of a quorum (benchmarks/README.md: 1.3 ms with 2, 34 ms with 32, on two cores)."""

BYTES_PER_NUMBER: Final[Mapping[Compression, float]] = {"none": 4.0, "bf16": 2.0, "int8": 1.016}
"""On the way between workers, and up to a server; int8 has a scale for every 256 numbers."""

BYTES_DOWN: Final[Mapping[Compression, float]] = {"none": 4.0, "bf16": 2.0, "int8": 2.0}
"""Of each number of the parameters that a server hands out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSize:
    """Counts of numbers."""

    parameters: int
    """That are trained."""
    moments: int
    """That the optimizer remembers of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """In seconds, where nothing else is said. None: no run has told."""

    network: NetworkSize
    slice_seconds: float
    """Of any slice of a step, however small."""
    image_seconds: float
    """Of each image in it."""
    optimizer_seconds: float
    """Of a step."""
    rest_seconds: float
    """Of a step, whatever no record names: the quorum of one worker, bookkeeping. With a server too."""
    crowding: dict[str, float]
    """Number of workers that compute at the same time -> how much longer each takes than one alone. More than were
    measured are on machines of their own."""
    spread: dict[str, float]
    """The same -> standard deviation of the logarithm of the time that a worker computes at a step."""
    latency_seconds: float | None = None
    """Of a message of a ring."""
    byte_seconds: float | None = None
    """Of each byte over a link of a worker."""
    server_byte_seconds: float | None = None
    """The same of the driver's link; None: as a worker's."""
    coding_seconds: dict[str, float] = field(default_factory=dict)
    """Compression -> of each number, beyond its bytes."""
    hideable: float = 0.0
    """Share of backward during which gradients may travel."""
    backward: float = 0.0
    """Share of computing that is backward."""
    round_seconds: float | None = None
    """Of the exchange of a round, beyond what travels."""
    server_seconds: float | None = None
    """Of the server for one unit, during which it serves no other."""
    unit_seconds: float | None = None
    """Of a worker for one unit, beyond its steps, its bytes and the server."""
    memory_bytes: dict[str, int] = field(default_factory=dict)
    """Strategy -> of the largest worker of those runs."""
    start_seconds: float = 0.0
    """From the command to the end of the first step."""
    gigaflops: float | None = None
    """Of one core where the pilot ran, float32: products of matrices, measured."""
    decoding_seconds: float | None = None
    """Of an image there, by one core: decoding and augmenting, measured."""

    def slice_of(self, images: float) -> float:
        """Computing a slice of so many images, by one worker alone."""
        return self.slice_seconds + self.image_seconds * images

    def crowded(self, workers: float) -> float:
        """How much longer a worker takes while so many compute at the same time."""
        return _between(self.crowding, workers)

    def spread_of(self, workers: float) -> float:
        """How much steps vary while so many compute at the same time."""
        return _between(self.spread, workers)

    def sum_seconds(self, workers: int, compression: Compression, *, moments: int = 0) -> float:
        """A sum over so many workers: of all parameters, and of so many moments, which are never encoded.

        Raises RunError when no run tells.
        """
        if workers == 1:
            return 0.0
        if self.latency_seconds is None or self.byte_seconds is None:
            raise RunError("no run had several workers that sum gradients: what an exchange takes is not known")
        if compression != "none" and compression not in self.coding_seconds:
            raise RunError(f"no run had --compression {compression}: what encoding takes is not known")
        num_bytes = BYTES_PER_NUMBER[compression] * self.network.parameters + BYTES_PER_NUMBER["none"] * moments
        return (
            hops(workers) * self.latency_seconds
            + ring_share(workers) * num_bytes * self.byte_seconds
            + self.coding_seconds.get(compression, 0.0) * self.network.parameters
        )


def _between(known: Mapping[str, float], workers: float) -> float:
    """Linear between the numbers of workers that are known; beyond them as at the nearest."""
    numbers = sorted(map(int, known))
    return float(np.interp(workers, numbers, [known[str(number)] for number in numbers]))


def hops(workers: int) -> int:
    """Messages of a ring, one after the other."""
    return 2 * (workers - 1)


def ring_share(workers: int) -> float:
    """Of all bytes, how many go over each link."""
    return 2 * (workers - 1) / workers
