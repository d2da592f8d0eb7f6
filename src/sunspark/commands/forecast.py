"""`sunspark forecast DATASET`: what would training take and cost, for every way of making it parallel?"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import Positional

import sunspark
from sunspark.bench.forecasting.config import ForecastConfig
from sunspark.bench.forecasting.forecast import ForecastResult
from sunspark.bench.forecasting.rows import Row
from sunspark.bench.words import dollars, duration, percent, plural, rate, size
from sunspark.command_line import config_path, parse
from sunspark.commands.arguments import ConfigFileArguments
from sunspark.commands.text import Outcome, table
from sunspark.config import load
from sunspark.errors import first_five
from sunspark.launch.config import TrainConfig

_DESCRIPTION = """Say what a training would take and cost, for every strategy and number of workers.

A pilot of a minute or two measures it where the configuration launches: with as many workers as that has.
"""
_COLUMNS = ["setting", "workers", "time/epoch", "images/s", "efficiency", "in all", "USD", "memory/worker", ""]
_ERROR = (
    "where it was tried, times were off by less than 15 % in the median, and 35 % at worst (docs/guides/forecast.md)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(ConfigFileArguments):
    """The command line."""

    dataset: Positional[str]
    """Dataset made by 'sunspark ingest'."""
    runs: Annotated[tuple[str, ...], tyro.conf.arg(name="from", metavar="RUN")] = ()
    """Take the costs from this finished run of the same network, and make no pilot; once for each of several runs."""
    scratch: str = ""
    """Folder for the pilot, empty, that all workers reach; on one machine a temporary one if not given."""
    out: str = ""
    """File for the forecast, as JSON."""
    asked: Annotated[ForecastConfig, tyro.conf.arg(name="")] = field(default_factory=ForecastConfig)


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv`, and forecast."""
    path = config_path(argv)
    config = load(TrainConfig, path) if path else None
    arguments = parse(Arguments, argv, prog="sunspark forecast", description=_DESCRIPTION)
    result = sunspark.forecast(
        arguments.dataset,
        config,
        arguments.asked,
        runs=arguments.runs,
        scratch=arguments.scratch,
        out=arguments.out,
        tell=lambda line: print(line, file=sys.stderr),
    )
    found_none = arguments.asked.recommend != "none" and result.recommended is None
    return Outcome(result=result, text=_in_words(result), exit_code=1 if found_none else 0)


def _in_words(result: ForecastResult) -> str:
    parts = [
        table(
            f"{name or 'where it was measured'}, {plural(result.epochs, 'epoch')}",
            _COLUMNS,
            [_cells(row) for row in result.rows if row.instance == name and row.seconds is not None],
        )
        for name in dict.fromkeys(row.instance for row in result.rows)
    ]
    missing: dict[str, list[str]] = {}
    for row in result.rows:
        if row.reason:
            missing.setdefault(row.reason, []).append(f"{row.name} with {row.workers}")
    parts += [f"\nnot forecast: {reason} ({first_five(names)})" for reason, names in missing.items()]
    stars = "*: more workers than were measured" if any(row.is_extrapolated for row in result.rows) else ""
    parts += [f"\n{words}" for words in (stars, *result.carried, _ERROR, result.why) if words]
    return "\n".join(parts).lstrip("\n")


def _cells(row: Row) -> tuple[object, ...]:
    marks = ["knee"] if row.is_knee else []
    return (
        row.name,
        f"{row.workers}*" if row.is_extrapolated else row.workers,
        duration(row.seconds_per_epoch or 0.0),
        rate(row.images_per_second or 0.0),
        percent(row.efficiency or 0.0, 0),
        duration(row.seconds or 0.0),
        "-" if row.usd is None else dollars(row.usd),
        "-" if row.worker_bytes is None else size(row.worker_bytes),
        ", ".join(marks),
    )
