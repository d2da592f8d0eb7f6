"""What a run says of its start: enough to do it again."""

from pathlib import Path

import pytest

import sunspark
from sunspark.commands.train import run as run_train
from sunspark.config import from_dict
from sunspark.data.augment import AugmentConfig
from sunspark.data.loader import LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.start import write_start
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.run_directory import read_config, read_object, start_file
from sunspark.training.config import TrainingConfig, WorkConfig

PLAN = StepPlan(
    dataset_id="d", split="train", seed=0, num_samples=10, global_batch_size=4, num_epochs=3, num_replicas=1
)
UNUSUAL = TrainConfig(
    model=ModelConfig(model_args={"n_filters": 4, "conv_dropout": 0.25}),
    optim=OptimConfig(optimizer="sgd", learning_rate=3e-5, schedule="constant", warmup_fraction=0.0),
    data=LoaderConfig(image_size=32, augment=AugmentConfig(crop_scale=(0.5, 0.9), flip_probability=0.0)),
    training=TrainingConfig(split="Training_01", epochs=3, seed=7, dtype="bf16", replicas=4),
    launch=LaunchConfig(launcher="local", workers=4, host="10.0.0.1", port=29500, tracker="tensorboard"),
)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """What `sunspark train` was asked for; nothing is trained."""
    asked: list[TrainConfig] = []

    def take(_dataset: str, run: str, config: TrainConfig) -> LaunchConfig:
        asked.append(config)
        return LaunchConfig(host=run)

    monkeypatch.setattr(sunspark, "train", take)
    return asked


@pytest.mark.parametrize("config", [TrainConfig(), UNUSUAL], ids=["defaults", "unusual"])
def test_the_command_asks_for_the_same_training(
    tmp_path: Path, asked_for: list[TrainConfig], config: TrainConfig
) -> None:
    write_start("/data/my set", str(tmp_path), config, PLAN, 4)
    program, command, dataset, run, *words = read_object(start_file(str(tmp_path)))["command"]
    assert (program, command, dataset, run) == ("sunspark", "train", "/data/my set", str(tmp_path))
    run_train([dataset, run, *words])
    assert asked_for == [config]


def test_a_run_says_how_it_was_started_with_nothing_left_to_guess(finished: str, asked_for: list[TrainConfig]) -> None:
    start = read_object(start_file(finished))
    run_train(start["command"][2:])
    assert asked_for[0].work == from_dict(WorkConfig, read_config(finished)["work"])
    assert asked_for[0].training.dtype != "auto"
    assert start["steps"] == start["epochs"] * start["steps_per_epoch"] > 0
    assert start["workers"] == 1
    assert {"python", "sunspark", "torch", "torchft"} <= set(start["versions"])
    assert start["machine"]["cores"] >= 1
    assert start["machine"]["memory_bytes"] > 2**28
