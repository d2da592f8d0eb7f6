"""Which of the settings of a forecast to take, and why, in two sentences."""

import math
from collections.abc import Sequence
from typing import Final

from sunspark.bench.forecasting.config import ForecastConfig
from sunspark.bench.forecasting.rows import Row
from sunspark.bench.words import dollars, duration, percent, plural

_ALIKE: Final = 1.1
"""Settings whose times or costs differ by less are alike for a forecast."""
_USUAL_ERROR: Final = 1.15
"""The median that forecasts are held to, where they were tried."""


def recommend(rows: Sequence[Row], asked: ForecastConfig) -> tuple[Row | None, str]:
    """One row, and why; None where none keeps to the deadline and the budget, and what the nearest would take.

    Of those that are alike, the one is taken whose training is most like that of one worker (a forecast of time knows
    nothing of accuracy), and of these the one with the fewest workers.
    """
    known = [row for row in rows if row.seconds is not None]
    if asked.recommend == "none" or not known:
        return None, ""
    goal = _usd if asked.recommend == "cheapest" else _seconds
    fitting = [row for row in known if _keeps(row, asked)]
    if not fitting:
        return None, _nothing_fits(known, asked)
    best = min(fitting, key=goal)
    alike = [row for row in fitting if goal(row) <= _ALIKE * goal(best)]
    chosen = min(alike, key=lambda row: (*_unlike_one_worker(row), row.workers, goal(row)))
    return chosen, f"{_what(chosen)} {_why(chosen, best, asked)}"


def _keeps(row: Row, asked: ForecastConfig) -> bool:
    in_time = asked.deadline_seconds is None or _seconds(row) <= asked.deadline_seconds
    return in_time and (not asked.budget or _usd(row) <= asked.budget)


def _unlike_one_worker(row: Row) -> tuple[float, bool]:
    """What orders settings by how much they change what is learned: how rarely they exchange, what they round."""
    every = math.inf if row.sync_every == "epoch" else row.sync_every
    return (0 if row.strategy in ("serial", "all_reduce") else every), row.compression != "none"


def _what(row: Row) -> str:
    cost = "" if row.usd is None else f" and {dollars(row.usd)} USD"
    on = f" on {row.instance}" if row.instance else ""
    on += ", more than the pilot had" if row.is_extrapolated else ""
    return (
        f"{row.name} with {plural(row.workers, 'worker')}{on}: {duration(_seconds(row))}{cost}, "
        f"with an efficiency of {percent(row.efficiency or 0.0, 0)}."
    )


def _why(chosen: Row, best: Row, asked: ForecastConfig) -> str:
    superlative = "fastest" if asked.recommend == "fastest" else "cheapest"
    limits = [f"end within {asked.deadline}"] if asked.deadline else []
    limits += [f"cost at most {asked.budget:g} USD"] if asked.budget else []
    of_them = f" of those that {' and '.join(limits)}" if limits else ""
    if chosen is best:
        is_as_one_worker = _unlike_one_worker(chosen) == (0, False)
        caution = "" if is_as_one_worker else "; what it costs in accuracy, a forecast does not say"
        return f"It is the {superlative}{of_them}{caution}{_narrowly(chosen, asked)}."
    other = f"{best.name} with {plural(best.workers, 'worker')} ({duration(_seconds(best))})"
    if _unlike_one_worker(chosen) == _unlike_one_worker(best):
        why = "this one takes fewer workers"
    else:
        why = "this one trains more as one worker would, so it is the safer one for accuracy"
    why += _narrowly(chosen, asked)
    return f"The {superlative}{of_them} is {other}, which a forecast can hardly tell from it; {why}."


def _narrowly(chosen: Row, asked: ForecastConfig) -> str:
    """That a forecast's usual error would miss the deadline, where it would."""
    is_narrow = asked.deadline_seconds is not None and _USUAL_ERROR * _seconds(chosen) > asked.deadline_seconds
    return "; the deadline is within a forecast's error of it" if is_narrow else ""


def _nothing_fits(known: Sequence[Row], asked: ForecastConfig) -> str:
    fastest = min(known, key=_seconds)
    words = [f"No setting keeps to it: the fastest, {fastest.name} with {plural(fastest.workers, 'worker')}, takes"]
    words.append(f"{duration(_seconds(fastest))}")
    if asked.budget:
        cheapest = min(known, key=_usd)
        words.append(f"for {dollars(_usd(fastest))} USD, and the cheapest costs {dollars(_usd(cheapest))} USD")
    return " ".join(words) + "."


def _seconds(row: Row) -> float:
    return row.seconds or 0.0


def _usd(row: Row) -> float:
    return row.usd or 0.0
