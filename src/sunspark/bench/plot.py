"""The geometry of charts: scales, ticks and SVG paths, as plain numbers for the template.

A chart is drawn into a square of `SIZE` units that the page stretches to any width, while all its text stays
text of the page; so one file serves a phone, a wide screen, a dark room and paper, without a script.
Positions handed to the template are shares of the width or the height, 0 to 1, from the lower left.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sunspark.bench.download import Download
from sunspark.bench.history import Floats, Integers
from sunspark.bench.words import size_unit

SIZE = 1000

_DOT_WIDTH, _DOT_HEIGHT = 0.05, 0.07
"""Shares of a chart, within which one dot would hide much of another."""
_LABELS_SHOWN = 4
"""Of dots that are joined."""

_TIME_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A line or an area of a chart."""

    path: str
    """SVG path data."""
    style: str
    """CSS classes: line, thin, faint, dotted or area, dashed or not, and the colour's."""
    name: str = ""
    """What the legend says; empty keeps it out of the legend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """A stretch of an axis, with the text that shows under the pointer."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A point of a chart, with a short label in it and the text that shows under the pointer."""

    x: float
    y: float
    style: str
    """The colour's CSS class."""
    label: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A word in a chart: beside the end of a line, or on an axis of its own."""

    x: float
    y: float
    text: str
    style: str = ""
    """The CSS class: empty for right of the place, middle for on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """All that the template needs to draw one chart."""

    title: str
    caption: str
    """What to see in it."""
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    shapes: tuple[Shape, ...]
    hovers: tuple[Strip, ...] = ()
    dots: tuple[Dot, ...] = ()
    labels: tuple[Label, ...] = ()
    download: Download | None = None
    """The numbers that it shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Maps values to shares of an axis."""

    low: float
    high: float

    def at(self, values: npt.NDArray[Any] | float) -> Floats:
        """The share of the axis at which a value lies; all in the middle where the axis has no length."""
        if not self.high > self.low:
            return np.full(np.shape(values), 0.5)
        return np.asarray((np.asarray(values, np.float64) - self.low) / (self.high - self.low))


def line_path(x: Floats, y: Floats) -> str:
    """A line through points (shares of the axes); it breaks where a value is not finite."""
    parts: list[str] = []
    drawing = False
    for point_x, point_y in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(point_y):
            parts.append(f"{'L' if drawing else 'M'}{_point(point_x, point_y)}")
        drawing = math.isfinite(point_y)
    return "".join(parts)


def stairs(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points of a line that keeps each value until the next `x`."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def joined(dots: Sequence[Dot]) -> tuple[Dot, ...]:
    """Dots that would hide each other as one in their midst, with the labels and the texts of all."""
    groups: list[list[Dot]] = []
    for dot in dots:
        near = (
            group for group in groups if abs(group[0].x - dot.x) < _DOT_WIDTH and abs(group[0].y - dot.y) < _DOT_HEIGHT
        )
        group = next(near, None)
        if group is None:
            groups.append([dot])
        else:
            group.append(dot)
    return tuple(_one_dot(group) for group in groups)


def area_path(x: Floats, low: Floats, high: Floats) -> str:
    """The area between two lines over the same `x` (shares of the axes, all finite)."""
    there = [_point(*point) for point in zip(x.tolist(), high.tolist(), strict=True)]
    back = [_point(*point) for point in zip(x.tolist(), low.tolist(), strict=True)]
    return f"M{'L'.join([*there, *reversed(back)])}Z" if there else ""


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`, with steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def number_ticks(scale: Scale, count: int = 4) -> tuple[Tick, ...]:
    """Ticks of an axis of numbers."""
    values = nice_ticks(scale.low, scale.high, count)
    return tuple(Tick(at=float(scale.at(value)), label=number(value)) for value in values)


def integer_ticks(scale: Scale, count: int = 5) -> tuple[Tick, ...]:
    """Ticks of an axis that counts."""
    values = [value for value in nice_ticks(scale.low, scale.high, count) if value == round(value)]
    return tuple(Tick(at=float(scale.at(value)), label=f"{round(value):,}") for value in values)


def time_ticks(scale: Scale, count: int = 5) -> tuple[tuple[Tick, ...], str]:
    """Ticks of an axis of seconds, and the unit in which they are labelled."""
    length = scale.high - scale.low
    step = next((step for step in _TIME_STEPS if length / step <= count), 86400 * math.ceil(length / count / 86400))
    seconds, unit = next(((size, name) for size, name in _TIME_UNITS if step >= size or size == 1.0))
    values = [number * step for number in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1)]
    return tuple(Tick(at=float(scale.at(value)), label=f"{value / seconds:g}") for value in values), unit


def size_ticks(scale: Scale, count: int = 4) -> tuple[tuple[Tick, ...], str]:
    """Ticks of an axis of bytes, and the unit in which they are labelled."""
    unit_bytes, unit = size_unit(scale.high)
    return number_ticks(Scale(low=scale.low / unit_bytes, high=scale.high / unit_bytes), count), unit


def number(value: float) -> str:
    """A tick's or a tooltip's number, short: 4 significant digits, thousands with commas."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "not finite"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if abs(value) >= 1e-4:
        return f"{float(f'{value:.4g}'):,.12g}"
    mantissa, exponent = f"{value:.3g}".split("e")
    return f"{mantissa}·10{_superscript(int(exponent))}"


def bins(num_values: int, num_bins: int) -> list[slice]:
    """At most `num_bins` consecutive slices that cover `num_values` values evenly."""
    edges = np.linspace(0, num_values, min(num_bins, num_values) + 1).round().astype(int).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def extremes(values: Floats, num_bins: int) -> Integers:
    """The places of the smallest and the largest value of each bin, in order: a line through them shows every
    peak of the line through all values. Values that are not finite are kept out of the choice."""
    kept: set[int] = set()
    for part in bins(len(values), num_bins):
        piece = values[part]
        finite = np.flatnonzero(np.isfinite(piece))
        chosen = (finite[piece[finite].argmin()], finite[piece[finite].argmax()]) if len(finite) else (0,)
        kept.update(part.start + int(place) for place in chosen)
    return np.array(sorted(kept), np.int64)


def running_mean(values: Floats, width: int) -> Floats:
    """The mean of the `width` values around each, fewer at the ends; only finite ones count."""
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    middle = np.arange(len(values))
    start, end = np.maximum(middle - width // 2, 0), np.minimum(middle + width // 2 + 1, len(values))
    with np.errstate(invalid="ignore"):
        return np.asarray((total[end] - total[start]) / (count[end] - count[start]))


def hovers(edges: Sequence[float], texts: Sequence[str]) -> tuple[Strip, ...]:
    """Strips from edge to edge, each with its text."""
    return tuple(
        Strip(start=start, end=end, text=text) for start, end, text in zip(edges, edges[1:], texts, strict=False)
    )


def _one_dot(dots: Sequence[Dot]) -> Dot:
    shown, more = [dot.label for dot in dots[:_LABELS_SHOWN]], len(dots) - _LABELS_SHOWN
    return Dot(
        x=sum(dot.x for dot in dots) / len(dots),
        y=sum(dot.y for dot in dots) / len(dots),
        style=dots[0].style if len({dot.style for dot in dots}) == 1 else "",
        label=", ".join(shown) + (f" +{more}" if more > 0 else ""),
        text="\n".join(dot.text for dot in dots),
    )


def _point(x: float, y: float) -> str:
    return f"{x * SIZE:.1f} {(1 - y) * SIZE:.1f}"


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
