"""A sweep: which settings of `sunspark train` are run side by side, and in which order.

A file in TOML names the dataset, what all settings share (`base`), and what sets them apart: `axes`, of which every
combination is taken, and listed `settings`, each of which is taken with every combination. Keys are those of a file of
`sunspark train --config`, with dots. Beside each setting stands its baseline, the same training by one worker alone.
"""

import hashlib
import itertools
import json
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sunspark.config import flatten, from_dict, to_dict
from sunspark.errors import ConfigError, MisspeltError
from sunspark.launch.config import TrainConfig
from sunspark.training.strategies.config import StrategyConfig

_BASELINE: Final = "serial"
_NAME_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9.=_-]+")
_LONGEST_NAME: Final = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """What a file of a sweep says."""

    dataset: str
    """Dataset made by `sunspark ingest`."""
    eval_split: str = ""
    """The split on which finished models are measured; empty for none."""
    base: Mapping[str, object] = field(default_factory=dict)
    """What all settings share."""
    axes: Mapping[str, object] = field(default_factory=dict)
    """Key -> list of values."""
    settings: tuple[Mapping[str, object], ...] = ()
    """Listed settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One way of training."""

    name: str
    """Unique in the sweep; what sets it apart, in words."""
    config: TrainConfig | None
    """None when these values make no sense together."""
    refusal: str = ""
    """Why it is not run."""
    baseline: str = ""
    """The name of its baseline; empty when it is one."""
    is_oversubscribed: bool = False
    """It wants more cores than there are."""

    @property
    def is_baseline(self) -> bool:
        return self.config is not None and not self.baseline

    @property
    def folder(self) -> str:
        """The name of its folder: the same for the same training, whatever else the sweep holds."""
        digest = hashlib.blake2b(json.dumps(to_dict(self.config), sort_keys=True).encode(), digest_size=4).hexdigest()
        return f"{_NAME_CHARACTERS.sub('_', self.name)[:_LONGEST_NAME]}-{digest}"


def load_sweep(path: str | Path) -> SweepConfig:
    """Read the file. Raises ConfigError when it is missing, is not TOML, or says what no sweep has."""
    try:
        values = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no sweep file {str(path)!r}; check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the sweep {str(path)!r}: {error}") from error
    try:
        return from_dict(SweepConfig, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def settings_of(sweep: SweepConfig, num_cores: int, *, may_oversubscribe: bool = False) -> list[Setting]:
    """All settings of the sweep, each baseline before those that are compared with it.

    Those that make no sense, and those that want more than the `num_cores` of this machine while they run on it, have a
    `refusal`. Raises ConfigError when not even the base makes sense, the sweep has no setting, or one of them has a key
    that there is not.
    """
    built(dict(flatten(sweep.base)))
    found: dict[str, Setting] = {}
    for values in _combinations(sweep):
        name = _name_of(values)
        if name in found:
            raise ConfigError(f"the sweep has the setting {name!r} twice; leave one out")
        try:
            config = built(dict(flatten(sweep.base)) | _alone(values) | values)
        except MisspeltError as error:
            raise ConfigError(f"the setting {name!r}: {error}") from error
        except ConfigError as error:
            found[name] = Setting(name=name, config=None, refusal=str(error))
            continue
        baseline = _baseline_of(config, values)
        found.setdefault(baseline.name, _fitted(baseline, num_cores, may_oversubscribe=may_oversubscribe))
        if config == baseline.config:
            continue
        setting = Setting(name=name, config=config, baseline=baseline.name)
        found[name] = _fitted(setting, num_cores, may_oversubscribe=may_oversubscribe)
    return list(found.values())


def order_of_runs(settings: Sequence[Setting], repeats: int, seed: int) -> Iterator[tuple[Setting, int]]:
    """Every setting once a repeat, each repeat in an order of its own: what drifts meets all of them alike."""
    for repeat in range(repeats):
        shuffled = [setting for setting in settings if not setting.refusal]
        random.Random(f"{seed} {repeat}").shuffle(shuffled)
        yield from ((setting, repeat) for setting in shuffled)


def _combinations(sweep: SweepConfig) -> Iterator[dict[str, Any]]:
    axes = dict(flatten(sweep.axes))
    for key, values in axes.items():
        if not (isinstance(values, list | tuple) and values):
            raise ConfigError(f"axes.{key} must be a list of values, got {values!r}")
    if not axes and not sweep.settings:
        raise ConfigError("the sweep has no setting; give it [axes], or [[settings]]")
    listed = [dict(flatten(setting)) for setting in sweep.settings] or [{}]
    for setting, values in itertools.product(listed, itertools.product(*axes.values())):
        if both := sorted(setting.keys() & axes.keys()):
            raise ConfigError(f"{both[0]} is an axis, and a listed setting has it too; leave one of them out")
        yield setting | dict(zip(axes, values, strict=True))


def _alone(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a setting of one worker alone does not take from the base: it is the baseline of the others."""
    return {"launch.workers": 1, "training.replicas": 0} if values.get("strategy.strategy") == _BASELINE else {}


def built(flat: Mapping[str, Any]) -> TrainConfig:
    """The configuration with these values, by their keys with dots. Raises ConfigError when it makes no sense."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return from_dict(TrainConfig, nested)


def _baseline_of(config: TrainConfig, values: Mapping[str, Any]) -> Setting:
    """The same training by one worker with the cores of one; named by what else sets the setting apart."""
    alone = replace(
        config,
        strategy=StrategyConfig(strategy="serial"),
        training=replace(config.training, replicas=0),
        launch=replace(config.launch, workers=1),
    )
    of_who_computes = ("strategy.", "launch.workers", "training.replicas")
    others = {key: value for key, value in values.items() if not key.startswith(of_who_computes)}
    return Setting(name=", ".join(filter(None, [_BASELINE, _name_of(others)])), config=alone)


def _fitted(setting: Setting, num_cores: int, *, may_oversubscribe: bool) -> Setting:
    assert setting.config is not None
    launch = setting.config.launch
    cores = launch.workers * launch.cores_per_worker
    is_here = not launch.master or launch.master.startswith("local")
    if cores <= num_cores or not is_here:
        return setting
    if may_oversubscribe:
        return replace(setting, is_oversubscribed=True)
    refusal = f"it wants {cores} cores, and there are {num_cores}; --oversubscribe runs it all the same, and marks it"
    return replace(setting, refusal=refusal)


def _name_of(values: Mapping[str, Any]) -> str:
    """The strategy as it is, the rest as key=value."""
    words = []
    for key, value in values.items():
        last = key.rpartition(".")[2]
        words.append(str(value) if key == "strategy.strategy" else f"{last}={value}")
    return ", ".join(words)
