"""What a user is told of a training that has diverged."""

import math
from collections.abc import Sequence

from sunspark.training.strategies.strategy import Applied


def note_of(figures: Applied, paths: Sequence[str]) -> str:
    """For the run's records: all there is to know of the step."""
    return f"loss {figures.loss}, gradient norm {figures.gradient_norm}, images: {', '.join(paths)}"


def cause_of(step: int, figures: Applied, paths: Sequence[str]) -> str:
    """Why the run ends, and what to do."""
    what = "loss" if not math.isfinite(figures.loss) else "gradient"
    return (
        f"the {what} of step {step} is not finite (loss {figures.loss}, gradient norm {figures.gradient_norm}, "
        f"learning rate {figures.learning_rate:g}); lower --learning-rate, or set --clip-norm, in another folder; "
        f"its {len(paths)} images begin with {', '.join(paths[:5])}, "
        "and the event 'diverged' in the run's records names all"
    )
