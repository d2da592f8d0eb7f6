"""What a forecast weighed when it chose the strategy of a run, and what then happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sunspark.bench.history import History, seconds_per_epoch
from sunspark.bench.run_files import RunFiles
from sunspark.bench.words import duration, strategy
from sunspark.records import EventRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """A row of the table."""

    strategy: str
    workers: str
    per_epoch: str
    """Its duration, in words; so is the following."""
    in_all: str
    remark: str = ""
    """That it was chosen, or why it was not forecast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Why the strategy was chosen, what was weighed, soonest first, and what happened."""

    why: str
    weighed: tuple[Weighed, ...]
    happened: Weighed


def choice(files: RunFiles, history: History, events: Sequence[EventRecord]) -> Choice | None:
    """None where no forecast has chosen the strategy."""
    forecast = files.forecast or {}
    chosen = forecast.get("recommended")
    if not chosen:
        return None
    rows = sorted(forecast.get("rows", []), key=lambda row: row.get("seconds") or float("inf"))
    took, in_all = seconds_per_epoch(history), _seconds_in_all(files, events)
    return Choice(
        why=str(forecast.get("why", "")),
        weighed=tuple(_weighed(row, "chosen" if row == chosen else str(row.get("reason", ""))) for row in rows),
        happened=Weighed(
            strategy="what happened",
            workers=str(chosen.get("workers", "")),
            per_epoch=duration(took) if took > 0 else "-",
            in_all=duration(in_all) if in_all else "-",
        ),
    )


def _weighed(row: Mapping[str, Any], remark: str) -> Weighed:
    per_epoch, in_all = row.get("seconds_per_epoch"), row.get("seconds")
    return Weighed(
        strategy=strategy(row),
        workers=str(row.get("workers", "")),
        per_epoch=duration(per_epoch) if per_epoch else "-",
        in_all=duration(in_all) if in_all else "-",
        remark=remark,
    )


def _seconds_in_all(files: RunFiles, events: Sequence[EventRecord]) -> float | None:
    """From the start of its workers to its end; None of a run that has none, or that was away in between."""
    times = {
        name: [event.time_unix_seconds for event in events if event.event == name]
        for name in ("started", "resumed", "finished")
    }
    if not files.is_finished or times["resumed"] or not (times["started"] and times["finished"]):
        return None
    return max(times["finished"]) - min(times["started"])
