"""`sunspark predict RUN IMAGES...`: say what a run's model sees in images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tyro.conf import Positional

import sunspark
from sunspark.command_line import parse
from sunspark.commands.arguments import CommonArguments
from sunspark.commands.text import Outcome, summary
from sunspark.data.prediction_table import Prediction
from sunspark.errors import ConfigError
from sunspark.launch.predict import PredictConfig

_DESCRIPTION = """Say what a run's model sees in images.

A few images: their classes are printed. Many: --out TABLE.parquet or TABLE.csv, computed by Spark. Images are seen
as 'sunspark evaluate' sees those of the dataset; one that cannot be decoded has its reason in place of classes.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(CommonArguments):
    """The command line."""

    run: Positional[str]
    """Folder of a run."""
    images: Positional[tuple[str, ...]]
    """Image files, folders of images (nested ones too), URIs of either."""
    top: int = 5
    """Classes per image, the most probable first."""
    out: str | None = None
    """Table to write, .parquet or .csv: one row per image, whatever their number."""
    launcher: Literal["spark", "local"] | None = None
    """With --out. spark, if not given: as tasks of a Spark cluster. local: in this process, without Spark and Java."""
    master: str | None = None
    """With --out. Spark master; if not given, the one Spark is configured with, else local[*]."""


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and predict."""
    arguments = parse(Arguments, argv, prog="sunspark predict", description=_DESCRIPTION)
    return _print(arguments) if arguments.out is None else _write(arguments, arguments.out)


def _print(arguments: Arguments) -> Outcome:
    for name in ("launcher", "master"):
        if given := getattr(arguments, name):
            raise ConfigError(f"--{name} {given} has no effect without --out; name a table, or leave it out")
    found = sunspark.predict(arguments.run, arguments.images, arguments.top)
    return Outcome(result={"predictions": [_as_json(one) for one in found]}, text="\n".join(map(_as_text, found)))


def _write(arguments: Arguments, out: str) -> Outcome:
    config = PredictConfig(
        top=arguments.top,
        launcher=arguments.launcher or "spark",
        master=arguments.master,
    )
    result = sunspark.predict_table(arguments.run, arguments.images, out, config)
    return Outcome(result=result, text=summary(result))


def _as_json(one: Prediction) -> dict[str, Any]:
    if one.error is not None:
        return {"path": one.path, "error": one.error}
    return {"path": one.path, "top": [{"class": each.name, "probability": each.probability} for each in one.top]}


def _as_text(one: Prediction) -> str:
    """The path, and below it a line for each class, or the reason."""
    if one.error is not None:
        return f"{one.path}\n  cannot be seen: {one.error}"
    lines = (f"  {100 * each.probability:6.2f} %  {each.name}" for each in one.top)
    return "\n".join([one.path, *lines])
