"""Steps of which some replicas are applied and others not yet: what a ledger line is made of, bit by bit.

Where workers do not wait for each other, a step is applied in parts, and later steps before earlier ones are whole. The
ledger is in order all the same: a step becomes a line once it, and all before it, are whole. What is applied of the
others is kept here, and goes into checkpoints with them.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import final

import numpy as np

from sunspark.errors import RunError
from sunspark.parallel.ledger import Evidence, Int64Array

_FIELDS = 5


@final
class OpenSteps:
    """By step, the evidence of each replica that is applied."""

    def __init__(self) -> None:
        self._steps: dict[int, dict[int, Evidence]] = defaultdict(dict)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def replicas_of(self, step: int) -> set[int]:
        """Those whose part of `step` is applied."""
        return set(self._steps.get(step, {}))

    @property
    def steps(self) -> list[int]:
        """All of which something is applied, in order."""
        return sorted(self._steps)

    def add(self, replica: int, evidences: Mapping[int, Evidence]) -> None:
        """The replica's parts of these steps are applied."""
        for step, evidence in evidences.items():
            assert replica not in self._steps[step], f"replica {replica} of step {step} is applied twice"
            self._steps[step][replica] = evidence

    def take_whole(self, step: int, num_replicas: int) -> Evidence | None:
        """The evidence of `step`, which is forgotten, if all replicas of it are applied."""
        parts = self._steps.get(step, {})
        if len(parts) < num_replicas:
            return None
        del self._steps[step]
        whole = Evidence(samples=0, sample_sum=0, pixel_sum=0)
        for replica in sorted(parts):
            whole += parts[replica]
        return whole

    def to_array(self) -> Int64Array:
        """int64[parts, 5]: step, replica, samples, sample sum, pixel sum."""
        rows = [
            [step, replica, *parts[replica].to_array()]
            for step, parts in sorted(self._steps.items())
            for replica in sorted(parts)
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, _FIELDS)

    @classmethod
    def from_array(cls, rows: Int64Array, source: str) -> "OpenSteps":
        """Raises RunError, naming `source`, when a part is there twice."""
        opened = cls()
        for step, replica, *sums in rows.tolist():
            if replica in opened.replicas_of(step):
                raise RunError(f"{source} contradicts itself: replica {replica} of step {step} is applied twice")
            opened.add(replica, {step: Evidence.from_array(sums)})
        return opened
