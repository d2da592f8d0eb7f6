"""Which ways to launch contradict which work."""

import math
from dataclasses import fields

import pytest

from sunspark.config import to_dict
from sunspark.data.augment import AugmentConfig
from sunspark.data.loader import LoaderConfig
from sunspark.errors import ConfigError
from sunspark.launch.config import LaunchConfig
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig
from tests.distributed.laws import law_config

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("config", [LaunchConfig, LoaderConfig, OptimConfig, AugmentConfig])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_no_option_is_infinite_or_no_number(config: type, value: float) -> None:
    """No JSON file would hold it: a run could not be written down."""
    floats = [field.name for field in fields(config) if isinstance(field.default, float)]
    assert floats
    for name in floats:
        with pytest.raises(ConfigError, match=rf"{name} must be .*got {value}"):
            config(**{name: value})
    for field in fields(config):
        if isinstance(field.default, tuple):
            with pytest.raises(ConfigError, match=rf"{field.name} must be .*got .*{value}"):
                config(**{field.name: (0.5, value)})


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_has_63_bits(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed must be 0 to 2\*\*63 - 1, got {seed}; use 0"):
        TrainingConfig(seed=seed)


def test_the_work_of_a_training_is_all_of_it_but_the_launch() -> None:
    config = law_config("sgd", workers=2)
    assert to_dict(config) == to_dict(config.work) | {"launch": to_dict(config.launch)}
