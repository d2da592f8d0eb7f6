"""`sunspark where`: the path of the program to hand to spark-submit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome

_DESCRIPTION = """Print the path of the program to hand to spark-submit.

    spark-submit --master yarn "$(sunspark where)" train DATASET RUN --workers 8
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Where sunspark is installed."""

    program: str
    """The path to hand to spark-submit."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv`, and say where."""
    parse(Arguments, argv, prog="sunspark where", description=_DESCRIPTION)
    program = str(Path(sunspark.__file__).parent / "submit" / "sunspark_submit.py")
    return Outcome(result=Where(program=program), text=program)
