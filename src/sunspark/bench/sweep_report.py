"""The report of a sweep: which way of training is how fast, at what accuracy, and where its time goes.

Like that of a run (`report.py`), one HTML file without scripts. Everything is computed from FOLDER/results.parquet.
Beside the speed-ups stand those that the 2020 project measured, on its own machines.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sunspark.bench import plot
from sunspark.bench.bars import Bar, Segment, phase_segments
from sunspark.bench.download import csv_download
from sunspark.bench.history import ELSEWHERE, PHASES
from sunspark.bench.plot import Chart, Dot, Scale, Shape
from sunspark.bench.sweep_results import Measurement, Summary, summaries
from sunspark.bench.words import duration, percent, plural, rate, size

_BASELINE_SECONDS_2020: Final = 481.0
_SECONDS_2020: Final = {
    "2020, every epoch": {2: (270.0,), 4: (138.7, 147.4), 8: (78.0, 84.5), 16: (48.3,)},
    "2020, every batch": {2: (349.8,), 4: (284.3, 270.0), 8: (254.0, 244.0), 16: (228.0,)},
}
"""Seconds that Elephas took with so many cores (1x2, 1x4 and 2x2, 2x4 and 4x2, 4x4) on Amazon EMR."""
_DOT_SHARE: Final = 0.05
"""Of the width of a chart, that a dot takes."""
_COLUMNS: Final = (
    ("no.", True),
    ("setting", False),
    ("runs", True),
    ("images/s", True),
    ("speed-up", True),
    ("efficiency", True),
    ("core hours", True),
    ("top-1", True),
)
"""Heads of the table, and whether numbers stand below."""
_FORECAST_COLUMNS: Final = (("forecast, s/epoch", True), ("measured", True), ("error", True))
_STYLES: Final = ("blue", "green", "purple", "red")


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

    @property
    def core_hours(self) -> float:
        """What its training cost, wherever it ran."""
        return self.first.cores * self.seconds / 3600

    @property
    def forecast_error(self) -> float | None:
        """As a share of what was measured; above 0: it took less than was forecast."""
        forecast = self.first.forecast_seconds_per_epoch
        return forecast / self.seconds_per_epoch - 1 if forecast else None


def sections_of(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """What the template `sweep.html.j2` needs."""
    found = summaries(measurements)
    by_setting: dict[str, list[Measurement]] = defaultdict(list)
    for row in measurements:
        if row.status == "measured":
            by_setting[row.setting].append(row)
    measured = [one for one in found if one.runs]
    rows = [_row(number, one, by_setting[one.setting]) for number, one in enumerate(measured, start=1)]
    has_forecasts = any(row.first.forecast_seconds_per_epoch for row in rows)
    return {
        "finding": finding(found),
        "rows": rows,
        "not_run": [(one.setting, one.reason) for one in found if not one.runs],
        "speeds": _speed_bars(rows),
        "charts": [
            chart
            for chart in (
                _speed_up_chart(rows),
                _accuracy_chart(rows),
                _cost_chart(rows),
                _bytes_chart(rows),
                _forecast_chart(rows),
            )
            if chart
        ],
        "columns": [*_COLUMNS, *(_FORECAST_COLUMNS if has_forecasts else ())],
        "has_forecasts": has_forecasts,
        "stands_for_more": [row.summary.setting for row in rows if row.first.replicas > row.first.workers],
        "download": csv_download(
            "settings.csv",
            {
                "setting": [row.summary.setting for row in rows],
                "runs": [row.summary.runs for row in rows],
                "images_per_second": [row.summary.images_per_second or math.nan for row in rows],
                "speed_up": [row.summary.speed_up or math.nan for row in rows],
                "efficiency": [row.summary.efficiency or math.nan for row in rows],
                "top1": [math.nan if row.summary.top1 is None else row.summary.top1 for row in rows],
                "seconds_per_epoch": [row.seconds_per_epoch for row in rows],
                "forecast_seconds_per_epoch": [row.first.forecast_seconds_per_epoch or math.nan for row in rows],
            },
        ),
    }


def finding(found: Sequence[Summary]) -> str:
    """What the sweep says, in plain words, with its numbers and how sure they are."""
    rated = [one for one in found if one.speed_up is not None]
    if not rated:
        return "No setting has a measurement beside that of its baseline yet."
    fastest = max(rated, key=lambda one: one.speed_up or 0.0)
    sentences = [f"{_comparison(fastest)}."]
    slowest = min(rated, key=lambda one: one.speed_up or 0.0)
    if slowest is not fastest:
        sentences.append(f"The slowest is {slowest.setting}, with {_times(slowest)}.")
    known = [one for one in found if one.top1 is not None]
    if len(known) > 1:
        best, of_fastest = max(known, key=lambda one: one.top1 or 0.0), fastest.top1
        if best is fastest:
            sentences.append(f"It is also the most accurate, with {percent(best.top1 or 0.0)} top-1.")
        elif of_fastest is not None:
            points = 100 * ((best.top1 or 0.0) - of_fastest)
            sentences.append(
                f"The most accurate is {best.setting} with {percent(best.top1 or 0.0)} top-1, "
                f"{points:.1f} points above the {percent(of_fastest)} of the fastest."
            )
    if min(one.runs for one in rated) < 2:
        sentences.append("Settings that were run once have no interval: how far chance goes is not known.")
    if any(one.is_oversubscribed for one in rated):
        sentences.append("Some had fewer cores than they want, and their times say nothing about a cluster.")
    return " ".join(sentences)


def _comparison(one: Summary) -> str:
    interval = one.speed_up_interval
    if interval is not None and interval[0] <= 1 <= interval[1]:
        return (
            f"No setting can be told from one worker that trains alone; {one.setting}, the fastest, has {_times(one)}"
        )
    if (one.speed_up or 0.0) <= 1:
        return f"No setting is faster than one worker that trains alone: {one.setting}, the fastest, has {_times(one)}"
    return f"The fastest is {one.setting}, with {_times(one)}"


def _times(one: Summary) -> str:
    text = f"{one.speed_up:.2f} times the speed of its baseline"
    if one.speed_up_interval is None:
        return f"{text} (one run)"
    low, high = one.speed_up_interval
    return f"{text} (95 % interval {low:.2f} to {high:.2f}, {plural(one.runs, 'run')})"


def _row(number: int, summary: Summary, measured: Sequence[Measurement]) -> Row:
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
    )


def _speed_bars(rows: Sequence[Row]) -> tuple[Bar, ...]:
    most = max((row.summary.images_per_second or 0.0 for row in rows), default=0.0) or 1.0

    def bar(row: Row) -> Bar:
        speed, interval = row.summary.images_per_second or 0.0, row.summary.images_per_second_interval
        spread = f", 95 % interval {rate(max(0.0, interval[0]))} to {rate(interval[1])}" if interval else ""
        hint = f"{row.summary.setting}: {rate(speed)} images/s in {plural(row.summary.runs, 'run')}{spread}"
        return Bar(name=f"{row.number}  {row.summary.setting}", share=speed / most, text=rate(speed), hint=hint)

    return tuple(map(bar, rows))


def _speed_up_chart(rows: Sequence[Row]) -> Chart | None:
    """Speed-up over cores, by strategy; where a sweep has but one number of cores, its points alone."""
    rated = [row for row in rows if row.summary.speed_up is not None]
    if not rated:
        return None
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in rated:
        lines[row.first.strategy].append(row)
    most_cores = max(row.first.cores for row in rated)
    seconds_2020 = {name: [(c, s) for c, s in by.items() if c <= most_cores] for name, by in _SECONDS_2020.items()}
    ups_2020 = {name: [(c, _BASELINE_SECONDS_2020 / min(s)) for c, s in by] for name, by in seconds_2020.items()}
    highest = max([row.summary.speed_up or 0.0 for row in rated] + [up for by in ups_2020.values() for _, up in by])
    x, y = Scale(low=0.0, high=most_cores + 0.5), Scale(low=0.0, high=1.12 * max(highest, float(most_cores)))

    def path(points: Sequence[tuple[float, float]]) -> str:
        columns = np.array(points, np.float64)
        return plot.line_path(x.at(columns[:, 0]), y.at(columns[:, 1]))

    shapes = [Shape(path=path([(0, 0), (most_cores, most_cores)]), style="dotted ink", name="ideal")]
    for name, points in ups_2020.items():
        if points:
            shapes.append(Shape(path=path([(1, 1), *points]), style="faint ink", name=f"{name} (their machines)"))
    dots, aside = [], _aside(rated)
    for number, (strategy, mine) in enumerate(lines.items()):
        style = _STYLES[number % len(_STYLES)]
        best = {row.first.cores: row for row in sorted(mine, key=lambda row: row.summary.speed_up or 0.0)}
        points = [(cores, best[cores].summary.speed_up or 0.0) for cores in sorted(best)]
        shapes.append(Shape(path=path(points), style=f"line {style}", name=strategy))
        dots += [
            _dot(
                row,
                x.at(row.first.cores) + aside[row.number],
                y.at(row.summary.speed_up or 0.0),
                style,
                _times(row.summary),
            )
            for row in mine
        ]
    return Chart(
        title="Speed-up over one worker",
        caption="Dots are settings, by their number in the table; those of as many cores stand side by side. A line "
        "joins the best ones of a strategy. On the dotted line twice the cores are twice as fast. Gray: what Elephas "
        "came to in 2020 on Amazon EMR, of each number of cores its better layout.",
        x_label="cores of all workers",
        y_label="times the speed of the baseline",
        x_ticks=plot.integer_ticks(x),
        y_ticks=plot.number_ticks(y),
        shapes=tuple(shapes),
        dots=tuple(dots),
    )


def _aside(rows: Sequence[Row]) -> dict[int, float]:
    """How far a dot stands beside its number of cores, by the row's number: so that none covers another."""
    by_cores: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_cores[row.first.cores].append(row)
    return {
        row.number: _DOT_SHARE * (place - (len(mine) - 1) / 2)
        for mine in by_cores.values()
        for place, row in enumerate(sorted(mine, key=lambda row: row.summary.speed_up or 0.0))
    }


