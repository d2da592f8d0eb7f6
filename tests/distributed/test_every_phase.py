"""Exactly once, whatever the strategy: a worker is killed in every phase, one process of it after another.

Each process of worker 1 dies at the first time that it reaches its phase; worker 0 goes on to the next round and stalls
there until the next process has joined. In a run of its own the one that writes a checkpoint dies, and then, while the
run is closed, both. What is asked is what the ledger's sums say; that the weights are the same too is asked of each
phase by itself in `test_kill_law.py` and `test_rounds.py`.
"""

import itertools
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.launch.train import train
from sunspark.parallel.faults import PHASES, Fault, Phase
from sunspark.training.validation import ValidationConfig
from sunspark.training.verify import verify
from tests.distributed.harness import events, holds_until, joined, train_and_watch, wait_until
from tests.distributed.strategies import STEPS_PER_EPOCH, STRATEGIES, config_of

pytestmark = [pytest.mark.laws, pytest.mark.timeout(600)]

FIRST: tuple[Phase, ...] = (
    *("evaluate", "recovery", "data", "quorum", "connect", "forward"),
    *("backward", "reduce", "reduced", "optimizer", "applied"),
)
"""Of worker 1, in this order: no checkpoint is written before the first evaluation ends, so the second is behind."""
LAST: tuple[Phase, ...] = ("checkpoint", "publish", "close", "end")
ELSEWHERE: tuple[Phase, ...] = ("lease", "pull", "push", "sent", "pushed", "store")
"""Of strategies with a parameter server: `test_async.py`; of long rounds: `test_rounds.py`."""
EVERY = 8
"""Steps from one stall to the next: rounds of all strategies begin there."""
STALLS = [STEPS_PER_EPOCH + EVERY * k for k in range(1, len(FIRST) + 1)]
"""Where worker 0 waits for the next process of worker 1."""


def test_all_phases_are_among_them() -> None:
    assert {*FIRST, *LAST, *ELSEWHERE} == {*PHASES}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_worker_killed_in_every_phase_of_a_step_loses_nothing(
    law_dataset: str, run_folder: Path, strategy: str
) -> None:
    config = config_of(strategy, workers=2, num_epochs=8)
    config = replace(config, validation=ValidationConfig(eval_every=1, eval_split="train"))
    deaths = [Fault(worker=1, phase=phase, incarnation=k) for k, phase in enumerate(FIRST, 1)]
    stalls = [holds_until(release(run_folder, step), 1, 300, step)[0] for step in STALLS]
    controller = threading.Thread(target=play, args=(run_folder,), daemon=True)
    controller.start()
    train(law_dataset, str(run_folder), config, [*deaths, *stalls])
    controller.join(10)
    assert kills(run_folder) == {1: len(FIRST)}
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_workers_killed_while_they_write_checkpoint_and_end_lose_nothing(
    law_dataset: str, run_folder: Path, strategy: str
) -> None:
    deaths = [
        Fault(worker=0, phase="checkpoint"),
        Fault(worker=0, phase="publish", incarnation=2),
        *(Fault(worker=0, phase=phase, incarnation=3) for phase in ("close", "end")),
        *(Fault(worker=1, phase=phase) for phase in ("close", "end")),
    ]
    config = config_of(strategy, workers=2)
    train_and_watch(law_dataset, run_folder, config, deaths, until=lambda: joined(run_folder, 0), hold_at_step=80)
    assert kills(run_folder)[0] >= 1
    assert kills(run_folder).total() >= 2
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems


def kills(run: Path) -> Counter[object]:
    """How often each worker was killed."""
    return Counter(event["worker"] for event in events(run) if "SIGKILL" in str(event["detail"]))


def release(run: Path, step: int) -> Path:
    return run.with_suffix(f".release-{step}")


def play(run: Path) -> None:
    """Let worker 0 go on whenever the next process of worker 1 is there."""
    try:
        for incarnation, step in zip(itertools.count(2), STALLS, strict=False):
            wait_until(lambda: joined(run, 1, incarnation), 150, f"process {incarnation} of worker 1")  # noqa: B023
            release(run, step).touch()
    finally:  # whatever happened, the run shall end
        for step in STALLS:
            release(run, step).touch()
