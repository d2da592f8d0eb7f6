"""The training loop of a worker with a parameter server: lease, pull, take some steps, push; it waits for no other.

Source: Downpour SGD (Dean et al., NIPS 2012, section 4.1). Communicates once a lease: parameters down, their change up.
The optimizer's moments stay with the worker and go with it. While it trains on one lease it holds the next, so that
images of that are decoded meanwhile. A worker that dies costs what it has trained of its lease.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn, final

from sunspark.data.loader import Place
from sunspark.errors import WorkerError
from sunspark.optim import learning_rate_at
from sunspark.parallel.membership import worker_and_incarnation_of
from sunspark.training import divergence
from sunspark.training.driver_link import DriverLink
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.observers import Observers
from sunspark.training.server_link import EvaluationPart, ServerLink, Task
from sunspark.training.step_clock import StepClock
from sunspark.training.step_records import step_records
from sunspark.training.strategies.local_steps import LocalSteps
from sunspark.training.strategies.strategy import Applied, Share
from sunspark.training.validator import Validator

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncCourse:
    """What this worker trains, and how."""

    local_steps: LocalSteps
    """On its own copy of the network, with the optimizer that stays with it."""
    validator: Validator
    paths_of: Callable[[int, int], Sequence[str]]
    """The images of a replica's part of a step, for messages."""


@final
class AsyncTrainer:
    """Does what the server gives it, until the run has ended: the pulse then ends the process."""

    def __init__(
        self, course: AsyncCourse, server: ServerLink, driver: DriverLink, observers: Observers, replica_id: str
    ) -> None:
        self._local_steps, self._validator, self._paths_of = course.local_steps, course.validator, course.paths_of
        self._state = course.local_steps.computation.state
        self._plan = course.local_steps.computation.plan
        self._weights = FlatWeights(self._state)
        self._server = server
        self._driver = driver
        self._write = observers.write
        self._clock = StepClock(observers.progress, observers.faults)
        self._worker, self._incarnation = worker_and_incarnation_of(replica_id)
        self._reserved: Task | EvaluationPart | None = None
        self._judged_step = -1
        """The weights at hand are those that are evaluated after so many steps; -1 when they are not."""
        self._num_bytes = 0

    def run(self) -> NoReturn:
        """Train. Raises WorkerError when the server fails again and again, or the training diverges."""
        while True:
            task, self._reserved = self._reserved, None
            if task is None:
                with self._clock.phase("lease"):
                    task = self._server.ask()
            match task:
                case Task():
                    self._train(task)
                case EvaluationPart():
                    self._evaluate(task)
                case None:
                    self._clock.enter("lease")
                    time.sleep(_POLL_SECONDS)

    def _train(self, task: Task) -> None:
        self._clock.step = task.steps.start
        with self._clock.phase("lease"):
            if not self._begin(task):
                return
        self._judged_step = -1
        with self._clock.phase("pull"):
            start_N = self._server.pull()
            self._weights.write(start_N)
        with self._clock.phase("lease"):
            self._reserved = self._server.ask()
        share = self._take_steps(task)
        with self._clock.phase("push"):
            last = self._figures_of(share, task.steps[-1])
            norm = self._weights.change_since(start_N, self._server.outbox_N)
            if not math.isfinite(norm):  # the last step went too far
                self._give_up(task.steps[-1], task.replica, replace(last, gradient_norm=norm))
            report = {"loss": last.loss, "learning_rate": last.learning_rate}
            num_workers = self._server.push(task, share.evidences, report, lambda: self._clock.reach("sent"))
        self._clock.reach("pushed")
        if num_workers:
            self._write_records(task, share, num_workers)
        else:
            logger.info("replica %d of step %d is another worker's now", task.replica, task.steps.start)

    def _begin(self, task: Task) -> bool:
        """Wait until the parameters may be taken; False when the lease is void."""
        while (answer := self._server.begin(task)) == "wait":
            self._clock.enter("lease")
            time.sleep(_POLL_SECONDS)
        return answer == "yes"

    def _take_steps(self, task: Task) -> Share:
        share = Share.empty(task.steps)
        for step in task.steps:
            self._clock.begin_step(step)
            self._local_steps.take(step, task.replica, share, self._clock.phase, self._following(task, step))
            figures = self._figures_of(share, step)
            if not (math.isfinite(figures.loss) and math.isfinite(figures.gradient_norm)):
                self._give_up(step, task.replica, figures)
        self._clock.end_step()
        return share

    def _figures_of(self, share: Share, step: int) -> Applied:
        """Of this worker's part of a step."""
        learning_rate = learning_rate_at(self._local_steps.optim, step, self._plan.num_steps)
        return share.figures_of(step - share.steps.start, learning_rate)

    def _following(self, task: Task, step: int) -> Iterator[Place]:
        """What is computed after `step`, as far as it is known."""
        tasks = [task, self._reserved] if isinstance(self._reserved, Task) else [task]
        for one in tasks:
            for other in one.steps:
                if one is not task or other > step:
                    yield other, range(one.replica, one.replica + 1)

    def _evaluate(self, part: EvaluationPart) -> None:
        if self._judged_step != part.step:  # else they are here, from an earlier part
            with self._clock.phase("pull"):
                self._weights.write(self._server.pull_judged())
            self._judged_step = part.step
        with self._clock.phase("evaluate"):
            counts = self._validator.count(
                self._state, part.part, part.num_parts, lambda: self._clock.enter("evaluate")
            )
        with self._clock.phase("push"):
            self._server.hand_in(part, counts)
        self._clock.take_seconds()  # they are no step's

    def _give_up(self, step: int, replica: int, figures: Applied) -> NoReturn:
        """The training has diverged: no worker could do better."""
        paths = self._paths_of(step, replica)
        self._driver.note("diverged", step, divergence.note_of(figures, paths))
        cause = divergence.cause_of(step, figures, paths)
        self._driver.give_up(cause)
        raise WorkerError(cause)

    def _write_records(self, task: Task, share: Share, num_workers: int) -> None:
        num_bytes, self._num_bytes = self._server.num_bytes - self._num_bytes, self._server.num_bytes
        records = step_records(
            self._plan,
            task.steps,
            share.samples,
            [self._figures_of(share, step) for step in task.steps],
            self._clock.take_seconds(),
            worker=self._worker,
            incarnation=self._incarnation,
            world_size=num_workers,
            rank=self._worker,
            bytes_sent=num_bytes // len(task.steps),
            replica=task.replica,
        )
        for record in records:
            self._write(record)
