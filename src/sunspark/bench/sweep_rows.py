"""The settings of a sweep as its report numbers them: the fastest first."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sunspark.bench.bars import Segment, phase_segments
from sunspark.bench.history import ELSEWHERE, PHASES
from sunspark.bench.sweep_results import Measurement, Summary
from sunspark.bench.words import plural


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A setting in the table, and in the charts by its number."""

    number: int
    summary: Summary
    first: Measurement
    """Of its measurements, the first."""
    seconds: float
    """Of training, the mean."""
    seconds_per_epoch: float
    """In steady state, the mean."""
    segments: tuple[Segment, ...]
    is_baseline: bool
    """Another one is compared with it."""

    @property
    def core_hours(self) -> float:
        """What its training cost, wherever it ran."""
        return self.first.cores * self.seconds / 3600

    @property
    def forecast_error(self) -> float | None:
        """forecast / measured - 1; above 0: the forecast was too long."""
        forecast = self.first.forecast_seconds_per_epoch
        return forecast / self.seconds_per_epoch - 1 if forecast else None


def rows_of(found: Sequence[Summary], measurements: Sequence[Measurement]) -> list[Row]:
    """Those that have been measured."""
    by_setting: dict[str, list[Measurement]] = defaultdict(list)
    for one in measurements:
        if one.status == "measured":
            by_setting[one.setting].append(one)
    baselines = {one.baseline for one in measurements}
    by_speed = sorted((one for one in found if one.runs), key=lambda one: -(one.images_per_second or 0.0))
    return [
        _row(number, one, by_setting[one.setting], one.setting in baselines)
        for number, one in enumerate(by_speed, start=1)
    ]


def speed_up_in_words(one: Summary) -> str:
    """With its interval, or that it has none."""
    text = f"{one.speed_up:.2f} times the speed of its baseline"
    if one.speed_up_interval is None:
        return f"{text} (one run)"
    low, high = one.speed_up_interval
    return f"{text} (95 % interval {low:.2f} to {high:.2f}, {plural(one.runs, 'run')})"


def _row(number: int, summary: Summary, measured: Sequence[Measurement], is_baseline: bool) -> Row:
    phases = {
        phase: float(np.mean([getattr(one, f"{phase}_seconds") or 0.0 for one in measured]))
        for phase in (*PHASES, ELSEWHERE)
    }
    seconds = float(np.mean([one.seconds or 0.0 for one in measured]))
    return Row(
        number=number,
        summary=summary,
        first=measured[0],
        seconds=seconds,
        seconds_per_epoch=float(np.mean([one.seconds_per_epoch or 0.0 for one in measured])),
        segments=phase_segments(phases),
        is_baseline=is_baseline,
    )
