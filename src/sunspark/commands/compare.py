"""`sunspark compare SWEEP.toml FOLDER`: run ways of training side by side and compare what they come to."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.bench.compare import CompareConfig, CompareResult, Planned, PlannedSetting, planned
from sunspark.bench.sweep import load_sweep
from sunspark.bench.sweep_report import cautions
from sunspark.bench.sweep_results import Summary
from sunspark.bench.words import duration, plural
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


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv`, and compare."""
    arguments = parse(Arguments, argv, prog="sunspark compare", description=_DESCRIPTION)
    if arguments.dry_run:
        found = planned(load_sweep(arguments.sweep), arguments.folder, arguments.config, _tell)
        return Outcome(result=found, text=_plan_in_words(found), exit_code=1 if found.failing or not found.runs else 0)
    result = sunspark.compare(arguments.sweep, arguments.folder, arguments.config, _tell)
    return Outcome(result=result, text=in_words(result), exit_code=1 if result.failed or not result.runs else 0)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _plan_in_words(found: Planned) -> str:
    rows = [(one.name, one.runs - one.measured, one.epochs, one.images, _mark(one)) for one in found.settings]
    title = f"{plural(found.runs, 'run')} of {plural(len(found.settings), 'setting')}, "
    title += f"{found.measured} of them measured already"
    reasons = _reasons((one.name, one.refusal) for one in found.settings)
    time = f"; by forecast {duration(found.seconds)}, and the starts of the runs" if found.seconds else ""
    work = f"{plural(found.epochs, 'epoch')}, {plural(found.images, 'image')} in all{time}"
    columns = ["setting", "runs left", "epochs each", "images an epoch", ""]
    return "\n".join([table(title, columns, rows), f"\nleft to train: {work}", *reasons]).lstrip()


def _mark(one: PlannedSetting) -> str:
    if one.refusal:
        return "would fail" if one.runs else "not run"
    return "oversubscribed" if one.is_oversubscribed else ""


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
    parts += [f"\n{caution}" for caution in cautions(result.settings)]
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
