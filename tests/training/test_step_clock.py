"""Laws of a worker's clock: what counts as a step, and which waits have deadlines of their own."""

import time

from sunspark.parallel.faults import FaultInjector
from sunspark.training.pulse import Progress
from sunspark.training.step_clock import StepClock


def test_waits_have_deadlines_of_their_own_and_computing_has_that_of_a_step() -> None:
    progress = Progress()
    clock = StepClock(progress, FaultInjector((), 0, 1))
    for phase in ("data", "quorum", "reduce", "lease", "push"):
        with clock.phase(phase):
            assert progress.has_own_deadline
    for phase in ("forward", "backward", "optimizer", "evaluate"):
        with clock.phase(phase):
            assert not progress.has_own_deadline


def test_the_slowest_step_is_the_longest_time_from_one_to_the_next() -> None:
    progress = Progress()
    clock = StepClock(progress, FaultInjector((), 0, 1))
    for step, seconds in enumerate((0.01, 0.2, 0.01)):
        clock.begin_step(step)
        time.sleep(seconds)
    clock.end_step()
    time.sleep(0.5)
    clock.begin_step(3)
    clock.drop_step()
    clock.end_step()
    assert 0.2 <= progress.slowest_step_seconds < 0.5
