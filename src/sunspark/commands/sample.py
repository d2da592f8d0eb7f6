"""`sunspark sample DIRECTORY`: draw sample scenes."""

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

    directory: Positional[str]
    """Folder to draw into; one folder per class is made in it."""
    num_classes: int = 6
    """Kinds of scenes."""
    images_per_class: int = 100
    """Images of each kind."""
    seed: int = 0
    """Seed of the drawing: the same seed draws the same scenes."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and draw."""
    description = "Draw sample scenes: landscapes of sky, sea, hills, dunes, trees and buildings, as JPEG files."
    arguments = parse(Arguments, argv, prog="sunspark sample", description=description)
    result = sunspark.sample(arguments.directory, arguments.num_classes, arguments.images_per_class, arguments.seed)
    return Outcome(result=result, text=summary(result))
