"""`sunspark compare SWEEP.toml FOLDER`: run ways of training side by side and compare what they come to."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.bench.compare import CompareConfig, CompareResult, num_measured, open_dataset, plan
from sunspark.bench.sweep import Setting, load_sweep
from sunspark.bench.sweep_results import Summary
from sunspark.command_line import command, parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary, table
from sunspark.errors import first_five

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
    measured: int
    """Of these, what is there already."""
    settings: list[Setting]


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv`, and compare."""
    arguments = parse(Arguments, argv, prog="sunspark compare", description=_DESCRIPTION)
    if arguments.dry_run:
        sweep = load_sweep(arguments.sweep)
        settings, repeats = plan(sweep, arguments.config), arguments.config.repeats
        open_dataset(sweep)
        planned = Planned(
            runs=repeats * sum(not setting.refusal for setting in settings),
            measured=num_measured(settings, repeats, arguments.folder),
            settings=settings,
        )
        return Outcome(result=planned, text=_plan_in_words(planned))
    result = sunspark.compare(
        arguments.sweep, arguments.folder, arguments.config, lambda line: print(line, file=sys.stderr)
    )
    return Outcome(result=result, text=in_words(result), exit_code=1 if result.failed else 0)


def _plan_in_words(planned: Planned) -> str:
    marks = [
        "not run" if one.refusal else "oversubscribed" if one.is_oversubscribed else "" for one in planned.settings
    ]
    rows = [(one.name, mark) for one, mark in zip(planned.settings, marks, strict=True)]
    title = f"{planned.runs} runs of {len(planned.settings)} settings, {planned.measured} of them measured already"
    reasons = _reasons((one.name, one.refusal) for one in planned.settings)
    return "\n".join([table(title, ["setting", ""], rows), *reasons]).lstrip()


def _reasons(named: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each reason, with the settings that it keeps from being run."""
    names_of: dict[str, list[str]] = {}
    for name, reason in named:
        if reason:
            names_of.setdefault(reason, []).append(name)
    return [f"\n{first_five(map(repr, names))}: {reason}" for reason, names in names_of.items()]


def in_words(result: CompareResult) -> str:
    """What was measured, a line for each setting."""
    has_forecasts = any(one.forecast_seconds_per_epoch for one in result.settings)
    of_epochs = ["s an epoch", "forecast"] if has_forecasts else []
    columns = ["setting", "n", "images/s", "95 %", "speed-up", "95 %", "efficiency", *of_epochs, "top-1", ""]
    rows = [_row(one, has_forecasts) for one in result.settings]
    reasons = _reasons((one.setting, one.reason) for one in result.settings)
    parts = [summary(result, leave_out=["settings"]), table("settings", columns, rows), *reasons]
    return "\n".join([*parts, f"\na page about it: {command('report', result.folder, '--out', 'compared.html')}"])


def _row(one: Summary, has_forecasts: bool) -> tuple[object, ...]:
    epochs = (_figure(one.seconds_per_epoch, ".3g"), _figure(one.forecast_seconds_per_epoch, ".3g"))
    return (
        one.setting,
        one.runs,
        _figure(one.images_per_second, ".1f"),
        _interval(one.images_per_second_interval, ".1f"),
        _figure(one.speed_up, ".2f"),
        _interval(one.speed_up_interval, ".2f"),
        _figure(one.efficiency, ".0%"),
        *(epochs if has_forecasts else ()),
        _figure(one.top1, ".1%"),
        "not run, or failed" if one.reason else "oversubscribed" if one.is_oversubscribed else "",
    )


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return "-" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"
