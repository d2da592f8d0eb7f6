"""A search space: what all trials share, and what is chosen for each of them.

A file in TOML: `base` as in a file of `sunspark train --config`, and `space`, whose keys are those of such a file, with
dots. A value is a list to choose from, or `{ low = 1e-4, high = 1e-2, log = true }`, for whole numbers with a `step`.
"""

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sunspark.bench.sweep import built
from sunspark.config import flatten, from_dict
from sunspark.errors import ConfigError
from sunspark.launch.config import TrainConfig

_RANGE: Final = frozenset({"low", "high", "log", "step"})

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceConfig:
    """What a file of a search space says."""

    base: Mapping[str, object] = field(default_factory=dict)
    """What all trials share; its `validation` tells after how many epochs a trial is judged, and on which split."""
    space: Mapping[str, object] = field(default_factory=dict)
    """Key -> a list, or a range."""


def load_space(path: str | Path) -> SpaceConfig:
    """Read the file. Raises ConfigError when it is missing, is not TOML, or makes no sense."""
    try:
        space = from_dict(SpaceConfig, tomllib.loads(Path(path).read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the search space {str(path)!r}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        _refuse_unusable(space, distributions_of(space))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return space


def distributions_of(space: SpaceConfig) -> dict[str, BaseDistribution]:
    """Key -> what its values are drawn from. Raises ConfigError when there is none, or one is not a list or a range."""
    ranges: dict[str, Any] = dict(_keys(space.space))
    if not ranges:
        raise ConfigError("the space is empty; give [space] at least one key, such as optim.learning_rate")
    return {key: _distribution(key, value) for key, value in ranges.items()}


def config_of(space: SpaceConfig, chosen: Mapping[str, Any]) -> TrainConfig:
    """The training with these values. Raises ConfigError when it makes no sense."""
    return built(dict(flatten(space.base)) | dict(chosen))


def num_points(space: SpaceConfig) -> float:
    """How many configurations there are in it; infinite where a range has no steps."""
    return math.prod(map(_num_values, distributions_of(space).values()))


def _keys(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Keys with dots; a table is one of ranges, unless it is a range itself."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and not _RANGE & value.keys():
            found += _keys(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _distribution(key: str, value: object) -> BaseDistribution:
    if isinstance(value, list | tuple) and value:
        return _choice(key, value)
    if not (isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= _RANGE):
        raise ConfigError(f"space.{key} must be a list of values or a range {{ low = ..., high = ... }}, got {value!r}")
    numbers = [value[name] for name in ("low", "high", "step") if name in value]
    if not all(type(number) in (int, float) for number in numbers):
        raise ConfigError(f"space.{key} is no range: low, high and step are numbers, got {value!r}")
    low, high, step, log = value["low"], value["high"], value.get("step"), value.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"space.{key} is no range: log must be true or false, got {log!r}")
    try:
        if all(isinstance(number, int) for number in numbers) and not _holds_fractions(key):
            return IntDistribution(low, high, log=log, step=1 if step is None else step)
        return FloatDistribution(float(low), float(high), log=log, step=step)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"space.{key} is no range: {error}") from error


def _choice(key: str, values: Sequence[Any]) -> CategoricalDistribution:
    for number, value in enumerate(values):
        if isinstance(value, Mapping):
            raise ConfigError(f"space.{key} has a table to choose, {value!r}; give each of its keys a line in [space]")
        if value in values[:number]:
            raise ConfigError(f"space.{key} has {value!r} twice; leave one out")
    return CategoricalDistribution(values)


def _holds_fractions(key: str) -> bool:
    """Whether the configuration has a number there that need not be whole, though one without a point is taken."""
    hint: Any = TrainConfig
    for name in key.split("."):
        hint = typing.get_type_hints(hint).get(name) if dataclasses.is_dataclass(hint) else None
    return float in (hint, *typing.get_args(hint))


def _num_values(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (
        math.inf if distribution.step is None else round((distribution.high - distribution.low) / distribution.step) + 1
    )


def _refuse_unusable(space: SpaceConfig, distributions: Mapping[str, BaseDistribution]) -> None:
    """Each choice, and both ends of each range, must give a training that is evaluated, beside others of the space.

    Beside which ones: the first of each key, else the last of each.
    """
    ends = {key: _ends_of(one) for key, one in distributions.items()}
    firsts, lasts = {key: of[0] for key, of in ends.items()}, {key: of[-1] for key, of in ends.items()}
    _refuse_unjudged(config_of(space, {}))
    for key, values in ends.items():
        for value in values:
            try:
                config = config_of(space, firsts | {key: value})
            except ConfigError:
                config = config_of(space, lasts | {key: value})
            _refuse_unjudged(config)


def _refuse_unjudged(config: TrainConfig) -> None:
    if not config.validation.eval_every:
        raise ConfigError(
            "trials are judged while they train; set validation.eval_every in base, and let no value of the space be 0"
        )


def _ends_of(distribution: BaseDistribution) -> Sequence[Any]:
    """All that can be chosen, or the ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high
