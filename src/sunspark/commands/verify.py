"""`sunspark verify RUN`: was every sample of every epoch applied exactly once?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional

import sunspark
from sunspark.bench.words import epochs
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary, table
from sunspark.training.verify import VerifyResult

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
    text = "\n".join([summary(result, leave_out=("epochs",)), _epochs(result)])
    return Outcome(result=result, text=text, exit_code=0 if result.exactly_once else 1)


def _epochs(result: VerifyResult) -> str:
    """The epochs in which something was not as it should be."""
    columns = ("epoch", "samples", "missing", "repeated", "excused")
    odd = [epoch for epoch in result.epochs if epoch.missing or epoch.repeated or epoch.excused]
    if not odd:
        return (
            f"in {epochs([epoch.is_whole for epoch in result.epochs])} no sample missing, none repeated, none excused"
        )
    rows = [tuple(getattr(epoch, column) for column in columns) for epoch in odd]
    return table(f"epochs with more or fewer ({len(odd)} of {len(result.epochs)})", columns, rows)
