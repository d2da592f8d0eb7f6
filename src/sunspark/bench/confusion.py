"""The confusion matrix of an evaluation, its classes in an order that shows who is taken for whom.

Up to `_LABELLED` classes it is one matrix with names. Of more, a first one shows all classes at once, without names,
and then the groups with the most mistakes are drawn again, each small enough to be read.
Colours are blue for right and vermilion for wrong (Okabe and Ito's), told apart by all kinds of colour vision, the
share of a class by their strength.

Shape legend: K classes, rows the true class, columns what it was taken for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sunspark.bench.bars import Bar
from sunspark.bench.download import Download, csv_download
from sunspark.bench.history import Floats, Integers
from sunspark.bench.plot import nice_ticks
from sunspark.bench.seriation import seriate
from sunspark.bench.words import count, percent, plural

_LABELLED = 40
_NUMBERED = 16
"""Up to so many classes the cells hold numbers."""
_GROUP = 12
_GROUPS_SHOWN = 4
_PAIRS_SHOWN = 12
RIGHT_LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Upper ends of the shares that one strength of blue stands for."""
WRONG_LEVELS = (0.02, 0.05, 0.1, 0.2, 1.0)
"""The same of vermilion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell with its number, or a row without: what the pointer finds."""

    row: int
    column: int
    text: str
    hint: str
    is_strong: bool
    """Whether its colour is so dark that its number must be light."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A square of classes, drawn in units of one cell."""

    title: str
    caption: str
    size: int
    names: tuple[str, ...]
    """Of the rows; empty when they are too many."""
    layers: tuple[tuple[str, str], ...]
    """CSS class and SVG path of the cells of one strength."""
    cells: tuple[Cell, ...]
    """Empty when there are too many; then `rows` holds a text for each row."""
    rows: tuple[str, ...]
    outlines: tuple[tuple[int, int], ...] = ()
    """Beginning and length of the groups that are drawn again."""
    ticks: tuple[int, ...] = ()
    """Classes at which the axes are numbered, from 1, where they have no names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """All about who is taken for whom on one split."""

    whole: Matrix
    groups: tuple[Matrix, ...]
    pairs: tuple[Bar, ...]
    """The most frequent mistakes."""
    order: tuple[str, ...]
    """Names in the order of the matrix, where it does not show them."""
    download: Download


def confusion(evaluation: dict[str, Any]) -> Confusion | None:
    """From what `evaluate` has stored; None where it saw no image."""
    names = [str(row["name"]) for row in evaluation["per_class"]]
    counts_KK = np.zeros((len(names), len(names)), np.int64)
    for label, predicted, samples in evaluation["confusion"]:
        counts_KK[label, predicted] += samples
    seen = np.flatnonzero(counts_KK.sum(axis=0) + counts_KK.sum(axis=1))
    if not len(seen):
        return None
    names, counts_KK = [names[place] for place in seen], counts_KK[np.ix_(seen, seen)]
    order, groups = seriate(_likeness(counts_KK), _GROUP)
    names, counts_KK = [names[place] for place in order], counts_KK[np.ix_(order, order)]
    is_large = len(order) > _LABELLED
    shown = _worst_groups(groups, order, counts_KK) if is_large else []
    return Confusion(
        whole=_whole(counts_KK, names, shown),
        groups=tuple(_group(counts_KK, names, start, length) for start, length in shown),
        pairs=_pairs(counts_KK, names),
        order=tuple(names) if is_large else (),
        download=_download(counts_KK, names),
    )


def _likeness(counts_KK: Integers) -> Floats:
    """How much two classes are confused, either way, and a little for being confused with the same others."""
    shares_KK = counts_KK / np.maximum(1, counts_KK.sum(axis=1, keepdims=True))
    np.fill_diagonal(shares_KK, 0.0)
    either_KK = shares_KK + shares_KK.T
    norms_K = np.maximum(1e-9, np.linalg.norm(either_KK, axis=1))
    profile_KK = either_KK / norms_K[:, None]
    return np.asarray(either_KK + 0.1 * profile_KK @ profile_KK.T, np.float64)


def _worst_groups(groups: Sequence[Sequence[int]], order: list[int], counts_KK: Integers) -> list[tuple[int, int]]:
    """Beginning and length of the groups that hold the most mistakes, in the order of the matrix."""
    spans = [(order.index(group[0]), len(group)) for group in groups if len(group) > 1]
    worst = sorted(spans, key=lambda span: -_mistakes(counts_KK, *span))[:_GROUPS_SHOWN]
    return sorted(span for span in worst if _mistakes(counts_KK, *span))


def _mistakes(counts_KK: Integers, start: int, length: int) -> int:
    """Samples of these classes that were taken for another of them."""
    part = counts_KK[start : start + length, start : start + length]
    return int(part.sum() - part.trace())


def _whole(counts_KK: Integers, names: list[str], groups: list[tuple[int, int]]) -> Matrix:
    wrong, total = int(counts_KK.sum() - counts_KK.trace()), int(counts_KK.sum())
    caption = f"{count(wrong)} of {count(total)} images were taken for another class."
    if groups:
        inside = sum(_mistakes(counts_KK, *group) for group in groups)
        caption += (
            f" Classes that are confused with each other stand together, so mistakes gather along the diagonal; "
            f"the {plural(len(groups), 'outlined group')} below hold {percent(inside / max(1, wrong), 0)} of them."
        )
    else:
        caption += " Classes that are confused with each other stand next to each other."
    is_large = len(names) > _LABELLED
    ticks = [round(tick) for tick in nice_ticks(1, len(names), 5) if tick >= 1] if is_large else []
    return _matrix("Who is taken for whom", caption, counts_KK, names, outlines=tuple(groups), ticks=tuple(ticks))


def _group(counts_KK: Integers, names: list[str], start: int, length: int) -> Matrix:
    inside = slice(start, start + length)
    rows = counts_KK[inside]
    wrong = int(rows.sum() - counts_KK[inside, inside].trace())
    caption = (
        f"{count(_mistakes(counts_KK, start, length))} of the {plural(wrong, 'mistake')} made with these classes "
        "stay among them. Shares are of all images of a class."
    )
    title = f"Classes {start + 1} to {start + length}"
    return _matrix(title, caption, counts_KK[inside, inside], names[inside], totals_K=rows.sum(axis=1))


def _matrix(
    title: str,
    caption: str,
    counts_KK: Integers,
    names: list[str],
    *,
    totals_K: Integers | None = None,
    outlines: tuple[tuple[int, int], ...] = (),
    ticks: tuple[int, ...] = (),
) -> Matrix:
    totals_K = counts_KK.sum(axis=1) if totals_K is None else totals_K
    shares_KK: Floats = counts_KK / np.maximum(1, totals_K)[:, None]
    is_large = len(names) > _LABELLED
    return Matrix(
        title=title,
        caption=caption,
        size=len(names),
        names=() if is_large else tuple(names),
        layers=_layers(shares_KK),
        cells=() if is_large else _cells(counts_KK, shares_KK, totals_K, names),
        rows=tuple(_row_text(counts_KK[row], row, names) for row in range(len(names))) if is_large else (),
        outlines=outlines,
        ticks=ticks,
    )


def _layers(shares_KK: Floats) -> tuple[tuple[str, str], ...]:
    """One path for all cells of one strength: 400 classes make 10,000 cells, and ten paths."""
    diagonal_KK = np.eye(len(shares_KK), dtype=bool)
    layers = []
    for style, levels, where_KK in (("wrong", WRONG_LEVELS, ~diagonal_KK), ("right", RIGHT_LEVELS, diagonal_KK)):
        level_KK = np.searchsorted(levels, shares_KK - 1e-9)
        for level in range(len(levels)):
            path = _cells_path(where_KK & (shares_KK > 0) & (level_KK == level))
            if path:
                layers.append((f"{style}-{level + 1}", path))
    return tuple(layers)


def _cells_path(marked_KK: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    """The marked cells as rectangles, neighbours in a row in one."""
    parts = []
    for row, marked_K in enumerate(marked_KK):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], marked_K, [False]]).astype(np.int8)))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            parts.append(f"M{start} {row}h{end - start}v1h-{end - start}z")
    return "".join(parts)


def _cells(counts_KK: Integers, shares_KK: Floats, totals_K: Integers, names: list[str]) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            row=row,
            column=column,
            text=count(int(counts_KK[row, column])) if len(names) <= _NUMBERED else "",
            hint=f"{names[row]} taken for {names[column]}: {count(int(counts_KK[row, column]))} of "
            f"{count(int(totals_K[row]))}, {percent(float(shares_KK[row, column]))}",
            is_strong=bool(shares_KK[row, column] > (RIGHT_LEVELS[2] if row == column else WRONG_LEVELS[3])),
        )
        for row, column in zip(*(axis.tolist() for axis in np.nonzero(counts_KK)), strict=True)
    )


def _row_text(counts_K: Integers, row: int, names: list[str]) -> str:
    total = int(counts_K.sum())
    others = [place for place in np.argsort(-counts_K, kind="stable").tolist() if place != row and counts_K[place]]
    right = percent(int(counts_K[row]) / total, 0) if total else "-"
    words = ", ".join(f"{names[place]} ({count(int(counts_K[place]))})" for place in others[:3])
    return f"{row + 1}. {names[row]}: {right} right" + (f"; taken for {words}" if words else "")


def _pairs(counts_KK: Integers, names: list[str]) -> tuple[Bar, ...]:
    """The most frequent mistakes, as shares of the images of the true class."""
    totals_K = counts_KK.sum(axis=1)
    wrong_KK = counts_KK - np.diag(np.diag(counts_KK))
    places = np.argsort(-wrong_KK, axis=None, kind="stable")[:_PAIRS_SHOWN].tolist()
    pairs = [divmod(place, len(names)) for place in places]
    return tuple(
        Bar(
            name=f"{names[row]} → {names[column]}",
            share=wrong_KK[row, column] / totals_K[row],
            text=f"{count(int(wrong_KK[row, column]))} of {count(int(totals_K[row]))}",
        )
        for row, column in pairs
        if wrong_KK[row, column]
    )


def _download(counts_KK: Integers, names: list[str]) -> Download:
    rows, columns = (axis.tolist() for axis in np.nonzero(counts_KK))
    return csv_download(
        "confusion.csv",
        {
            "class": [names[row] for row in rows],
            "taken_for": [names[column] for column in columns],
            "images": counts_KK[rows, columns].tolist(),
        },
    )
