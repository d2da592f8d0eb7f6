"""`sunspark tune DATASET SPACE.toml FOLDER`: search for a good configuration."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import Positional

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary
from sunspark.errors import SetupError

try:
    from sunspark.bench.tune import TuneConfig
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise SetupError("sunspark tune takes Optuna; install it: pip install 'sunspark[tune]'") from error

_DESCRIPTION = """Search for a good configuration: trials are trained, judged on the way, and ended early if they lag.

A search that was interrupted goes on with the same command.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    dataset: Positional[str]
    """Dataset made by 'sunspark ingest'."""
    space: Annotated[Positional[str], tyro.conf.arg(metavar="SPACE.toml")]
    """What is searched."""
    folder: Positional[str]
    """Where trials and results go."""
    config: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv`, and search."""
    arguments = parse(Arguments, argv, prog="sunspark tune", description=_DESCRIPTION)
    result = sunspark.tune(
        arguments.dataset,
        arguments.space,
        arguments.folder,
        arguments.config,
        lambda line: print(line, file=sys.stderr),
    )
    return Outcome(result=result, text=summary(result))
