"""How sure a measured figure is.

Sources: Wilson, JASA 22 (1927), the score interval; Student, Biometrika 6 (1908).
"""

import math
import statistics
from collections.abc import Sequence
from typing import Final

_T_975: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""The 97.5 % quantiles of Student's distribution with 1, 2, ... degrees of freedom."""
_Z_975: Final = 1.96


def wilson_interval(correct: int, samples: int) -> tuple[float, float]:
    """The 95 % interval of a share that was measured on `samples` samples."""
    if samples == 0:
        return 0.0, 1.0
    z = _Z_975
    middle = (correct + z * z / 2) / (samples + z * z)
    half = z / (samples + z * z) * math.sqrt(correct * (samples - correct) / samples + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of what these were drawn from; infinite when there is but one."""
    if len(values) < 2:
        return -math.inf, math.inf
    freedom = len(values) - 1
    # Beyond the table: the first terms of the expansion in 1 / freedom (Fisher, Metron 5 (1925)).
    t = _T_975[freedom - 1] if freedom <= len(_T_975) else _Z_975 + (_Z_975**3 + _Z_975) / (4 * freedom)
    mean, half = statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of ratios above 0, and its 95 % interval; from 0 to infinity when there is but one."""
    logs = [math.log(ratio) for ratio in ratios]
    low, high = mean_interval(logs)
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)
