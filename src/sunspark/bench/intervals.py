"""How sure a measured share is.

Source: Wilson, JASA 22 (1927), the score interval.
"""

import math


def wilson_interval(correct: int, samples: int) -> tuple[float, float]:
    """The 95 % interval of a share that was measured on `samples` samples."""
    if samples == 0:
        return 0.0, 1.0
    z = 1.96
    middle = (correct + z * z / 2) / (samples + z * z)
    half = z / (samples + z * z) * math.sqrt(correct * (samples - correct) / samples + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)
