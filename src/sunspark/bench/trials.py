"""What came of the trials of a search, as a file for reports: FOLDER/trials.json. Free of torch."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from sunspark import run_directory, storage
from sunspark.config import from_dict
from sunspark.errors import ConfigError, RunError

if TYPE_CHECKING:
    import optuna

LEAST_TRIALS: Final = 10
"""That came to their end, for importances."""
REDUCTION: Final = 3
"""Of the trials that come to a rung, one in so many goes on; rungs are evaluations 1, 3, 9 and so on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial."""

    number: int
    state: str
    """complete, pruned (ended early) or failed."""
    top1: float | None
    """At its end, on the split that trials are judged on."""
    values: dict[str, object]
    """Key of the space -> value."""
    curve: list[tuple[int, float]]
    """Epoch, top-1."""
    reason: str
    """Why it failed."""
    seconds: float
    """Of the start in which it ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """All of them, and how much each key of the space matters (PED-ANOVA, arXiv 2304.10255); sums to 1."""

    trials: list[Trial]
    importance: dict[str, float]


def write_trials(folder: str, trials: Sequence[Trial], study: "optuna.Study") -> None:
    """FOLDER/trials.json."""
    body = Trials(trials=list(trials), importance=_importance(study))
    storage.write_json_atomic(storage.join(folder, "trials.json"), asdict(body))


def is_search(folder: str) -> bool:
    """Whether `sunspark tune` has worked on it."""
    return storage.exists(storage.join(folder, "trials.json"))


def read_trials(folder: str) -> Trials:
    """What `write_trials` has written. Raises RunError when something else has."""
    uri = storage.join(folder, "trials.json")
    try:
        return from_dict(Trials, run_directory.read_object(uri))
    except ConfigError as error:
        raise RunError(f"{uri} is damaged or was written by something else: {error}") from error


def _importance(study: "optuna.Study") -> dict[str, float]:
    """Empty while too few trials came to their end to tell, or all came to the same."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < LEAST_TRIALS:
        return {}
    try:
        with warnings.catch_warnings(action="ignore"):
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (RuntimeError, ValueError):
        return {}
    return {key: float(value) for key, value in found.items()}
