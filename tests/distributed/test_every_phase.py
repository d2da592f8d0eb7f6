"""Exactly once, whatever the strategy: in one run a worker is killed in every phase, one process of it after another.

Each process of worker 1 dies at the first time that it reaches its phase; worker 0 goes on to the next round and stalls
there until the next process has joined. At the end the one that writes the checkpoint dies, and then, while the run is
closed, both. What is asked is what the ledger's sums say; that the weights are the same too is asked of each phase by
itself in `test_kill_law.py` and `test_rounds.py`.
"""

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.launch.train import train
from sunspark.parallel.faults import PHASES, Fault, Phase
from sunspark.training.validation import ValidationConfig
from sunspark.training.verify import verify
from tests.distributed.harness import events, holds_until, joined, wait_until
from tests.distributed.strategies import STEPS_PER_EPOCH, STRATEGIES, config_of

pytestmark = [pytest.mark.laws, pytest.mark.timeout(500)]

FIRST: tuple[Phase, ...] = (
    *("evaluate", "quorum", "recovery", "connect", "data", "forward"),
    *("backward", "reduce", "reduced", "optimizer", "applied"),
)
"""Of worker 1, in this order."""
TO_A_SERVER: tuple[Phase, ...] = ("sent", "pushed")
"""Of strategies with a parameter server: `test_async.py`."""
LAST: tuple[Phase, ...] = ("checkpoint", "close", "end")
EVERY = 8
"""Steps from one stall to the next: rounds of all strategies begin there."""
CHECKPOINT_STEPS = (112, 120, 128)
"""Worker 0 dies at the first of these whose checkpoint it writes: none is written while another is under way."""
LAST_STALL = 136
NUM_EPOCHS = 9


def test_all_phases_are_among_them() -> None:
    assert {*FIRST, *LAST, *TO_A_SERVER} == {*PHASES}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_worker_killed_in_every_phase_loses_nothing(law_dataset: str, run_folder: Path, strategy: str) -> None:
    config = config_of(strategy, workers=2, num_epochs=NUM_EPOCHS)
    config = replace(
        config,
        training=replace(config.training, checkpoint_every=EVERY),
        validation=ValidationConfig(eval_every=1, eval_split="train"),
    )
    controller = threading.Thread(target=play, args=(run_folder,), daemon=True)
    controller.start()
    train(law_dataset, str(run_folder), config, [*deaths(), *stalls(run_folder)])
    controller.join(10)
    lost = [event["worker"] for event in events(run_folder) if "SIGKILL" in str(event["detail"])]
    assert lost.count(1) == len(FIRST) + 1
    assert lost.count(0) == 2
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems


def deaths() -> list[Fault]:
    one_after_another = [Fault(worker=1, phase=phase, incarnation=k) for k, phase in enumerate(FIRST, 1)]
    return [
        *one_after_another,
        *(Fault(worker=0, phase="checkpoint", step=step) for step in CHECKPOINT_STEPS),
        *(Fault(worker=0, phase=phase, incarnation=2) for phase in ("close", "end")),
        *(Fault(worker=1, phase=phase, incarnation=len(FIRST) + 1) for phase in ("close", "end")),
    ]


def stall_steps() -> list[int]:
    """Where worker 0 waits for the next process of worker 1; then where worker 1 waits for that of worker 0."""
    return [STEPS_PER_EPOCH + EVERY * k for k in range(1, len(FIRST) + 1)]


def stalls(run: Path) -> list[Fault]:
    back = [holds_until(release(run, step), 1, 300, step)[0] for step in stall_steps()]
    return [*back, *holds_until(release(run, LAST_STALL), 2, 300, LAST_STALL)]


def release(run: Path, step: int) -> Path:
    return run.with_suffix(f".release-{step}")


def play(run: Path) -> None:
    try:
        release_one_after_another(run)
    finally:  # whatever happened, the run shall end
        for step in [*stall_steps(), LAST_STALL]:
            release(run, step).touch()


def release_one_after_another(run: Path) -> None:
    for incarnation, step in zip(itertools.count(2), stall_steps(), strict=False):
        wait_until(lambda: joined(run, 1, incarnation), 120, f"process {incarnation} of worker 1")  # noqa: B023
        release(run, step).touch()
    wait_until(lambda: joined(run, 0, 2), 120, "the second process of worker 0")
    release(run, LAST_STALL).touch()
