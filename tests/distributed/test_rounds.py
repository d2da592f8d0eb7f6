"""The kill law for strategies with rounds, in real processes: whoever dies, and when, the weights are those of one.

Interleavings are played in `tests/training/test_strategies.py`; here processes are killed, and groups break.
"""

import random
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from sunspark.launch.config import TrainConfig
from sunspark.launch.train import train
from sunspark.parallel.faults import Fault, Phase
from sunspark.training.strategies.config import StrategyConfig
from tests.distributed.harness import joined, train_and_watch
from tests.distributed.laws import CHECKPOINT_EVERY, PATHS, GradientPath, assert_nothing_was_lost
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


# --- results that are stored ------------------------------------------------------------------------------------------

LONG = {"epochs": 3, "replicas": 6, "checkpoint_every": STEPS_PER_EPOCH}
DEATH = (STEPS_PER_EPOCH + 3, 5)
"""Step and replica: the last one of the second of two workers, in the second epoch."""

_EVERY_ROUND_IS_LONG = """
import os
import signal
from pathlib import Path
from sunspark.training.strategies import local_sgd

local_sgd.LONG_ROUND_SECONDS = 0.0
honest, passes, killed = local_sgd.LocalSteps.take, Path({passes!r}), Path({killed!r})

def take(self, step, replica, *others):
    with passes.open("a") as log:
        log.write(f"{{os.getpid()}} {{step}} {{replica}}\\n")
    if (step, replica) == {death} and not killed.exists():
        killed.write_text("\\n".join(path.name for path in Path({run!r}, "rounds").glob("*.safetensors")))
        pids = {{int(line.split()[0]) for line in passes.read_text().splitlines()}} - {{os.getpid()}}
        for pid in [*(pids if {all_die} else ()), os.getpid()]:
            os.kill(pid, signal.SIGKILL)
    honest(self, step, replica, *others)

local_sgd.LocalSteps.take = take
"""


def long_config(workers: int, gradient_path: GradientPath = "auto") -> TrainConfig:
    config = config_of("diloco", workers, gradient_path)
    strategy = StrategyConfig(strategy="diloco", sync_every="epoch")
    return replace(config, training=replace(config.training, **LONG), strategy=strategy)


@pytest.mark.laws
@pytest.mark.parametrize("all_die", [False, True], ids=["one", "all"])
def test_a_death_in_a_long_round_costs_only_the_replicas_that_were_not_finished(
    law_dataset: str, tmp_path: Path, all_die: bool, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: every step of every replica that is computed, by whichever process."""
    reference, run, passes, killed = (tmp_path / name for name in ("alone", "run", "passes", "killed"))
    train(law_dataset, str(reference), long_config(workers=1))
    patch = {"passes": str(passes), "killed": str(killed), "run": str(run), "death": DEATH, "all_die": all_die}
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(_EVERY_ROUND_IS_LONG.format(**patch))
    monkeypatch.syspath_prepend(tmp_path / "patch")
    train(law_dataset, str(run), long_config(workers=2, gradient_path=dice.choice(PATHS)))
    stored = {int(name[-16:-12]) for name in killed.read_text().splitlines()}
    computed = Counter(tuple(map(int, line.split()[1:])) for line in passes.read_text().splitlines())
    again = {one for one, times in computed.items() if times > 1}
    assert {1, 3} <= stored
    assert set(computed) == set(product(range(LONG["epochs"] * STEPS_PER_EPOCH), range(LONG["replicas"])))
    assert {step // STEPS_PER_EPOCH for step, _ in again} == {1}
    if all_die:
        assert not {replica for _, replica in again} & stored
    else:
        assert again == {(step, DEATH[1]) for step in range(STEPS_PER_EPOCH, DEATH[0] + 1)}
    assert max(computed.values()) == 2
    assert_nothing_was_lost(str(run), str(reference))
    assert not (run / "rounds").exists()
