"""D, the deadline of all that depends on how long a step takes (docs/architecture.md, "Every wait has a deadline")."""

from typing import Final

FIRST_DEADLINE_SECONDS: Final = 600.0
"""Before the first step has shown how long a step takes."""
_LEAST_DEADLINE_SECONDS: Final = 60.0


def deadline_seconds(slowest_step_seconds: float) -> float:
    """D of a worker whose slowest step took that long; 0 when it has taken none."""
    if not slowest_step_seconds:
        return FIRST_DEADLINE_SECONDS
    return max(_LEAST_DEADLINE_SECONDS, 10 * slowest_step_seconds)
