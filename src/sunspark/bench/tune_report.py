"""The report of a search: the best so far, what mattered, how values and accuracy go together, all trials."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from sunspark.bench import plot
from sunspark.bench.bars import Bar
from sunspark.bench.download import csv_download
from sunspark.bench.plot import Chart, Dot, Scale, Shape, Tick
from sunspark.bench.trials import Trial, Trials
from sunspark.bench.words import percent, plural

_LOG_RATIO: Final = 20.0
"""Numbers that reach over more than this many times themselves stand on a logarithmic axis."""
_BEST: Final = 3
"""Trials whose lines are drawn over the others."""
_TICKS: Final = 5


def sections_of_search(found: Trials) -> dict[str, Any]:
    """What the template `tune.html.j2` needs."""
    judged = [trial for trial in found.trials if trial.top1 is not None]
    keys = list(dict.fromkeys(key for trial in found.trials for key in trial.values))
    return {
        "finding": finding(found),
        "charts": [chart for chart in (_best_so_far(judged), _curves(judged)) if chart],
        "parallel": _parallel(judged, keys),
        "importance": tuple(
            Bar(name=key, share=share, text=percent(share, 0)) for key, share in found.importance.items()
        ),
        "keys": keys,
        "shown": _shown,
        "trials": sorted(found.trials, key=lambda trial: -(trial.top1 or -1.0)),
        "download": csv_download(
            "trials.csv",
            {
                "trial": [trial.number for trial in found.trials],
                "state": [trial.state for trial in found.trials],
                "top1": [math.nan if trial.top1 is None else trial.top1 for trial in found.trials],
                "seconds": [trial.seconds for trial in found.trials],
                **{key: [str(trial.values.get(key, "")) for trial in found.trials] for key in keys},
            },
        ),
    }


def finding(found: Trials) -> str:
    """What the search says, in plain words."""
    ended = [trial for trial in found.trials if trial.state == "complete" and trial.top1 is not None]
    if not ended:
        return "No trial has come to its end yet."
    best = max(ended, key=lambda trial: trial.top1 or 0.0)
    values = ", ".join(f"{key} = {_shown(value)}" for key, value in best.values.items())
    early = sum(trial.state == "pruned" for trial in found.trials)
    words = [
        f"The best of {plural(len(found.trials), 'trial')} is number {best.number}, with {percent(best.top1 or 0.0)} "
        f"top-1 on the split that trials are judged on: {values}."
    ]
    if early:
        words.append(f"{plural(early, 'trial')} lagged behind and {'was' if early == 1 else 'were'} ended early.")
    if found.importance:
        key, share = max(found.importance.items(), key=lambda item: item[1])
        words.append(f"What mattered most is {key} ({percent(share, 0)} of what the space explains).")
    words.append("The best of many trials looks better than it is: judge it on a split that the search has not seen.")
    return " ".join(words)


def _best_so_far(judged: Sequence[Trial]) -> Chart | None:
    if not judged:
        return None
    in_order = sorted(judged, key=lambda trial: trial.number)
    numbers = np.array([trial.number for trial in in_order], np.float64)
    best = np.maximum.accumulate(
        [trial.top1 if trial.state == "complete" and trial.top1 else 0.0 for trial in in_order]
    )
    x, y = Scale(low=-0.5, high=numbers.max() + 0.5), _scale_of([trial.top1 or 0.0 for trial in judged])
    shown = np.where(best > 0, best, np.nan)
    return Chart(
        title="Best so far",
        caption="Each dot is a trial, by its number; purple ones were ended early, at the top-1 that they had then.",
        x_label="trial",
        y_label="top-1, per cent of the images",
        x_ticks=plot.integer_ticks(x),
        y_ticks=_percent_ticks(y),
        shapes=(Shape(path=plot.line_path(x.at(numbers), y.at(shown)), style="line green", name="best so far"),),
        dots=tuple(
            Dot(
                x=float(x.at(trial.number)),
                y=float(y.at(trial.top1 or 0.0)),
                style="blue" if trial.state == "complete" else "purple",
                label=str(trial.number),
                text=f"trial {trial.number}: {percent(trial.top1 or 0.0)}, {trial.state}",
            )
            for trial in in_order
        ),
    )


def _curves(judged: Sequence[Trial]) -> Chart | None:
    """Top-1 over epochs."""
    drawn = [trial for trial in judged if len(trial.curve) > 1]
    if not drawn:
        return None
    points = [point for trial in drawn for point in trial.curve]
    x, y = Scale(low=0.0, high=max(epoch for epoch, _ in points)), _scale_of([top1 for _, top1 in points])
    best = _best(drawn)
    shapes = []
    for trial in sorted(drawn, key=lambda trial: trial.number in best):
        epochs, top1s = np.array(trial.curve, np.float64).T
        name = f"trial {trial.number}" if trial.number in best else ""
        style = f"line {('green', 'blue', 'purple')[best.index(trial.number)]}" if name else "faint ink"
        shapes.append(Shape(path=plot.line_path(x.at(epochs), y.at(top1s)), style=style, name=name))
    return Chart(
        title="While they trained",
        caption="Top-1 of each trial on the split that trials are judged on; a line that stops was ended early.",
        x_label="epoch",
        y_label="top-1, per cent of the images",
        x_ticks=plot.integer_ticks(x),
        y_ticks=_percent_ticks(y),
        shapes=tuple(shapes),
    )


def _parallel(judged: Sequence[Trial], keys: Sequence[str]) -> Chart | None:
    """Parallel coordinates: a line a trial, through its values from left to right to its top-1."""
    drawn = [trial for trial in judged if all(key in trial.values for key in keys)]
    if len(drawn) < 2 or not keys:
        return None
    columns = [_places([trial.values[key] for trial in drawn]) for key in keys]
    columns.append(_places([trial.top1 or 0.0 for trial in drawn]))
    x = np.linspace(0.0, 1.0, len(columns))
    best = _best(drawn)
    shapes = []
    for place, trial in sorted(enumerate(drawn), key=lambda item: item[1].number in best):
        line = plot.line_path(x, np.array([column[place] for column in columns]))
        name = f"trial {trial.number}" if trial.number in best else ""
        style = f"line {('green', 'blue', 'purple')[best.index(trial.number)]}" if name else "faint ink"
        shapes.append(Shape(path=line, style=style, name=name))
    words = [f"{key.rpartition('.')[2]}: {_ends([trial.values[key] for trial in drawn])}" for key in keys]
    return Chart(
        title="Values and accuracy",
        caption="A line a trial, from its values to its top-1, the best in colour; each axis rises from its lowest to "
        f"its highest value. {'; '.join(words)}. Numbers that reach far stand on a logarithmic axis.",
        x_label="key of the space, then top-1",
        y_label="from lowest to highest",
        x_ticks=tuple(
            Tick(at=float(at), label=label)
            for at, label in zip(x, [*(key.rpartition(".")[2] for key in keys), "top-1"], strict=True)
        ),
        y_ticks=(),
        shapes=tuple(shapes),
    )


def _best(trials: Sequence[Trial]) -> list[int]:
    ended = [trial for trial in trials if trial.state == "complete"]
    return [trial.number for trial in sorted(ended, key=lambda trial: -(trial.top1 or 0.0))[:_BEST]]


def _places(values: Sequence[Any]) -> list[float]:
    """Shares of an axis: numbers by size, anything else by the order of its names."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.array(values, np.float64)
        if numbers.min() > 0 and numbers.max() > _LOG_RATIO * numbers.min():
            numbers = np.log(numbers)
        return [float(place) for place in Scale(low=numbers.min(), high=numbers.max()).at(numbers)]
    names = sorted({str(value) for value in values})
    return [names.index(str(value)) / max(1, len(names) - 1) for value in values]


def _shown(value: object) -> str:
    return plot.number(value) if isinstance(value, float) else str(value)


def _ends(values: Sequence[Any]) -> str:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return f"{plot.number(min(values))} to {plot.number(max(values))}"
    return ", ".join(sorted({str(value) for value in values}))


def _scale_of(top1s: Sequence[float]) -> Scale:
    room = 0.1 * (max(top1s) - min(top1s)) or 0.05
    return Scale(low=max(0.0, min(top1s) - room), high=min(1.0, max(top1s) + room))


def _percent_ticks(scale: Scale) -> tuple[Tick, ...]:
    return plot.number_ticks(Scale(low=100 * scale.low, high=100 * scale.high))
