"""What the laws of strategies share: the settings of each, and a training of six epochs.

A law that holds for every strategy takes its names from `STRATEGIES`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from sunspark.launch.config import TrainConfig
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.verify import verify
from tests.distributed.laws import GradientPath, distance, law_config

STEPS_PER_EPOCH: Final = 16
NUM_EPOCHS: Final = 6
NUM_STEPS: Final = NUM_EPOCHS * STEPS_PER_EPOCH
STRATEGIES: Final = {
    "all_reduce": StrategyConfig(),
    "local_sgd": StrategyConfig(strategy="local_sgd", sync_every=4),
    "diloco": StrategyConfig(strategy="diloco", sync_every=8, inner_state="keep"),
}
"""By name; rounds end at every eighth step."""
SETTINGS: Final = STRATEGIES | {
    "local_sgd-epoch": StrategyConfig(strategy="local_sgd", sync_every="epoch", inner_state="reset")
}
Undisturbed = Callable[[str], str]


def config_of(
    setting: str, workers: int, gradient_path: GradientPath = "auto", num_epochs: int = NUM_EPOCHS
) -> TrainConfig:
    """A training of 96 steps with that setting, on local workers."""
    config = law_config("adam", workers=workers, gradient_path=gradient_path)
    training = replace(config.training, epochs=num_epochs)
    return replace(config, training=training, strategy=SETTINGS[setting])


def assert_exactly_once(run: Path, setting: str, alone: Undisturbed) -> None:
    """Every sample once by the ledger's sums; where updates have an order, the weights of one worker alone, too."""
    verdict = verify(str(run))
    assert verdict.exactly_once, verdict.problems
    if SETTINGS[setting].strategy not in ("async", "hogwild"):
        assert distance(str(run), alone(setting)) <= 1e-9
