"""`sunspark evaluate RUN`: measure the accuracy of a run's model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from rich.console import RenderableType
from tyro.conf import Positional

import sunspark
from sunspark import storage
from sunspark.command_line import parse
from sunspark.commands.common import CommonArguments, Outcome, summary, table
from sunspark.config import from_dict
from sunspark.launch.run import EvaluationResult, LaunchConfig

_DESCRIPTION = """Measure the accuracy of a run's model, each image of a split once, spread over the workers.

Workers are started as for the training of the run, unless options say otherwise.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    run: Positional[str]
    """Folder of a run."""
    dataset: str | None = None
    """Dataset to evaluate on; the run's own when not given."""
    split: str = "test"
    """Split of the dataset."""
    launch: Annotated[LaunchConfig, tyro.conf.arg(name="")] = field(default_factory=LaunchConfig)


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and evaluate."""
    arguments = _parse(argv, LaunchConfig())
    arguments = _parse(argv, _launch_of(arguments.run))
    result = sunspark.evaluate(arguments.run, arguments.dataset, arguments.split, arguments.launch)
    text = summary(result, leave_out=("per_class",), also=[_classes(result)])
    return Outcome(result=result, text=text)


def _parse(argv: Sequence[str], launch: LaunchConfig) -> Arguments:
    defaults = {"launch": launch}
    return parse(Arguments, argv, prog="sunspark evaluate", description=_DESCRIPTION, defaults=defaults)


def _launch_of(run: str) -> LaunchConfig:
    """How the run was launched when it was started; the defaults where there is no such run."""
    path = storage.join(run, "config.json")
    return (
        from_dict(LaunchConfig, storage.read_json(path)["launch"]) if storage.exists(path) else LaunchConfig()
    )


def _classes(result: EvaluationResult) -> RenderableType:
    rows = [
        (one.name, one.samples, one.correct, one.correct / one.samples if one.samples else None)
        for one in result.per_class
    ]
    return table("\nclasses", ["class", "samples", "correct", "share"], rows)
