"""`sunspark compare SWEEP.toml FOLDER`: run ways of training side by side and compare what they come to."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.bench.compare import CompareConfig, CompareResult, plan
from sunspark.bench.sweep import Setting, load_sweep
from sunspark.bench.sweep_results import Summary
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary, table

_DESCRIPTION = """Run ways of training side by side and compare what they come to.

Each is an ordinary run. What is measured is not run again: an interrupted sweep goes on with the same command.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    sweep: Annotated[Positional[str], tyro.conf.arg(metavar="SWEEP.toml")]
    """What is compared."""
    folder: Positional[str]
    """Where runs and results go."""
    dry_run: Annotated[bool, FlagCreatePairsOff] = False
    """Print what would run, and run nothing."""
    config: Annotated[CompareConfig, tyro.conf.arg(name="")] = field(default_factory=CompareConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What would run."""

    runs: int
    settings: list[Setting]


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv`, and compare."""
    arguments = parse(Arguments, argv, prog="sunspark compare", description=_DESCRIPTION)
    if arguments.dry_run:
        settings = plan(load_sweep(arguments.sweep), arguments.config)
        runs = arguments.config.repeats * sum(not setting.refusal for setting in settings)
        return Outcome(result=Planned(runs=runs, settings=settings), text=_plan_in_words(settings, runs))
    result = sunspark.compare(
        arguments.sweep, arguments.folder, arguments.config, lambda line: print(line, file=sys.stderr)
    )
    return Outcome(result=result, text=_in_words(result), exit_code=1 if result.failed else 0)


def _plan_in_words(settings: Sequence[Setting], runs: int) -> str:
    rows = [
        (setting.name, setting.refusal or ("oversubscribed" if setting.is_oversubscribed else ""))
        for setting in settings
    ]
    return table(f"{runs} runs of {len(settings)} settings", ["setting", "not run, or marked"], rows).lstrip()


def _in_words(result: CompareResult) -> str:
    columns = ["setting", "n", "images/s", "95 %", "speed-up", "95 %", "efficiency", "top-1", ""]
    rows = [_row(one) for one in result.settings]
    return summary(result, leave_out=["settings"]) + "\n" + table("settings", columns, rows)


def _row(one: Summary) -> tuple[object, ...]:
    return (
        one.setting,
        one.runs,
        _figure(one.images_per_second, ".1f"),
        _interval(one.images_per_second_interval, ".1f"),
        _figure(one.speed_up, ".2f"),
        _interval(one.speed_up_interval, ".2f"),
        _figure(one.efficiency, ".0%"),
        _figure(one.top1, ".1%"),
        one.reason or ("oversubscribed" if one.is_oversubscribed else ""),
    )


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return "-" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"
