"""`sunspark verify RUN`: was every sample of every epoch applied exactly once?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.command_line import parse
from sunspark.commands.common import CommonArguments, Outcome, summary, table

_DESCRIPTION = """Was every sample of every epoch applied exactly once?

Recomputes, from the dataset's manifest and the order of samples alone, what every step must have seen, and
compares it with what the workers really loaded. Exit code 0 when it was, 1 when it was not.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    run: Positional[str]
    """Folder of a run."""
    dataset: str | None = None
    """The dataset it was trained on, when that has moved."""
    pixels: Annotated[bool, FlagCreatePairsOff] = False
    """Decode the images of every step again; otherwise those of 20 random steps."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and verify."""
    arguments = parse(Arguments, argv, prog="sunspark verify", description=_DESCRIPTION)
    result = sunspark.verify(arguments.run, arguments.dataset, arguments.pixels)
    columns = ("epoch", "samples", "missing", "repeated", "excused")
    rows = [tuple(getattr(epoch, column) for column in columns) for epoch in result.epochs]
    text = "\n".join([summary(result, leave_out=("epochs",)), table("epochs", columns, rows)])
    return Outcome(result=result, text=text, exit_code=0 if result.exactly_once else 1)
