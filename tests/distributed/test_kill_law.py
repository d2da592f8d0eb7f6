"""The kill law on local workers: whoever dies, and when, the final weights are those of one undisturbed worker."""

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from sunspark.parallel.faults import Fault, Phase
from sunspark.training.verify import verify
from tests.distributed.harness import HOLD_AT_STEP, joined, train_and_watch
from tests.distributed.laws import Optimizer, distance, law_config

OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adam")
PHASES: tuple[Phase, ...] = ("quorum", "backward", "reduced", "applied", "recovery")
UNDISTURBED = list(product((2, 3, 4), OPTIMIZERS))
KILLS = list(product(PHASES, (2, 3, 4), OPTIMIZERS))
Undisturbed = Callable[[Optimizer], str]

pytestmark = pytest.mark.timeout(300)


def check_undisturbed(dataset: str, run: Path, workers: int, optimizer: Optimizer, reference: str) -> None:
    result = train_and_watch(dataset, run, law_config(optimizer, workers=workers))
    assert result.workers == workers
    assert distance(str(run), reference) <= 1e-9
    assert verify(str(run)).exactly_once


def check_kill(
    dataset: str, run: Path, case: tuple[Phase, int, Optimizer], reference: str, dice: random.Random
) -> None:
    phase, workers, optimizer = case
    victim = dice.randrange(workers)
    step = dice.randrange(20, HOLD_AT_STEP - 20)
    print(f"worker {victim} of {workers} is killed at step {step}, phase {phase}, {optimizer}")
    if phase == "recovery":
        faults = [
            Fault(worker=victim, phase="backward", step=step),
            Fault(worker=victim, phase="recovery", incarnation=2),
        ]
        back = 3
    else:
        faults, back = [Fault(worker=victim, phase=phase, step=step)], 2
    result = train_and_watch(
        dataset, run, law_config(optimizer, workers=workers), faults, until=lambda: joined(run, victim, back)
    )
    assert result.recoveries >= 1, "the kill was not felt"
    assert distance(str(run), reference) <= 1e-9
    verdict = verify(str(run))
    assert verdict.exactly_once, verdict.problems


@pytest.mark.laws
@pytest.mark.parametrize(("workers", "optimizer"), UNDISTURBED)
def test_undisturbed_workers_reach_the_weights_of_one(
    law_dataset: str, undisturbed: Undisturbed, run_folder: Path, workers: int, optimizer: Optimizer
) -> None:
    check_undisturbed(law_dataset, run_folder, workers, optimizer, undisturbed(optimizer))


@pytest.mark.laws
@pytest.mark.parametrize("case", KILLS, ids=lambda case: "-".join(map(str, case)))
def test_a_killed_worker_changes_nothing(
    law_dataset: str,
    undisturbed: Undisturbed,
    run_folder: Path,
    case: tuple[Phase, int, Optimizer],
    dice: random.Random,
) -> None:
    check_kill(law_dataset, run_folder, case, undisturbed(case[2]), dice)


def test_one_drawn_case_of_undisturbed_workers(
    law_dataset: str, undisturbed: Undisturbed, run_folder: Path, dice: random.Random
) -> None:
    workers, optimizer = dice.choice(UNDISTURBED)
    check_undisturbed(law_dataset, run_folder, workers, optimizer, undisturbed(optimizer))


def test_one_drawn_case_of_a_killed_worker(
    law_dataset: str, undisturbed: Undisturbed, run_folder: Path, dice: random.Random
) -> None:
    case = dice.choice(KILLS)
    check_kill(law_dataset, run_folder, case, undisturbed(case[2]), dice)
