"""`sunspark report RUN`: write the report of a run, or of a sweep, one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    run: Positional[str]
    """Folder of a run, or of a sweep."""
    out: str = "report.html"
    """HTML file to write; it holds everything it shows."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and write the report."""
    description = "Write the report of a run (curves, time, events, accuracy, configuration), or of a sweep."
    arguments = parse(Arguments, argv, prog="sunspark report", description=description)
    result = sunspark.report(arguments.run, arguments.out)
    return Outcome(result=result, text=summary(result))
