"""`sunspark doctor`: would training work here, and on the cluster?"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, table, terminal_width
from sunspark.launch.doctor.checks import Check, Status, in_gib
from sunspark.launch.doctor.cluster import Connection, ExecutorResult
from sunspark.launch.doctor.examine import DoctorConfig, DoctorResult

_DESCRIPTION = """Would training work here, and on the cluster? What is here, what is missing, what to do.

With --master, or where Spark is configured, every executor is examined too, and the network between them.
Exit code 0 when nothing is wrong (warnings are allowed), 2 when training would fail.
"""

_MOST_CONNECTIONS: Final = 20
_STYLES: Final[Mapping[Status, str]] = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    config: Annotated[DoctorConfig, tyro.conf.arg(name="")] = field(default_factory=DoctorConfig)


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and examine."""
    arguments = parse(Arguments, argv, prog="sunspark doctor", description=_DESCRIPTION)
    result = sunspark.doctor(arguments.config)
    return Outcome(result=result, text="\n".join(_lines(result)), exit_code=0 if result.ready else 2)


def _lines(result: DoctorResult) -> Iterator[str]:
    yield _checks(result.checks)
    if result.executors:
        yield _executors(result.executors)
        for executor in result.executors:
            if executor.checks:
                yield f"\nexecutor {executor.name} ({executor.host})"
                yield _checks(executor.checks)
    if result.connections:
        yield _connections(result.connections)
    yield f"\n{_verdict(result)}"


def _checks(checks: Sequence[Check]) -> str:
    """A line for each, and below it what to do; as wide as the terminal, where there is one."""
    console = Console(highlight=False, width=terminal_width(sys.stdout))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=len("warning"))
    for check in checks:
        remedy = f"\n-> {check.remedy}" if check.remedy else ""
        grid.add_row(Text(check.status, _STYLES[check.status]), Text(check.name), Text(check.found + remedy))
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _executors(executors: Sequence[ExecutorResult]) -> str:
    columns = ["executor", "address", "state", "Python", "cores", "memory", "disk", "dataset", "clock"]
    return table("executors", columns, map(_executor, executors))


def _executor(one: ExecutorResult) -> tuple[object, ...]:
    statuses = {check.status for check in one.checks}
    state = next((status for status in ("wrong", "warning") if status in statuses), "ok")
    speed, ahead = one.dataset_bytes_per_second, one.clock_ahead_seconds
    return (
        one.name,
        one.host,
        state,
        one.python,
        one.cores,
        None if one.memory_bytes is None else in_gib(one.memory_bytes),
        None if one.cache_free_bytes is None else in_gib(one.cache_free_bytes),
        None if speed is None else f"{speed / 1e6:,.0f} MB/s",
        None if ahead is None else f"{1000 * ahead:+,.1f} ms",
    )


def _connections(connections: Sequence[Connection]) -> str:
    """Those that are broken first, then the slowest."""
    ordered = sorted(connections, key=lambda one: (not one.error, -(one.latency_seconds or 0)))
    shown = ordered[:_MOST_CONNECTIONS]
    more = f" ({len(shown)} of {len(ordered)}; --json has all)" if len(shown) < len(ordered) else ""
    return table(f"network{more}", ["from", "to", "state", "round trip", "bandwidth"], map(_connection, shown))


def _connection(one: Connection) -> tuple[object, ...]:
    return (
        one.source,
        one.target,
        "wrong" if one.error else "ok",
        None if one.latency_seconds is None else f"{1000 * one.latency_seconds:.2f} ms",
        None if one.bytes_per_second is None else f"{one.bytes_per_second / 1e6:,.0f} MB/s",
    )


def _verdict(result: DoctorResult) -> str:
    every = [*result.checks, *(check for executor in result.executors for check in executor.checks)]
    wrong, doubtful = (sum(check.status == status for check in every) for status in ("wrong", "warning"))
    if wrong:
        return f"{wrong} wrong: training would fail"
    return f"ready to train, {doubtful} warnings" if doubtful else "ready to train"
