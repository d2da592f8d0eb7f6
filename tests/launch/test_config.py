"""Which ways to launch contradict which work."""

from dataclasses import replace

import pytest

from sunspark.config import to_dict
from sunspark.errors import ConfigError
from sunspark.training.config import TrainingConfig
from tests.distributed.laws import law_config

pytestmark = pytest.mark.timeout(180)


def test_serial_is_for_one_worker() -> None:
    with pytest.raises(ConfigError, match="one worker, got 2"):
        replace(law_config("sgd", workers=2), training=TrainingConfig(strategy="serial"))


def test_the_work_of_a_training_is_all_of_it_but_the_launch() -> None:
    config = law_config("sgd", workers=2)
    assert to_dict(config) == to_dict(config.work) | {"launch": to_dict(config.launch)}
