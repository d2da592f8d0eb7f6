"""Compressed exchanges in real processes: fewer bytes, the same bits on every worker, exactly once whoever dies."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from sunspark.launch.train import TrainResult
from sunspark.parallel.faults import Fault
from sunspark.records import StepRecord, read_records
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.verify import verify
from tests.distributed.harness import joined, train_and_watch
from tests.distributed.laws import law_config, losses, step_between_checkpoints

pytestmark = pytest.mark.timeout(300)

Compression = Literal["none", "bf16", "int8"]


def bytes_of_a_step(run: str) -> float:
    """Sent by one of two workers in a step, in the mean."""
    records = [record for record in read_records(run) if isinstance(record, StepRecord) and record.world_size == 2]
    return sum(record.bytes_sent for record in records) / len(records)


def trained(dataset: str, run: Path, compression: Compression, faults: list[Fault], victim: int = -1) -> TrainResult:
    config = law_config("adam", workers=2, dtype="float32", gradient_path="network")
    training = replace(config.training, epochs=8)
    config = replace(config, training=training, strategy=StrategyConfig(compression=compression))
    return train_and_watch(
        dataset, run, config, faults, until=lambda: victim < 0 or joined(run, victim), hold_at_step=112
    )


@pytest.mark.laws
@pytest.mark.parametrize("compression", ["bf16", "int8"])
def test_a_worker_that_dies_loses_no_sample_and_the_others_learn_on(
    law_dataset: str, run_folder: Path, compression: Compression, dice: random.Random
) -> None:
    victim, step = dice.randrange(2), step_between_checkpoints(dice, range(20, 90))
    print(f"{compression}: worker {victim} is killed at step {step}")
    result = trained(law_dataset, run_folder, compression, [Fault(worker=victim, phase="reduce", step=step)], victim)
    assert result.recoveries >= 1
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems
    history = losses(str(run_folder))
    assert sum(history[-20:]) / 20 < 0.8 * history[0]


@pytest.mark.laws
def test_bytes_of_a_training(law_dataset: str, run_folder: Path) -> None:
    sent: dict[str, float] = {}
    for compression in ("none", "bf16", "int8"):
        run = run_folder.with_name(compression)
        trained(law_dataset, run, compression, [])  # type: ignore[arg-type]
        sent[compression] = bytes_of_a_step(str(run))
    assert sent["bf16"] <= 0.51 * sent["none"]
    assert sent["int8"] <= 0.27 * sent["none"]