def _accuracy_chart(rows: Sequence[Row]) -> Chart | None:
    return _against_accuracy(
        rows,
        of=lambda row: row.seconds,
        title="Time and accuracy",
        caption="Up is more accurate, left is sooner: what lies below and right of another dot is worse in both.",
        label="seconds of training",
        words=lambda value: duration(value),
    )


def _bytes_chart(rows: Sequence[Row]) -> Chart | None:
    return _against_accuracy(
        [row for row in rows if row.first.bytes_sent],
        of=lambda row: (row.first.bytes_sent or 0) / 1e6,
        title="Bytes and accuracy",
        caption="What all workers have sent over a network. One worker sends none, nor do workers that share memory.",
        label="MB sent by all workers",
        words=lambda value: size(int(value * 1e6)),
    )


def _cost_chart(rows: Sequence[Row]) -> Chart | None:
    """Cost over time, and those of which no other is better in both."""
    if len(rows) < 2:
        return None
    x = Scale(low=0.0, high=1.08 * max(row.seconds for row in rows))
    y = Scale(low=0.0, high=1.15 * max(row.core_hours for row in rows))
    front = pareto_front([(row.seconds, row.core_hours) for row in rows])
    columns = np.array([(rows[place].seconds, rows[place].core_hours) for place in front], np.float64)
    shape = Shape(
        path=plot.line_path(x.at(columns[:, 0]), y.at(columns[:, 1])),
        style="line green",
        name="nothing is both cheaper and sooner",
    )
    return Chart(
        title="Time and cost",
        caption="What a training costs in hours of cores; times the price of one it is money. Right of the line, "
        "another setting is sooner or cheaper.",
        x_label="seconds of training",
        y_label="hours of cores",
        x_ticks=plot.number_ticks(x),
        y_ticks=plot.number_ticks(y),
        shapes=(shape,),
        dots=tuple(
            _dot(
                row,
                x.at(row.seconds),
                y.at(row.core_hours),
                "blue",
                f"{duration(row.seconds)}, {row.core_hours:.3g} hours of cores",
            )
            for row in rows
        ),
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of those that no other beats in one and equals or beats in the other; by the first number."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=points.__getitem__):
        if not front or points[place][1] < points[front[-1]][1]:
            front.append(place)
    return front


def _forecast_chart(rows: Sequence[Row]) -> Chart | None:
    """Forecasts, and what then happened."""
    known = [row for row in rows if row.forecast_error is not None]
    if not known:
        return None
    errors = sorted(abs(row.forecast_error or 0.0) for row in known)
    most = 1.1 * max(max(row.seconds_per_epoch, row.first.forecast_seconds_per_epoch or 0.0) for row in known)
    scale = Scale(low=0.0, high=most)
    corner = np.array([0.0, most])
    ideal = Shape(path=plot.line_path(scale.at(corner), scale.at(corner)), style="dotted ink", name="as forecast")
    return Chart(
        title="Forecast and measured",
        caption=f"On the line, an epoch takes as long as was forecast before anything was run; above it, longer. The "
        f"error is {percent(errors[len(errors) // 2], 0)} in the median and {percent(errors[-1], 0)} at worst, of "
        f"{plural(len(known), 'setting')}.",
        x_label="forecast, seconds an epoch",
        y_label="measured, seconds an epoch",
        x_ticks=plot.number_ticks(scale),
        y_ticks=plot.number_ticks(scale),
        shapes=(ideal,),
        dots=tuple(
            _dot(
                row,
                scale.at(row.first.forecast_seconds_per_epoch or 0.0),
                scale.at(row.seconds_per_epoch),
                "purple",
                f"took {duration(row.seconds_per_epoch)}, {row.forecast_error or 0.0:+.0%} in the forecast",
            )
            for row in known
        ),
    )


def _against_accuracy(
    rows: Sequence[Row],
    of: Callable[[Row], float],
    *,
    title: str,
    caption: str,
    label: str,
    words: Callable[[float], str],
) -> Chart | None:
    known = [row for row in rows if row.summary.top1 is not None]
    if len(known) < 2:
        return None
    values, top1s = [of(row) for row in known], [row.summary.top1 or 0.0 for row in known]
    room = 0.15 * (max(top1s) - min(top1s)) or 0.05
    x, y = (
        Scale(low=0.0, high=1.08 * max(values)),
        Scale(low=max(0.0, min(top1s) - room), high=min(1.0, max(top1s) + room)),
    )
    return Chart(
        title=title,
        caption=caption,
        x_label=label,
        y_label="top-1, per cent of the images",
        x_ticks=plot.number_ticks(x),
        y_ticks=tuple(
            plot.Tick(at=tick.at, label=tick.label)
            for tick in plot.number_ticks(Scale(low=100 * y.low, high=100 * y.high))
        ),
        shapes=(),
        dots=tuple(
            _dot(row, x.at(value), y.at(top1), "blue", f"{words(value)}, {percent(top1)} top-1")
            for row, value, top1 in zip(known, values, top1s, strict=True)
        ),
    )


def _dot(row: Row, x: Any, y: Any, style: str, text: str) -> Dot:
    return Dot(x=float(x), y=float(y), style=style, label=str(row.number), text=f"{row.summary.setting}: {text}")
