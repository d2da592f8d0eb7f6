"""Laws of the trainer's clock: what counts as a step, and which waits have deadlines of their own."""

import time

from sunspark.parallel.faults import FaultInjector
from sunspark.training.pulse import Progress
from sunspark.training.trainer import Trainer


def trainer_without_peers() -> Trainer:
    """As far as its clock goes."""
    trainer = object.__new__(Trainer)
    trainer._progress, trainer._faults = Progress(), FaultInjector((), 0, 1)
    trainer._step, trainer._step_began, trainer._seconds = 0, 0.0, {}
    return trainer


def test_the_loader_has_a_deadline_of_its_own_and_computing_has_that_of_a_step() -> None:
    trainer = trainer_without_peers()
    with trainer.phase("data"):
        assert trainer._progress.has_own_deadline
    with trainer.phase("forward"):
        assert not trainer._progress.has_own_deadline


def test_the_slowest_step_is_the_longest_time_from_one_to_the_next() -> None:
    trainer = trainer_without_peers()
    for step, seconds in enumerate((0.01, 0.2, 0.01)):
        trainer.at(step)
        time.sleep(seconds)
    trainer._end_step()
    time.sleep(0.5)
    trainer.at(3)
    assert 0.2 <= trainer._progress.slowest_step_seconds < 0.5
