"""The charts of a sweep: speed-up over cores, and time, cost, bytes and forecasts against what came of them."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from sunspark.bench import plot
from sunspark.bench.plot import Chart, Dot, Label, Scale, Shape, Tick
from sunspark.bench.sweep_rows import Row, speed_up_in_words
from sunspark.bench.words import duration, off_by, percent, plural, rate, size

_BASELINE_SECONDS_2020: Final = 481.0
_SECONDS_2020: Final = {
    "every epoch": {2: (270.0,), 4: (138.7, 147.4), 8: (78.0, 84.5), 16: (48.3,)},
    "every batch": {2: (349.8,), 4: (284.3, 270.0), 8: (254.0, 244.0), 16: (228.0,)},
}
"""Seconds that Elephas took with so many cores (1x2, 1x4 and 2x2, 2x4 and 4x2, 4x4) on Amazon EMR."""
_DOT_SHARE: Final = 0.06
"""Of the width of a chart, that a dot takes."""
_LEAST_BYTES: Final = 10_000
"""Below, workers have sent greetings only: they share memory."""
_LEAST_HOURS: Final = 0.1
"""Of cores; where all are below, cost is told in seconds."""
_STYLE_2020: Final = {"every epoch": "thin dashed ink", "every batch": "thin ink"}
_STYLES: Final = ("blue", "green", "purple", "red")


def charts_of(rows: Sequence[Row]) -> list[Chart]:
    """Those for which there are figures."""
    charts = (
        _speed_up_chart(rows),
        _accuracy_chart(rows),
        _cost_chart(rows),
        _bytes_chart(rows),
        _forecast_chart(rows),
    )
    return [chart for chart in charts if chart is not None]


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
    x, y = Scale(low=0.0, high=1.35 * most_cores), Scale(low=0.0, high=1.12 * max(highest, float(most_cores)))

    def path(points: Sequence[tuple[float, float]]) -> str:
        columns = np.array(points, np.float64)
        return plot.line_path(x.at(columns[:, 0]), y.at(columns[:, 1]))

    shapes = [Shape(path=path([(0, 0), (most_cores, most_cores)]), style="dotted ink", name="ideal")]
    dots, labels, aside = [], [], _aside(rated, x)
    for name, by in ups_2020.items():
        if by:
            words = f"2020, {name} (their machines)"
            shapes.append(Shape(path=path([(1, 1), *by]), style=_STYLE_2020[name], name=words))
            cores, up = by[-1]
            beside = max([aside[row.number] + _DOT_SHARE / 2 for row in rated if row.first.cores == cores], default=0.0)
            labels.append(Label(x=float(x.at(cores)) + beside, y=float(y.at(up)), text=name.removeprefix("every ")))
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
                speed_up_in_words(row.summary),
            )
            for row in mine
        ]
    return Chart(
        title="Speed-up over one worker",
        caption="Dots are settings, by their number in the table; those of as many cores stand side by side where "
        "there is room. A line joins the best ones of a strategy. On the dotted line twice the cores are twice as "
        "fast. Gray: what Elephas came to in 2020 on Amazon EMR, exchanging every epoch or every batch, of each "
        "number of cores its better layout.",
        x_label="cores of all workers",
        y_label="times the speed of the baseline",
        x_ticks=plot.integer_ticks(x),
        y_ticks=plot.number_ticks(y),
        shapes=tuple(shapes),
        dots=plot.joined(dots),
        labels=tuple(labels),
    )


def _aside(rows: Sequence[Row], x: Scale) -> dict[int, float]:
    """How far a dot stands beside its number of cores, by the row's number: so that none covers another.

    Where they would stand beside other numbers of cores, they all stay where they belong.
    """
    by_cores: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_cores[row.first.cores].append(row)
    gaps = np.diff(x.at(np.array([0, *sorted(by_cores)], np.float64)))
    if max(map(len, by_cores.values())) * _DOT_SHARE > gaps.min():
        return dict.fromkeys((row.number for row in rows), 0.0)
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
        axis=lambda scale: (plot.number_ticks(scale), "seconds of training"),
        words=duration,
    )


def _bytes_chart(rows: Sequence[Row]) -> Chart | None:
    """None where next to nothing was sent."""
    if max((row.first.bytes_sent or 0 for row in rows), default=0) < _LEAST_BYTES:
        return None

    def axis(scale: Scale) -> tuple[tuple[Tick, ...], str]:
        ticks, unit = plot.size_ticks(scale)
        return ticks, f"{unit} sent by all workers"

    return _against_accuracy(
        [row for row in rows if row.first.bytes_sent is not None],
        of=lambda row: float(row.first.bytes_sent or 0),
        title="Bytes and accuracy",
        caption="What all workers have sent over a network. One worker sends none, nor do workers that share memory.",
        axis=axis,
        words=lambda value: size(int(value)),
    )


def _cost_chart(rows: Sequence[Row]) -> Chart | None:
    """Cost over time, and those of which no other is better in both."""
    if len(rows) < 2:
        return None
    dearest = max(row.core_hours for row in rows)
    unit, per_hour = ("hours", 1) if dearest >= _LEAST_HOURS else ("seconds", 3600)
    costs = [row.core_hours * per_hour for row in rows]
    x = Scale(low=0.0, high=1.08 * max(row.seconds for row in rows))
    y = Scale(low=0.0, high=1.15 * dearest * per_hour)
    front = pareto_front([(row.seconds, cost) for row, cost in zip(rows, costs, strict=True)])
    columns = np.array([(rows[place].seconds, costs[place]) for place in front], np.float64)
    shape = Shape(
        path=plot.line_path(x.at(columns[:, 0]), y.at(columns[:, 1])),
        style="line green",
        name="nothing is both cheaper and sooner",
    )
    return Chart(
        title="Time and cost",
        caption=f"What a training costs in {unit} of cores; times the price of one it is money. Right of the line, "
        "another setting is sooner or cheaper.",
        x_label="seconds of training",
        y_label=f"{unit} of cores",
        x_ticks=plot.number_ticks(x),
        y_ticks=plot.number_ticks(y),
        shapes=(shape,),
        dots=plot.joined(
            [
                _dot(
                    row,
                    x.at(row.seconds),
                    y.at(cost),
                    "blue",
                    f"{duration(row.seconds)}, {rate(cost)} {unit} of cores",
                )
                for row, cost in zip(rows, costs, strict=True)
            ]
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
    errors = [abs(row.forecast_error or 0.0) for row in known]
    most = 1.1 * max(max(row.seconds_per_epoch, row.first.forecast_seconds_per_epoch or 0.0) for row in known)
    scale = Scale(low=0.0, high=most)
    corner = np.array([0.0, most])
    ideal = Shape(path=plot.line_path(scale.at(corner), scale.at(corner)), style="dotted ink", name="as forecast")
    return Chart(
        title="Forecast and measured",
        caption="On the line, an epoch takes as long as was forecast by a pilot; below it, the forecast "
        f"was too long. Its error is {percent(statistics.median(errors), 0)} of what was measured in the median and "
        f"{percent(max(errors), 0)} at worst, of {plural(len(known), 'setting')}.",
        x_label="forecast, seconds an epoch",
        y_label="measured, seconds an epoch",
        x_ticks=plot.number_ticks(scale),
        y_ticks=plot.number_ticks(scale),
        shapes=(ideal,),
        dots=plot.joined(
            [
                _dot(
                    row,
                    scale.at(row.first.forecast_seconds_per_epoch or 0.0),
                    scale.at(row.seconds_per_epoch),
                    "purple",
                    f"took {duration(row.seconds_per_epoch)}: forecast {off_by(row.forecast_error or 0.0)}",
                )
                for row in known
            ]
        ),
    )


def _against_accuracy(
    rows: Sequence[Row],
    of: Callable[[Row], float],
    *,
    title: str,
    caption: str,
    axis: Callable[[Scale], tuple[tuple[Tick, ...], str]],
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
    ticks, label = axis(x)
    return Chart(
        title=title,
        caption=caption,
        x_label=label,
        y_label="top-1, per cent of the images",
        x_ticks=ticks,
        y_ticks=plot.number_ticks(Scale(low=100 * y.low, high=100 * y.high)),
        shapes=(),
        dots=plot.joined(
            [
                _dot(row, x.at(value), y.at(top1), "blue", f"{words(value)}, {percent(top1)} top-1")
                for row, value, top1 in zip(known, values, top1s, strict=True)
            ]
        ),
    )


def _dot(row: Row, x: Any, y: Any, style: str, text: str) -> Dot:
    return Dot(x=float(x), y=float(y), style=style, label=str(row.number), text=f"{row.summary.setting}: {text}")
