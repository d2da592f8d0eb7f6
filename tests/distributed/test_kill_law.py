"""The kill law on local workers: whoever dies, and when, the final weights are those of one undisturbed worker."""

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from sunspark.parallel.faults import Fault, Phase
from sunspark.training.verify import verify
from tests.distributed.harness import HOLD_AT_STEP, joined, train_and_watch
from tests.distributed.laws import (
    PATHS,
    GradientPath,
    Optimizer,
    assert_nothing_was_lost,
    distance,
    law_config,
    step_between_checkpoints,
)

OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adam")
PHASES: tuple[Phase, ...] = ("quorum", "backward", "reduced", "applied", "recovery")
UNDISTURBED = list(product((2, 3, 4), PATHS, OPTIMIZERS))
DROP_AT_STEP = 100
KILLS = list(product(PHASES, (2, 3, 4), OPTIMIZERS))
Undisturbed = Callable[[Optimizer], str]

pytestmark = pytest.mark.timeout(300)


_FORGETFUL_LOADER = f"""
from dataclasses import replace
from sunspark.data.loader import Loader

honest = Loader.take

def take(self, step, replicas):
    first, *others = honest(self, step, replicas)
    if step == {DROP_AT_STEP}:
        first = replace(first, sample_ids=first.sample_ids[1:], labels=first.labels[1:], pixels=first.pixels[1:])
    return [first, *others]

Loader.take = take
"""


def check_undisturbed(dataset: str, run: Path, case: tuple[int, GradientPath, Optimizer], reference: str) -> None:
    workers, path, optimizer = case
    result = train_and_watch(dataset, run, law_config(optimizer, workers=workers, gradient_path=path))
    assert result.workers == workers
    assert_nothing_was_lost(str(run), reference)


def check_kill(
    dataset: str, run: Path, case: tuple[Phase, int, Optimizer], reference: str, dice: random.Random
) -> None:
    phase, workers, optimizer = case
    victim = dice.randrange(workers)
    step = step_between_checkpoints(dice, range(20, HOLD_AT_STEP - 20))
    path = dice.choice(PATHS)
    print(f"worker {victim} of {workers} is killed at step {step}, phase {phase}, {optimizer}, gradient path {path}")
    if phase == "recovery":
        faults = [
            Fault(worker=victim, phase="backward", step=step),
            Fault(worker=victim, phase="recovery", incarnation=2),
        ]
        back = 3
    else:
        faults, back = [Fault(worker=victim, phase=phase, step=step)], 2
    config = law_config(optimizer, workers=workers, gradient_path=path)
    result = train_and_watch(dataset, run, config, faults, until=lambda: joined(run, victim, back))
    assert result.recoveries >= 1, "the kill was not felt"
    assert_nothing_was_lost(str(run), reference)


@pytest.mark.laws
@pytest.mark.parametrize("case", UNDISTURBED, ids=lambda case: "-".join(map(str, case)))
def test_undisturbed_workers_reach_the_weights_of_one(
    law_dataset: str, undisturbed: Undisturbed, run_folder: Path, case: tuple[int, GradientPath, Optimizer]
) -> None:
    check_undisturbed(law_dataset, run_folder, case, undisturbed(case[2]))


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


def check_control(
    dataset: str, run: Path, optimizer: Optimizer, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measure of the law tells a run that lost next to nothing."""
    folder = run.with_suffix(".forgetful")
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_FORGETFUL_LOADER)  # every Python of the run imports it
    monkeypatch.syspath_prepend(folder)
    train_and_watch(dataset, run, law_config(optimizer, workers=1))
    assert distance(str(run), reference) > 1e-6
    verdict = verify(str(run))
    assert not verdict.exactly_once
    assert sum(account.missing for account in verdict.epochs) >= 1


@pytest.mark.laws
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_single_sample_dropped_once_is_seen_in_the_weights(
    law_dataset: str,
    undisturbed: Undisturbed,
    run_folder: Path,
    optimizer: Optimizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_control(law_dataset, run_folder, optimizer, undisturbed(optimizer), monkeypatch)
