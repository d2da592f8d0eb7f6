"""The kill law where everything that could depend on who computes is on: batch norm, masks, mixing, averages.

resnet18 with stochastic depth, mixup and CutMix, clipping, an average of the weights, slices in parts, evaluations
while training and the best state kept: whoever dies, the final model is that of one undisturbed worker.
"""

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from sunspark.data.augment import AugmentConfig
from sunspark.data.loader import LoaderConfig
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.parallel.faults import Fault, Phase
from sunspark.records import EvaluationRecord, read_records
from sunspark.training.config import TrainingConfig
from sunspark.training.loss import LossConfig
from sunspark.training.validation import ValidationConfig
from tests.distributed.harness import events
from tests.distributed.laws import PATHS, GradientPath, assert_nothing_was_lost, make_dataset

NUM_IMAGES = 100
STEPS_PER_EPOCH = 4
PHASES: tuple[Phase, ...] = ("evaluate", "backward", "reduced")
KILLS = list(product(PHASES, (2, 3)))
Reference = Callable[[], str]

pytestmark = pytest.mark.timeout(300)


def config(workers: int, gradient_path: GradientPath = "auto") -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(model="resnet18", model_args={"channels": [16, 32, 64, 128], "drop_path_rate": 0.1}),
        optim=OptimConfig(
            optimizer="nesterov", learning_rate=0.01, weight_decay=1e-4, ema_decay=0.8, clip_norm=1.0
        ),
        data=LoaderConfig(
            image_size=32, augment=AugmentConfig(trivial_augment=True, erasing_probability=0.25)
        ),
        training=TrainingConfig(
            epochs=2, global_batch_size=25, replicas=4, dtype="float64", checkpoint_every=100, micro_batch_size=4
        ),
        loss=LossConfig(label_smoothing=0.1, class_weights="balanced", mixup=0.2, cutmix=1.0),
        validation=ValidationConfig(eval_every=1, eval_split="train", keep="best"),
        launch=LaunchConfig(launcher="local", workers=workers, gradient_path=gradient_path),
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("everything_dataset"), NUM_IMAGES)


@pytest.fixture(scope="module")
def reference(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    runs: list[str] = []

    def run() -> str:
        if not runs:
            runs.append(str(tmp_path_factory.mktemp("everything") / "run"))
            train(dataset, runs[0], config(1))
        return runs[0]

    return run


def check(dataset: str, run: Path, case: tuple[Phase, int], reference: str, dice: random.Random) -> None:
    phase, workers = case
    step = STEPS_PER_EPOCH if phase == "evaluate" else dice.randrange(2, 2 * STEPS_PER_EPOCH - 1)
    victim, path = dice.randrange(workers), dice.choice(PATHS)
    print(f"worker {victim} of {workers} is killed at step {step}, phase {phase}, gradient path {path}")
    train(dataset, str(run), config(workers, path), [Fault(worker=victim, phase=phase, step=step)])
    lost = [event["worker"] for event in events(run) if event["event"] == "lost"]
    assert lost == [victim], "the kill was not felt"
    assert_nothing_was_lost(str(run), reference)
    assert evaluations(str(run)) == pytest.approx(evaluations(reference))


def evaluations(run: str) -> list[float]:
    """Top-1 and loss of every evaluation."""
    records = [record for record in read_records(run) if isinstance(record, EvaluationRecord)]
    assert [record.step for record in records] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    return [number for record in records for number in (record.top1, record.loss)]


def test_one_drawn_case_with_everything_on(
    dataset: str, reference: Reference, run_folder: Path, dice: random.Random
) -> None:
    check(dataset, run_folder, dice.choice(KILLS), reference(), dice)


@pytest.mark.laws
@pytest.mark.parametrize("case", KILLS, ids=lambda case: "-".join(map(str, case)))
def test_a_killed_worker_changes_nothing_with_everything_on(
    dataset: str, reference: Reference, run_folder: Path, case: tuple[Phase, int], dice: random.Random
) -> None:
    check(dataset, run_folder, case, reference(), dice)
