"""How a page is made: Jinja2 templates of this package, one look, everything that a user wrote escaped."""

import jinja2

from sunspark.bench import confusion
from sunspark.bench.history import PHASES


def environment() -> jinja2.Environment:
    """The templates, and the names that all of them may use."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("sunspark.bench"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["percent_of"] = lambda value: f"{100 * value:.2f}%"
    made.globals["all_phases"] = (*PHASES, "elsewhere")
    made.globals["levels"] = {"right": confusion.RIGHT_LEVELS, "wrong": confusion.WRONG_LEVELS}
    return made
