"""The kill law on Spark: executors and workers die, and the final weights are those of one undisturbed local worker."""

import functools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark import SparkContext

from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.parallel.faults import Fault
from tests.distributed.harness import events, joined, name_of, step_reached, train_and_watch
from tests.distributed.laws import (
    CHECKPOINT_EVERY,
    PATHS,
    GradientPath,
    Optimizer,
    assert_nothing_was_lost,
    law_config,
    step_between_checkpoints,
)
from tests.distributed.strategies import STEPS_PER_EPOCH, config_of

OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adam")
CASES = ("one executor", "both executors", "six times", "worker process", "checkpoint writer")
ALL = [(case, optimizer) for case in CASES for optimizer in OPTIMIZERS]
Undisturbed = Callable[[Optimizer], str]

pytestmark = [pytest.mark.spark, pytest.mark.timeout(400)]


def on_spark(config: TrainConfig, path: GradientPath) -> TrainConfig:
    launch = LaunchConfig(launcher="spark", master="local-cluster[2,1,2048]", workers=2, gradient_path=path)
    return replace(config, launch=launch)


def executors() -> list[int]:
    """The executor JVMs of this process's Spark application."""
    context = SparkContext._active_spark_context
    if context is None:
        return []
    pattern = f"CoarseGrainedExecutorBackend.*--app-id {context.applicationId} "
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, timeout=10, check=False).stdout
    return sorted(int(pid) for pid in found.split() if name_of(int(pid)) == "java")


def kill_executors(run: Path, step: int, count: int, killed: list[int]) -> None:
    """When the run has passed `step`, SIGKILL that many executors within 100 ms."""
    deadline = time.monotonic() + 200
    while step_reached(run) < step and time.monotonic() < deadline:
        time.sleep(0.05)
    victims = executors()[-count:]
    started = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)
    assert time.monotonic() - started < 0.1


def check(dataset: str, run: Path, case: str, config: TrainConfig, reference: str, dice: random.Random) -> None:
    hold = (config.training.epochs - 1) * STEPS_PER_EPOCH
    step = dice.choice(range(CHECKPOINT_EVERY, hold - CHECKPOINT_EVERY + 1, CHECKPOINT_EVERY))
    victim, path = dice.randrange(2), dice.choice(PATHS)
    print(f"{case}: after step {step}, worker {victim}, {config.optim.optimizer}, gradient path {path}")
    faults: Sequence[Fault] = ()
    killed: list[int] = []
    on_start = None
    comes_back: Callable[[], bool] = lambda: joined(run, victim)  # noqa: E731
    if case == "one executor":
        on_start = functools.partial(kill_executors, run, step, 1, killed)
        comes_back = lambda: joined(run, 0) or joined(run, 1)  # noqa: E731
    elif case == "both executors":
        on_start = functools.partial(kill_executors, run, step, 2, killed)
        comes_back = lambda: joined(run, 0) and joined(run, 1)  # noqa: E731
    elif case == "six times":
        first = Fault(
            worker=victim, phase="backward", step=step_between_checkpoints(dice, range(step, step + CHECKPOINT_EVERY))
        )
        again = [Fault(worker=victim, phase="quorum", incarnation=k, delay_seconds=dice.random()) for k in range(2, 7)]
        faults = [first, *again]
        comes_back = lambda: joined(run, victim, 7)  # noqa: E731
    elif case == "worker process":
        moment = step_between_checkpoints(dice, range(step, step + CHECKPOINT_EVERY))
        faults = [Fault(worker=victim, phase="data", step=moment, delay_seconds=dice.random() / 20)]
    else:  # the worker that writes the checkpoint: the leader, worker 0
        faults = [Fault(worker=0, phase="checkpoint", step=step, delay_seconds=dice.random() / 100)]
        comes_back = lambda: joined(run, 0)  # noqa: E731
    result = train_and_watch(
        dataset, run, on_spark(config, path), faults, until=comes_back, on_start=on_start, hold_at_step=hold
    )
    assert len(killed) == {"one executor": 1, "both executors": 2}.get(case, 0)
    fell_back = any(event["event"] == "resumed" for event in events(run))
    # A writer that dies with its checkpoint written comes back to it, and so to where the other one waits.
    was_felt = result.recoveries >= 1 or fell_back or (case == "checkpoint writer" and result.steps_redone >= 1)
    if case == "both executors":
        was_felt |= {event["worker"] for event in events(run) if event["event"] == "lost"} >= {0, 1}
    assert was_felt, "the kill was not felt"
    assert_nothing_was_lost(str(run), reference)


@pytest.mark.laws
@pytest.mark.parametrize(("case", "optimizer"), ALL)
def test_a_kill_on_spark_changes_nothing(
    law_dataset: str, undisturbed: Undisturbed, run_folder: Path, case: str, optimizer: Optimizer, dice: random.Random
) -> None:
    check(law_dataset, run_folder, case, law_config(optimizer, workers=2), undisturbed(optimizer), dice)


def test_one_drawn_kill_on_spark(
    law_dataset: str, alone: Callable[[str], str], run_folder: Path, dice: random.Random
) -> None:
    config = config_of("all_reduce", workers=2)
    check(law_dataset, run_folder, dice.choice(CASES), config, alone("all_reduce"), dice)
