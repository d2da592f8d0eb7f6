"""Resume: everything is killed, or the driver alone, and a second start goes on as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sunspark.config import to_dict
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.train import train
from sunspark.records import StepRecord, read_records
from sunspark.training.verify import verify
from tests.distributed.harness import descendants, is_running, step_reached, wait_until
from tests.distributed.laws import CHECKPOINT_EVERY, Optimizer, assert_nothing_was_lost, law_config
from tests.distributed.strategies import STEPS_PER_EPOCH, STRATEGIES, config_of

pytestmark = pytest.mark.timeout(300)

_DRIVER = """
import json, sys
from sunspark.config import from_dict
from sunspark.launch.config import TrainConfig
from sunspark.launch.train import train
train(sys.argv[1], sys.argv[2], from_dict(TrainConfig, json.loads(sys.argv[3])))
"""


def start_driver(dataset: str, run: Path, config: TrainConfig, stderr: int | None = None) -> "subprocess.Popen[bytes]":
    """A training in a process of its own, which can be killed."""
    command = [sys.executable, "-c", _DRIVER, dataset, str(run), json.dumps(to_dict(config))]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)


def kill_at_random_step(dataset: str, run: Path, config: TrainConfig, dice: random.Random) -> None:
    """Train, and kill driver and workers together somewhere between two checkpoints."""
    driver = start_driver(dataset, run, config)
    step = dice.choice(range(CHECKPOINT_EVERY, config.training.epochs * STEPS_PER_EPOCH // 2, CHECKPOINT_EVERY))
    wait_until(lambda: step_reached(run) >= step, 150, f"step {step}")
    time.sleep(dice.random())
    os.kill(driver.pid, signal.SIGSTOP)
    for pid in descendants(driver.pid):
        os.kill(pid, signal.SIGKILL)
    driver.kill()
    driver.wait(10)
    assert not list((run / "candidates").glob("*")), "somebody had the time to save a candidate"


def same_bits(run: Path, other: str) -> bool:
    one, two = (safetensors.torch.load_file(Path(r) / "model" / "model.safetensors") for r in (run, Path(other)))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def assert_records_are_of_two_starts(run: Path, resumed_from_step: int) -> None:
    """The processes of the second start have numbers of their own, and their records are those that count."""
    steps = [record for record in read_records(str(run)) if isinstance(record, StepRecord)]
    assert {record.incarnation for record in steps if record.step >= resumed_from_step} == {2}
    assert {record.incarnation for record in steps if record.step < resumed_from_step} == {1}


@pytest.fixture(scope="session")
def undisturbed_float32(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    runs: dict[int, str] = {}

    def run_of(workers: int) -> str:
        if workers not in runs:
            run = str(tmp_path_factory.mktemp("float32") / str(workers))
            train(law_dataset, run, law_config("adam", workers=workers, dtype="float32"))
            runs[workers] = run
        return runs[workers]

    return run_of


def check_same_workers(
    dataset: str, run: Path, workers: int, undisturbed: Callable[[int], str], dice: random.Random
) -> None:
    config = law_config("adam", workers=workers, dtype="float32")
    kill_at_random_step(dataset, run, config, dice)
    result = train(dataset, str(run), config)
    assert 40 <= result.resumed_from_step < 304
    assert same_bits(run, undisturbed(workers))
    assert verify(str(run)).exactly_once


def check_other_workers(
    dataset: str, run: Path, config: TrainConfig, workers: int, reference: str, dice: random.Random
) -> None:
    kill_at_random_step(dataset, run, config, dice)
    result = train(dataset, str(run), replace(config, launch=LaunchConfig(launcher="local", workers=workers)))
    assert result.resumed_from_step >= 40
    assert_nothing_was_lost(str(run), reference)


@pytest.mark.laws
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_resume_with_the_same_workers_is_bit_for_bit(
    law_dataset: str, run_folder: Path, workers: int, undisturbed_float32: Callable[[int], str], dice: random.Random
) -> None:
    check_same_workers(law_dataset, run_folder, workers, undisturbed_float32, dice)


@pytest.mark.laws
@pytest.mark.parametrize("numbers", [(1, 3), (2, 1), (3, 2)])
def test_resume_with_other_workers_reaches_the_same_weights(
    law_dataset: str,
    run_folder: Path,
    numbers: tuple[int, int],
    undisturbed: Callable[[Optimizer], str],
    dice: random.Random,
) -> None:
    config = law_config("adam", workers=numbers[0])
    check_other_workers(law_dataset, run_folder, config, numbers[1], undisturbed("adam"), dice)


def test_one_drawn_resume(law_dataset: str, run_folder: Path, alone: Callable[[str], str], dice: random.Random) -> None:
    config = config_of("all_reduce", workers=dice.randrange(1, 4))
    check_other_workers(law_dataset, run_folder, config, dice.randrange(1, 4), alone("all_reduce"), dice)


def test_a_driver_that_dies_leaves_a_candidate_that_resume_takes_up(
    law_dataset: str, run_folder: Path, alone: Callable[[str], str], dice: random.Random
) -> None:
    config = config_of("all_reduce", workers=2)
    driver = start_driver(law_dataset, run_folder, config)
    wait_until(lambda: step_reached(run_folder) >= 40, 150, "step 40")
    time.sleep(0.2 + dice.random() / 2)
    workers = descendants(driver.pid)
    driver.kill()
    died = time.monotonic()
    driver.wait(10)
    wait_until(lambda: bool(list((run_folder / "candidates").glob("*.safetensors"))), 20, "a candidate")
    wait_until(lambda: not any(map(is_running, workers)), 30 - (time.monotonic() - died), "the end of all workers")
    furthest = max(int(path.name[5:14]) for path in (run_folder / "candidates").glob("*.safetensors"))
    published = max(int(path.name[5:14]) for path in (run_folder / "checkpoints").glob("*.safetensors"))
    result = train(law_dataset, str(run_folder), config)
    assert result.resumed_from_step == max(furthest, published)
    assert_records_are_of_two_starts(run_folder, result.resumed_from_step)
    assert not list((run_folder / "candidates").glob("*"))
    assert_nothing_was_lost(str(run_folder), alone("all_reduce"))


@pytest.mark.laws
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "all_reduce"])
def test_a_driver_that_dies_takes_its_workers_with_it_whatever_the_strategy(
    law_dataset: str, run_folder: Path, strategy: str
) -> None:
    config = config_of(strategy, workers=2, num_epochs=19)
    driver = start_driver(law_dataset, run_folder, config)
    wait_until(lambda: step_reached(run_folder) >= 40, 150, "step 40")
    workers = descendants(driver.pid)
    driver.kill()
    driver.wait(10)
    wait_until(lambda: not any(map(is_running, workers)), 30, "the end of all workers")
    result = train(law_dataset, str(run_folder), config)
    assert 40 <= result.resumed_from_step < 304
    assert_records_are_of_two_starts(run_folder, result.resumed_from_step)
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems
