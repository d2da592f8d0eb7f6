"""Laws of `async` and `hogwild` in real processes: whoever dies, and when, every sample is applied once.

Interleavings are played in `tests/training/test_parameter_server.py` and `tests/parallel/test_lease_desk.py`.
"""

import random
import signal
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from sunspark.launch import job as launch_job
from sunspark.launch.config import TrainConfig
from sunspark.launch.train import train
from sunspark.parallel.faults import Fault, Phase, stall_at
from sunspark.records import EvaluationRecord, StepRecord, read_records
from sunspark.training import checkpoint
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.validation import ValidationConfig
from sunspark.training.verify import verify
from tests.distributed.harness import descendants, events, is_running, step_reached, wait_until
from tests.distributed.laws import distance, law_config
from tests.distributed.supervisors import ProcessLauncher
from tests.distributed.test_elastic import set_supervisors
from tests.distributed.test_resume import start_driver

pytestmark = pytest.mark.timeout(300)

STEPS_PER_EPOCH = 16
SETTINGS = {
    "async-1": StrategyConfig(strategy="async", sync_every=1),
    "async-epoch": StrategyConfig(strategy="async", sync_every="epoch", compression="int8"),
    "async-bound": StrategyConfig(strategy="async", sync_every=4, staleness_bound=2),
    "hogwild": StrategyConfig(strategy="hogwild", sync_every=2),
}
PHASES: tuple[Phase, ...] = ("lease", "pull", "data", "backward", "push", "sent", "pushed", "evaluate")
KILLS = list(product(SETTINGS, PHASES))


def config_of(strategy: StrategyConfig, workers: int, epochs: int = 6, **training: int) -> TrainConfig:
    config = law_config("adam", workers=workers)
    return replace(
        config,
        training=replace(config.training, epochs=epochs, **training),
        validation=ValidationConfig(eval_every=2, eval_split="train", keep="best"),
        strategy=strategy,
    )


def assert_every_sample_was_applied_once(run: Path) -> None:
    verdict = verify(str(run))
    assert verdict.exactly_once, verdict.problems
    assert verdict.finished
    records = list(read_records(str(run)))
    parts = {(r.step, r.replica): r.samples for r in records if isinstance(r, StepRecord)}
    assert sum(parts.values()) <= sum(epoch.samples for epoch in verdict.epochs)  # who dies may not have written it
    assert [r.epoch for r in records if isinstance(r, EvaluationRecord)] == [2, 4, 6]


def check_kill(dataset: str, run: Path, case: tuple[str, Phase], dice: random.Random) -> None:
    (setting, phase), workers = case, dice.choice((2, 3, 4))
    victims = range(workers) if phase == "evaluate" else [dice.randrange(workers)]
    faults = [Fault(worker=victim, phase=phase, delay_seconds=dice.choice((0.0, 0.0, 0.01))) for victim in victims]
    print(f"{setting}: of {workers} workers {victims} are killed in phase {phase}")
    result = train(dataset, str(run), config_of(SETTINGS[setting], workers), faults)
    assert [event for event in events(run) if event["event"] == "lost"], "the kill was not felt"
    assert result.finished
    assert_every_sample_was_applied_once(run)


@pytest.mark.laws
@pytest.mark.parametrize("case", KILLS, ids=lambda case: "-".join(map(str, case)))
def test_a_killed_worker_loses_no_sample(
    law_dataset: str, run_folder: Path, case: tuple[str, Phase], dice: random.Random
) -> None:
    check_kill(law_dataset, run_folder, case, dice)


def test_one_drawn_case_of_a_killed_worker(law_dataset: str, run_folder: Path, dice: random.Random) -> None:
    check_kill(law_dataset, run_folder, dice.choice(KILLS), dice)


@pytest.mark.laws
def test_one_worker_and_its_evaluations_are_those_of_serial(law_dataset: str, tmp_path: Path) -> None:
    found = []
    for name, strategy in (
        ("serial", StrategyConfig(strategy="serial")),
        ("async", StrategyConfig(strategy="async", sync_every=1, staleness_bound=0)),
    ):
        run = str(tmp_path / name)
        train(law_dataset, run, config_of(strategy, workers=1, epochs=2, replicas=1))
        found.append({r.step: r.loss for r in read_records(run) if isinstance(r, EvaluationRecord)})
    assert distance(str(tmp_path / "async"), str(tmp_path / "serial")) <= 1e-9
    assert found[0].keys() == found[1].keys() == {32}
    assert all(abs(found[0][step] - found[1][step]) <= 1e-9 for step in found[0])


@pytest.mark.laws
def test_a_driver_that_ends_takes_its_workers_with_it_and_the_run_goes_on(
    law_dataset: str, run_folder: Path, dice: random.Random
) -> None:
    """Interrupted, it saves what it has; killed, it goes back to its last checkpoint."""
    number = dice.choice((signal.SIGINT, signal.SIGKILL))
    print(f"the driver gets {number.name}")
    config = config_of(SETTINGS["async-bound"], workers=2, checkpoint_every=8)
    driver = start_driver(law_dataset, run_folder, config)
    wait_until(lambda: bool(checkpoint.checkpoints(str(run_folder))), 150, "a checkpoint")
    workers = descendants(driver.pid)
    driver.send_signal(number)
    ended = time.monotonic()
    driver.wait(60)
    wait_until(lambda: not any(map(is_running, workers)), 30 - (time.monotonic() - ended), "the end of all workers")
    saved = checkpoint.checkpoints(str(run_folder))[-1].step
    assert 8 <= saved < 96
    assert train(law_dataset, str(run_folder), config).resumed_from_step == saved
    assert_every_sample_was_applied_once(run_folder)


@pytest.mark.laws
def test_a_worker_that_stalls_past_its_lease_is_replaced_and_its_samples_are_applied_once(
    law_dataset: str, run_folder: Path
) -> None:
    faults = [Fault(worker=1, phase="push", action="stop")]
    result = train(law_dataset, str(run_folder), config_of(SETTINGS["async-epoch"], workers=2), faults)
    assert result.steps_redone >= 1
    assert [event for event in events(run_folder) if "silent for" in str(event["detail"])]
    assert_every_sample_was_applied_once(run_folder)


@pytest.mark.laws
def test_workers_come_and_go(law_dataset: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4, 2, 4, 1, 3: those that go are killed with all that is theirs, as where a host is lost."""
    monkeypatch.setattr(launch_job, "LocalLauncher", ProcessLauncher)
    sizes: list[int] = []

    def play() -> None:
        for size, step in ((2, 12), (4, 32), (1, 52), (3, 72)):
            wait_until(lambda: step_reached(run_folder) >= step, 200, f"step {step}")  # noqa: B023
            set_supervisors(size)
            sizes.append(size)

    slow = [stall_at(worker, "forward", "every", seconds=0.05) for worker in range(4)]
    controller = threading.Thread(target=play, daemon=True)
    controller.start()
    result = train(law_dataset, str(run_folder), config_of(SETTINGS["async-1"], workers=4), slow)
    controller.join(10)
    assert sizes == [2, 4, 1, 3], "the run has ended too early"
    assert result.workers == 4
    assert_every_sample_was_applied_once(run_folder)
