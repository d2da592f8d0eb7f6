"""`sunspark train DATASET RUN`: train on a dataset, or go on with a run that stopped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import Positional

import sunspark
from sunspark.command_line import config_path, parse
from sunspark.commands.arguments import ConfigFileArguments
from sunspark.commands.text import Outcome, summary
from sunspark.config import load
from sunspark.launch.config import TrainConfig

_DESCRIPTION = """Train on a dataset, or go on with a run that stopped.

Workers may die and come back; every sample of every epoch is applied exactly once.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(ConfigFileArguments):
    """The command line."""

    dataset: Positional[str]
    """Dataset made by 'sunspark ingest'."""
    run: Positional[str]
    """Folder of the run; one that is there already is resumed at its exact step."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and train."""
    path = config_path(argv)
    defaults = {"config": load(TrainConfig, path)} if path else {}
    arguments = parse(Arguments, argv, prog="sunspark train", description=_DESCRIPTION, defaults=defaults)
    result = sunspark.train(arguments.dataset, arguments.run, arguments.config)
    return Outcome(result=result, text=summary(result))
