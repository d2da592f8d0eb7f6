"""The report of a sweep: which way of training is how fast, at what accuracy, and where its time goes.

Like that of a run (`report.py`), one HTML file without scripts. Everything is computed from FOLDER/results.parquet.
Beside the speed-ups stand those that the 2020 project measured, on its own machines.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from sunspark.bench.bars import Bar
from sunspark.bench.download import csv_download
from sunspark.bench.sweep_charts import charts_of
from sunspark.bench.sweep_results import Measurement, Summary, summaries
from sunspark.bench.sweep_rows import Row, rows_of, speed_up_in_words
from sunspark.bench.words import duration, hours, percent, plural, rate

_COLUMNS: Final = (
    ("no.", True),
    ("setting", False),
    ("top-1", True),
    ("speed-up", True),
    ("images/s", True),
    ("efficiency", True),
    ("core hours", True),
    ("runs", True),
)
"""Heads of the table, and whether numbers stand below."""
_OF_GUESSING: Final = 1.25
"""So many times the accuracy of guessing is not clearly more."""
_SHORT_SECONDS: Final = 10.0
"""A training of less is mostly its first steps, which are slow."""
_FORECAST_COLUMNS: Final = (("forecast, s/epoch", True), ("measured", True), ("forecast's error", True))


def sections_of(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """What the template `sweep.html.j2` needs."""
    found = summaries(measurements)
    rows = rows_of(found, measurements)
    has_forecasts = any(row.first.forecast_seconds_per_epoch for row in rows)
    return {
        "finding": finding(found),
        "rows": rows,
        "not_run": [(one.setting, one.reason) for one in found if not one.runs],
        "speeds": _speed_bars(rows),
        "charts": charts_of(rows),
        "columns": [*_COLUMNS, *(_FORECAST_COLUMNS if has_forecasts else ())],
        "has_forecasts": has_forecasts,
        "hours": hours,
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
    sentences = [f"{_comparison(fastest, rated)}."]
    slowest = min(rated, key=lambda one: one.speed_up or 0.0)
    if slowest is not fastest:
        sentences.append(f"The slowest is {slowest.setting}, with {speed_up_in_words(slowest)}.")
    known = [one for one in found if one.top1 is not None]
    if not _is_guessed(known) and (accuracy := _most_accurate(known, fastest)):
        sentences.append(accuracy)
    sentences += cautions(found)
    if min(one.runs for one in rated) < 2:
        sentences.append("Settings that were run once have no interval: how far chance goes is not known.")
    if any(one.is_oversubscribed for one in rated):
        sentences.append("Some had fewer cores than they want, and their times say nothing about a cluster.")
    return " ".join(sentences)


def cautions(found: Sequence[Summary]) -> list[str]:
    """What a sweep cannot say: of accuracy where all guess, of speed where runs lasted seconds."""
    known = [one for one in found if one.top1 is not None]
    said = []
    if _is_guessed(known):
        num_classes = _num_classes(known)
        said.append(
            f"No setting is clearly more accurate than guessing among {num_classes} classes, "
            f"{percent(1 / num_classes)}, so nothing can be said of accuracy: train for more epochs."
        )
    timed = [one for one in found if one.seconds is not None]
    shortest = min(timed, key=lambda one: one.seconds or 0.0, default=None)
    if shortest is not None and (shortest.seconds or 0.0) < _SHORT_SECONDS:
        said.append(
            f"{shortest.setting} trained for {duration(shortest.seconds or 0.0)}: below some {_SHORT_SECONDS:.0f} s, "
            "times are mostly those of the first, slow steps, and speeds say little."
        )
    return said


def _is_guessed(known: Sequence[Summary]) -> bool:
    """Whether not even the best setting is clearly more accurate than guessing; of unknown classes, never."""
    num_classes = _num_classes(known)
    return num_classes > 1 and max(one.top1 or 0.0 for one in known) <= _OF_GUESSING / num_classes


def _num_classes(known: Sequence[Summary]) -> int:
    return max((one.num_classes or 0 for one in known), default=0)


def _most_accurate(known: Sequence[Summary], fastest: Summary) -> str:
    """Which setting that is, beside the fastest; where none stands out, that."""
    if len(known) < 2:
        return ""
    top1 = max(one.top1 or 0.0 for one in known)
    leaders = [one for one in known if percent(one.top1 or 0.0) == percent(top1)]
    if len(leaders) == len(known):
        return f"All settings are equally accurate, with {percent(top1)} top-1."
    if fastest in leaders:
        is_alone = "is also the most accurate" if len(leaders) == 1 else "is as accurate as any other"
        return f"The fastest {is_alone}, with {percent(top1)} top-1."
    if fastest.top1 is None:
        return ""
    return (
        f"The most accurate {'is' if len(leaders) == 1 else 'are'} {' and '.join(one.setting for one in leaders)} "
        f"with {percent(top1)} top-1, {100 * (top1 - fastest.top1):.1f} points above the {percent(fastest.top1)} of "
        "the fastest."
    )


def _comparison(one: Summary, rated: Sequence[Summary]) -> str:
    """The fastest beside one worker alone; where it cannot be told from that, the best of those that can."""
    interval, fastest = one.speed_up_interval, f"{one.setting}, the fastest, has {speed_up_in_words(one)}"
    if interval is not None and interval[0] <= 1 <= interval[1]:
        sure = [other for other in rated if other.speed_up_interval and other.speed_up_interval[0] > 1]
        if sure:
            best = max(sure, key=lambda other: other.speed_up or 0.0)
            is_faster = f"{best.setting} is faster than one worker, with {speed_up_in_words(best)}"
            return f"{fastest}, which may be chance; {is_faster}"
        return f"No setting is surely faster than one worker that trains alone; {fastest}"
    if (one.speed_up or 0.0) <= 1:
        return f"No setting is faster than one worker that trains alone: {fastest}"
    return f"The fastest is {one.setting}, with {speed_up_in_words(one)}"


def _speed_bars(rows: Sequence[Row]) -> tuple[Bar, ...]:
    most = max((row.summary.images_per_second or 0.0 for row in rows), default=0.0) or 1.0

    def bar(row: Row) -> Bar:
        speed, interval = row.summary.images_per_second or 0.0, row.summary.images_per_second_interval
        spread = f", 95 % interval {rate(max(0.0, interval[0]))} to {rate(interval[1])}" if interval else ""
        hint = f"{row.summary.setting}: {rate(speed)} images/s in {plural(row.summary.runs, 'run')}{spread}"
        name = f"{row.number}  {row.summary.setting}{', the baseline' if row.is_baseline else ''}"
        return Bar(name=name, share=speed / most, text=rate(speed), hint=hint)

    return tuple(map(bar, rows))
