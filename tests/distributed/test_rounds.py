"""The kill law for strategies with rounds, in real processes: whoever dies, and when, the weights are those of one.

Interleavings are played in `tests/training/test_strategies.py`; here processes are killed, and groups break.
"""

import random
from itertools import product
from pathlib import Path

import pytest

from sunspark.launch.train import train
from sunspark.parallel.faults import Fault, Phase
from tests.distributed.harness import joined, train_and_watch
from tests.distributed.laws import CHECKPOINT_EVERY, PATHS, assert_nothing_was_lost
from tests.distributed.strategies import NUM_STEPS, SETTINGS, STEPS_PER_EPOCH, Undisturbed, config_of

pytestmark = pytest.mark.timeout(300)

HOLD_AT_STEP = NUM_STEPS - STEPS_PER_EPOCH
WITH_ROUNDS = [name for name, strategy in SETTINGS.items() if strategy.is_local]
PHASES: tuple[Phase, ...] = ("quorum", "data", "backward", "reduce", "reduced", "applied")
KILLS = list(product(WITH_ROUNDS, PHASES))


def step_to_die_at(dice: random.Random, setting: str, phase: Phase) -> int:
    """Such that whoever comes back must recover: no checkpoint is of the step with which the round began."""
    every = SETTINGS[setting].steps_between_exchanges
    length = STEPS_PER_EPOCH if every == "epoch" else every
    between_checkpoints = -(-CHECKPOINT_EVERY // length) * length
    starts = [step for step in range(32, HOLD_AT_STEP - STEPS_PER_EPOCH, length) if step % between_checkpoints]
    start = dice.choice(starts)
    return start + {"quorum": 0, "reduced": 0, "applied": 0, "reduce": length - 1}.get(phase, dice.randrange(length))


def check_kill(dataset: str, run: Path, case: tuple[str, Phase], reference: str, dice: random.Random) -> None:
    (setting, phase), workers = case, dice.choice((2, 3, 4))
    victim, path = dice.randrange(workers), dice.choice(PATHS)
    step = step_to_die_at(dice, setting, phase)
    print(f"{setting}: worker {victim} of {workers} is killed at step {step}, phase {phase}, gradient path {path}")
    result = train_and_watch(
        dataset,
        run,
        config_of(setting, workers, path),
        [Fault(worker=victim, phase=phase, step=step)],
        until=lambda: joined(run, victim),
        hold_at_step=HOLD_AT_STEP,
    )
    assert result.recoveries >= 1, "the kill was not felt"
    assert_nothing_was_lost(str(run), reference)


@pytest.mark.laws
@pytest.mark.parametrize("case", KILLS, ids=lambda case: "-".join(map(str, case)))
def test_a_killed_worker_changes_nothing(
    law_dataset: str, alone: Undisturbed, run_folder: Path, case: tuple[str, Phase], dice: random.Random
) -> None:
    check_kill(law_dataset, run_folder, case, alone(case[0]), dice)


def test_one_drawn_case_of_a_killed_worker(
    law_dataset: str, alone: Undisturbed, run_folder: Path, dice: random.Random
) -> None:
    case = dice.choice(KILLS)
    check_kill(law_dataset, run_folder, case, alone(case[0]), dice)


@pytest.mark.laws
@pytest.mark.parametrize("setting", WITH_ROUNDS)
def test_everything_killed_between_checkpoints_goes_on_from_the_last(
    law_dataset: str, alone: Undisturbed, run_folder: Path, setting: str, dice: random.Random
) -> None:
    """All workers at one moment; those that come back go on from what storage holds."""
    step = step_to_die_at(dice, setting, "backward")
    faults = [Fault(worker=worker, phase="backward", step=step) for worker in range(2)]
    train(law_dataset, str(run_folder), config_of(setting, workers=2), faults)
    assert_nothing_was_lost(str(run_folder), alone(setting))
