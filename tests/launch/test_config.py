"""Which ways to launch contradict which work."""

import copy
import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from sunspark.config import to_dict
from sunspark.data.augment import AugmentConfig
from sunspark.data.dataset import Dataset
from sunspark.data.loader import LoaderConfig
from sunspark.errors import ConfigError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.doctor.examine import DoctorConfig
from sunspark.launch.resume import _resolve
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LoaderConfig(load_deadline_seconds=1e300),
            r"load_deadline_seconds must be .* at most 86400 \(a day\)",
        ),
        (lambda: LoaderConfig(image_size=16_385), "image_size must be at most 16384, got 16385"),
        (lambda: TrainingConfig(replicas=65), r"replicas must be at most global_batch_size \(64\), got 65"),
        (lambda: LaunchConfig(host="0.0.0.0"), r"--host 0\.0\.0\.0 is every address .*; give the one address"),
        (lambda: LaunchConfig(host="0"), "--host 0 is every address"),
        (lambda: DoctorConfig(host="::"), "--host :: is every address"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_more_workers_than_samples_in_a_step_leave_some_without_replicas(law_dataset: str) -> None:
    training = TrainingConfig(global_batch_size=2)
    config = TrainConfig(training=training, launch=LaunchConfig(launcher="local", workers=3))
    assert _resolve(config, Dataset.open(law_dataset)).training.replicas == 2


def test_who_forgets_the_section_hears_its_name() -> None:
    with pytest.raises(ConfigError, match=r"TrainConfig has no field 'epochs'; the nearest is training\.epochs"):
        TrainConfig(epochs=3)  # type: ignore[call-arg]
    assert copy.deepcopy(replace(TrainConfig(), launch=LaunchConfig(workers=3))).launch.workers == 3
