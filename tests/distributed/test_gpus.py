"""Training on GPUs: the weights are those of the processor, and a killed worker changes nothing."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.evaluate import evaluate
from sunspark.launch.train import train
from sunspark.parallel.faults import Fault
from tests.distributed.harness import HOLD_AT_STEP, joined, train_and_watch
from tests.distributed.laws import (
    NUM_IMAGES,
    Optimizer,
    assert_nothing_was_lost,
    distance,
    law_config,
    step_between_checkpoints,
)
from tests.gpus import needs_gpus

OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adam")
pytestmark = [pytest.mark.timeout(600), pytest.mark.parametrize("optimizer", OPTIMIZERS)]


def law_config_on(device: str, optimizer: Optimizer, workers: int, **model_args: float) -> TrainConfig:
    """That of the laws; with other arguments of the network, if there are any."""
    config = law_config(optimizer, workers=workers)
    model = replace(config.model, model_args=config.model.model_args | model_args)
    launch = LaunchConfig(launcher="local", workers=workers, device=device)  # type: ignore[arg-type]
    return replace(config, model=model, launch=launch)


@needs_gpus(1)
def test_a_gpu_reaches_the_weights_of_the_processor(law_dataset: str, tmp_path: Path, optimizer: Optimizer) -> None:
    """Without dropout, whose masks are other ones there; in float64, so that rounding stays small."""
    no_dropout = {"conv_dropout": 0.0, "wide_dropout": 0.0}
    for device in ("cpu", "cuda"):
        train(law_dataset, str(tmp_path / device), law_config_on(device, optimizer, 1, **no_dropout))
    assert distance(str(tmp_path / "cuda"), str(tmp_path / "cpu")) <= 1e-7
    here, there = (
        evaluate(str(tmp_path / "cuda"), split="train", config=law_config_on(device, optimizer, 1).launch)
        for device in ("cpu", "cuda")
    )
    assert here.samples == there.samples == NUM_IMAGES
    assert here.loss == pytest.approx(there.loss, rel=1e-7)


@needs_gpus(1)
def test_a_run_stopped_on_a_gpu_goes_on_there(law_dataset: str, tmp_path: Path, optimizer: Optimizer) -> None:
    """Killed and alone: it starts again from its last checkpoint, with what its optimizer had remembered."""
    config = law_config_on("cuda", optimizer, 1)
    train(law_dataset, str(tmp_path / "reference"), config)
    killed = [Fault(worker=0, phase="backward", step=130)]
    train_and_watch(law_dataset, tmp_path / "run", config, killed)
    assert_nothing_was_lost(str(tmp_path / "run"), str(tmp_path / "reference"))


@needs_gpus(2)
def test_a_worker_killed_on_a_gpu_changes_nothing(
    law_dataset: str, tmp_path: Path, optimizer: Optimizer, dice: random.Random
) -> None:
    reference, run = tmp_path / "reference", tmp_path / "run"
    train(law_dataset, str(reference), law_config_on("cuda", optimizer, 1))
    victim, phase = dice.randrange(2), dice.choice(("quorum", "backward", "reduce", "reduced", "applied"))
    step = step_between_checkpoints(dice, range(20, HOLD_AT_STEP - 20))
    print(f"worker {victim} of 2 is killed at step {step}, phase {phase}, {optimizer}")
    comes_back: Callable[[], bool] = lambda: joined(run, victim)  # noqa: E731
    result = train_and_watch(
        law_dataset,
        run,
        law_config_on("cuda", optimizer, 2),
        [Fault(worker=victim, phase=phase, step=step)],  # type: ignore[arg-type]
        until=comes_back,
    )
    assert result.recoveries >= 1, "the kill was not felt"
    assert_nothing_was_lost(str(run), str(reference))
