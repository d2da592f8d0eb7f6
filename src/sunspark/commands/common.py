"""What the commands share: options, outcomes, and tables for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, cast

import tyro
from rich.console import Console, Group, RenderableType
from rich.table import Table
from tyro.conf import FlagCreatePairsOff

_SHARES = ("top1", "top5", "mean_per_class")


@dataclass(frozen=True, kw_only=True, slots=True)
class CommonArguments:
    """Options of every command."""

    json: Annotated[bool, FlagCreatePairsOff] = False
    """Print the result as one JSON object on standard output, everything else on standard error."""
    debug: Annotated[bool, FlagCreatePairsOff] = False
    """Show the traceback of an error, and what is logged for developers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFileArguments(CommonArguments):
    """Options of a command that also reads its settings from a file."""

    config_file: Annotated[str | None, tyro.conf.arg(name="config", metavar="FILE.toml")] = None
    """Settings in TOML, by section; flags win over them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a command hands to the front door."""

    result: object
    """A dataclass: what `--json` prints."""
    text: RenderableType
    """The same for people."""
    exit_code: int = 0

    def show(self) -> None:
        """Print it for people."""
        Console(highlight=False).print(self.text)


def summary(result: object, *, leave_out: Iterable[str] = (), also: Sequence[RenderableType] = ()) -> Group:
    """The fields of a result as two columns, then whatever else there is to show."""
    grid = Table.grid(padding=(0, 2))
    for field in fields(cast(Any, result)):
        if field.name not in leave_out:
            name, value = _in_words(field.name, getattr(result, field.name))
            grid.add_row(name, value)
    return Group(grid, *also)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A titled table; the first column is text, the others are numbers."""
    drawn = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for position, column in enumerate(columns):
        drawn.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        drawn.add_row(*(_number(cell) for cell in row))
    return drawn


def _in_words(name: str, value: object) -> tuple[str, str]:
    """The name without its unit, and the value with it."""
    for ending, unit in (("_per_second", "/s"), ("_seconds", " s"), ("_bytes", " bytes"), ("_usd", " USD")):
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), _number(value) + unit
    if name == "seconds":
        return "time", f"{_number(value)} s"
    if name in _SHARES and isinstance(value, float):
        return name.replace("_", " "), f"{100 * value:.2f} %"
    return name.replace("_", " "), _number(value)


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_number(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_number(item) for item in value)
    return "-" if value is None else str(value)
