"""`sunspark watch RUN`: follow a run that was started elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary

_DESCRIPTION = """Follow a run that was started elsewhere: in another terminal, on another machine.

Reads what the run records, a few seconds after it happens, and ends when the run has ended. Where there is no
terminal it says where the run is, and ends at once.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    run: Positional[str]
    """Folder of a run."""
    once: Annotated[bool, FlagCreatePairsOff] = False
    """Say where the run is, and end at once."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and watch."""
    arguments = parse(Arguments, argv, prog="sunspark watch", description=_DESCRIPTION)
    result = sunspark.watch(arguments.run, arguments.once)
    unknown = [field.name for field in fields(result) if getattr(result, field.name) is None]
    return Outcome(result=result, text=summary(result, leave_out=unknown))
