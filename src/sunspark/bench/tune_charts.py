"""The charts of a search: its best so far, its trials while they trained, their values beside their accuracy."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from sunspark.bench import plot
from sunspark.bench.plot import Chart, Dot, Label, Scale, Shape, Tick
from sunspark.bench.trials import Trial
from sunspark.bench.words import percent

_LOG_RATIO: Final = 20.0
"""Numbers that reach over more than this many times themselves stand on a logarithmic axis."""
_BEST: Final = 3
"""Trials whose numbers stand beside their values."""
_NAMES: Final = 5
"""Values without an order that an axis names, at most: else its first and its last one."""
_TONES: Final = 5
"""Of a line, by accuracy: the style sheet has as many."""
_AXES: Final = Scale(low=-0.06, high=1.1)
_HEIGHT: Final = Scale(low=-0.2, high=1.2)
"""Room around parallel axes, for what is written at their ends."""


def best_so_far(judged: Sequence[Trial]) -> Chart | None:
    """Over the numbers of the trials."""
    if not judged:
        return None
    in_order = sorted(judged, key=lambda trial: trial.number)
    numbers = np.array([trial.number for trial in in_order], np.float64)
    ended = [(trial.top1 or 0.0) if trial.state == "complete" else 0.0 for trial in in_order]
    best = np.maximum.accumulate(ended)
    x, y = Scale(low=-0.5, high=numbers.max() + 0.5), _scale_of([trial.top1 or 0.0 for trial in judged])
    line = plot.line_path(*plot.stairs(x.at(numbers), y.at(np.where(best > 0, best, np.nan))))
    return Chart(
        title="Best so far",
        caption="Each dot is a trial, by its number; purple ones were ended early, at the top-1 that they had then.",
        x_label="trial",
        y_label="top-1, per cent of the images",
        x_ticks=plot.integer_ticks(x),
        y_ticks=_percent_ticks(y),
        shapes=(Shape(path=line, style="line green", name="best so far"),),
        dots=plot.joined([_dot(trial, x.at(trial.number), y.at(trial.top1 or 0.0)) for trial in in_order]),
    )


def while_they_trained(judged: Sequence[Trial]) -> Chart | None:
    """Top-1 over epochs."""
    drawn = [trial for trial in judged if trial.curve]
    if not drawn:
        return None
    points = [point for trial in drawn for point in trial.curve]
    x = Scale(low=0.0, high=1.06 * max(epoch for epoch, _ in points))
    y = _scale_of([top1 for _, top1 in points])
    shapes, dots = [], []
    for trial, style in _in_tones(drawn):
        epochs, top1s = np.array(trial.curve, np.float64).T
        shapes.append(Shape(path=plot.line_path(x.at(epochs), y.at(top1s)), style=style))
        dots.append(_dot(trial, x.at(epochs[-1]), y.at(top1s[-1])))
    return Chart(
        title="While they trained",
        caption="Top-1 of each trial on the split that trials are judged on, to its last evaluation, where its number "
        "stands. Dashed lines and purple dots were ended early.",
        x_label="epoch",
        y_label="top-1, per cent of the images",
        x_ticks=plot.integer_ticks(x),
        y_ticks=_percent_ticks(y),
        shapes=tuple(shapes),
        dots=plot.joined(dots),
    )


def parallel(judged: Sequence[Trial], keys: Sequence[str]) -> Chart | None:
    """Parallel coordinates: a line a trial, through its values from left to right to its top-1."""
    drawn = [trial for trial in judged if all(key in trial.values for key in keys)]
    if len(drawn) < 2 or not keys:
        return None
    x = _AXES.at(np.linspace(0.0, 1.0, len(keys) + 1))
    columns, labels = [], []
    for at, key in zip(x.tolist(), keys, strict=False):
        values = [trial.values[key] for trial in drawn]
        columns.append(_places(values))
        labels += _marks(at, values, columns[-1])
    top1s = [trial.top1 or 0.0 for trial in drawn]
    columns.append(_places(top1s))
    labels += [
        Label(x=float(x[-1]), y=_mark_height(place), text=percent(top1), style="middle")
        for place, top1 in {0.0: min(top1s), 1.0: max(top1s)}.items()
    ]
    lines = {
        trial.number: _HEIGHT.at(np.array([column[place] for column in columns])) for place, trial in enumerate(drawn)
    }
    best = sorted(drawn, key=lambda trial: -(trial.top1 or 0.0))[:_BEST]
    return Chart(
        title="Values and accuracy",
        caption="A line a trial, from its values to its top-1: the stronger its colour, the higher that is; dashed "
        f"ones were ended early. The {len(best)} highest bear their numbers. Numbers that reach far stand on a "
        "logarithmic axis.",
        x_label="key of the space, then top-1",
        y_label="from lowest to highest",
        x_ticks=tuple(
            Tick(at=float(at), label=label)
            for at, label in zip(x, [*(key.rpartition(".")[2] for key in keys), "top-1"], strict=True)
        ),
        y_ticks=(),
        shapes=tuple(
            Shape(path=plot.line_path(x, lines[trial.number]), style=style) for trial, style in _in_tones(drawn)
        ),
        dots=plot.joined([_dot(trial, x[-1], lines[trial.number][-1]) for trial in best]),
        labels=tuple(labels),
    )


def shown(value: object) -> str:
    """A value of the space, as people read it."""
    return plot.number(value) if isinstance(value, float) else str(value)


def _in_tones(trials: Sequence[Trial]) -> list[tuple[Trial, str]]:
    """The most accurate last, so on top; each with the style of its line."""
    top1s = [trial.top1 or 0.0 for trial in trials]
    share = Scale(low=min(top1s), high=max(top1s))
    by_top1 = sorted(trials, key=lambda trial: trial.top1 or 0.0)
    tones = [1 + min(_TONES - 1, int(share.at(trial.top1 or 0.0) * _TONES)) for trial in by_top1]
    return [
        (trial, f"line tone-{tone}{'' if trial.state == 'complete' else ' dashed'}")
        for trial, tone in zip(by_top1, tones, strict=True)
    ]


def _dot(trial: Trial, x: Any, y: Any) -> Dot:
    state = "ended early" if trial.state == "pruned" else trial.state
    return Dot(
        x=float(x),
        y=float(y),
        style="blue" if trial.state == "complete" else "purple",
        label=str(trial.number),
        text=f"trial {trial.number}: {percent(trial.top1 or 0.0)}, {state}",
    )


def _places(values: Sequence[Any]) -> list[float]:
    """Shares of an axis: numbers by size, anything else by the order of its names."""
    if _are_numbers(values):
        numbers = np.array(values, np.float64)
        if numbers.min() > 0 and numbers.max() > _LOG_RATIO * numbers.min():
            numbers = np.log(numbers)
        return [float(place) for place in Scale(low=numbers.min(), high=numbers.max()).at(numbers)]
    names = sorted({str(value) for value in values})
    at = Scale(low=0.0, high=len(names) - 1.0)
    return [float(at.at(names.index(str(value)))) for value in values]


def _marks(at: float, values: Sequence[Any], places: Sequence[float]) -> list[Label]:
    """What stands at the ends of an axis; of a few names, at the place of each."""
    by_place = dict(sorted(zip(places, map(shown, values), strict=True)))
    ends = [*by_place][:: max(1, len(by_place) - 1)]
    named = ends if _are_numbers(values) or len(by_place) > _NAMES else by_place
    return [Label(x=at, y=_mark_height(place), text=by_place[place], style="middle") for place in named]


def _mark_height(place: float) -> float:
    """Beyond the ends of the axis, else beside the place."""
    beyond = {0.0: -0.11, 1.0: 1.11}
    return float(_HEIGHT.at(beyond.get(place, place)))


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _scale_of(top1s: Sequence[float]) -> Scale:
    room = 0.1 * (max(top1s) - min(top1s)) or 0.05
    return Scale(low=max(0.0, min(top1s) - room), high=min(1.0, max(top1s) + room))


def _percent_ticks(scale: Scale) -> tuple[Tick, ...]:
    return plot.number_ticks(Scale(low=100 * scale.low, high=100 * scale.high))
