"""A search space: what all trials share, and what is chosen for each of them.

A file in TOML: `base` as in a file of `sunspark train --config`, and `space`, whose keys are those of such a file, with
dots. A value is a list to choose from, or `{ low = 1e-4, high = 1e-2, log = true }`, for whole numbers with a `step`.
"""

import tomllib
from collections.abc import Mapping
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
        distributions = distributions_of(space)
        if not config_of(space, {}).validation.eval_every:
            raise ConfigError("trials are judged while they train; set validation.eval_every in base")
        for end in ("low", "high"):
            config_of(space, {name: _end_of(one, end) for name, one in distributions.items()})
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
        return CategoricalDistribution(list(value))
    if not (isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= _RANGE):
        raise ConfigError(f"space.{key} must be a list of values or a range {{ low = ..., high = ... }}, got {value!r}")
    low, high, log, step = value["low"], value["high"], bool(value.get("log", False)), value.get("step")
    try:
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log, step=1 if step is None else step)
        return FloatDistribution(float(low), float(high), log=log, step=step)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"space.{key} is no range: {error}") from error


def _end_of(distribution: BaseDistribution, end: str) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0 if end == "low" else -1]
    return getattr(distribution, end)
