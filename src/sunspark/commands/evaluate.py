"""`sunspark evaluate RUN`: measure the accuracy of a run's model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import Positional

import sunspark
from sunspark import run_directory, storage
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary, table
from sunspark.config import from_dict
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import ClassAccuracy, EvaluationResult

_DESCRIPTION = """Measure the accuracy of a run's model, each image of a split once, spread over the workers.

Workers are started as for the training of the run, unless --launcher or --master says otherwise.
"""

_ELSEWHERE = ("--launcher", "--master")
"""With one of these, nothing of how the run was launched is taken over: it could contradict them."""

_IN_THE_FILE = ("dataset", "dataset_id", "per_class", "confusion", "mistakes", "right")
"""What `sunspark report` shows, or a table below."""


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
    if not any(word.partition("=")[0] in _ELSEWHERE for word in argv):
        arguments = _parse(argv, _launch_of(arguments.run))
    result = sunspark.evaluate(arguments.run, arguments.dataset, arguments.split, arguments.launch)
    text = "\n".join([summary(result, leave_out=_IN_THE_FILE), _classes(result)])
    return Outcome(result=result, text=text)


def _parse(argv: Sequence[str], launch: LaunchConfig) -> Arguments:
    defaults = {"launch": launch}
    return parse(Arguments, argv, prog="sunspark evaluate", description=_DESCRIPTION, defaults=defaults)


def _launch_of(run: str) -> LaunchConfig:
    """How the run was launched last; the defaults where there is no such run."""
    if not storage.exists(run_directory.config_file(run)):
        return LaunchConfig()
    return from_dict(LaunchConfig, run_directory.read_config(run)["launch"])


def _classes(result: EvaluationResult) -> str:
    rows = [(one.name, one.samples, one.correct, _share(one)) for one in result.per_class]
    return table("classes", ["class", "samples", "correct", "share"], rows)


def _share(one: ClassAccuracy) -> str:
    return f"{100 * one.correct / one.samples:.1f} %" if one.samples else "-"
