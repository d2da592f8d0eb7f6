"""The training loop of one worker: agree, compute my share of the step, reduce, apply.

The loop is the same for one worker and for many, for the first step and after a loss. It never decides alone that a
step counts: it applies what was reduced, and learns at the next agreement whether the others went along.
"""

import logging
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final, NoReturn, final

from sunspark.data.loader import Loader
from sunspark.data.order import StepPlan, replicas_of
from sunspark.errors import DeadlineError, WorkerError
from sunspark.optim import OptimConfig, learning_rate_at
from sunspark.parallel.all_reduce import AllReduce
from sunspark.parallel.faults import FaultInjector
from sunspark.parallel.group import Group
from sunspark.parallel.membership import Agreement, Membership, Position, in_words, worker_and_incarnation_of
from sunspark.parallel.recovery import RecoveryError, RecoverySource, recover
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.records import EvaluationRecord, StepRecord
from sunspark.training.compute import Computation
from sunspark.training.deadline import FIRST_DEADLINE_SECONDS, deadline_seconds
from sunspark.training.driver_link import DriverLink
from sunspark.training.publisher import Publisher
from sunspark.training.pulse import Progress
from sunspark.training.state import TrainingState
from sunspark.training.validation import Evaluation
from sunspark.training.validator import Validator

logger = logging.getLogger(__name__)

_QUORUM_DEADLINES: Final = 3
"""A quorum waits for the slowest worker; one that hangs is replaced within one deadline."""
_MOST_FAILURES: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What is trained: the state that a worker holds, where its samples come from, what is done with them."""

    state: TrainingState
    plan: StepPlan
    loader: Loader
    optim: OptimConfig
    computation: Computation
    validator: Validator
    paths_of: Callable[[int], Sequence[str]]
    """The images of a step, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """A worker's lines to the others: who is there, the group, and how state is handed over."""

    membership: Membership
    group: Group
    source: RecoverySource
    token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Observers:
    """Who is told what the main thread does."""

    progress: Progress
    write: Callable[[StepRecord | EvaluationRecord], None]
    """Keep the record of a step that counts, or of an evaluation."""
    faults: FaultInjector


@final
class Trainer:
    """Trains until the last step counts."""

    def __init__(
        self, course: Course, peers: Peers, driver: DriverLink, publisher: Publisher, observers: Observers
    ) -> None:
        self._course = course
        self._state, self._plan, self._validator = course.state, course.plan, course.validator
        self._peers = peers
        self._driver = driver
        self._publisher = publisher
        self._progress, self._write, self._faults = observers.progress, observers.write, observers.faults
        self._strategy = AllReduce(course.state.summands())
        self._counted = 0
        self._pending: StepRecord | None = None
        self._failed_with: tuple[str, ...] = ()
        self._num_failures = 0
        self._seconds: dict[str, float] = {}

    def run(self) -> None:
        """Train. Returns when the end of the run is published, by this worker or by another.

        Raises WorkerError when the same members fail ten times at one step.
        """
        while True:
            started = time.monotonic()
            agreement = self._agree()
            if agreement is None:
                continue
            if self._is_leader(agreement):
                with self._phase("publish", has_own_deadline=True):
                    self._publisher.publish_when_due(self._state)
            if self._validator.is_due(self._state):
                self._evaluate(agreement)
            elif agreement.step == self._validator.end_of(self._state):
                if self._close(agreement):
                    return
            elif self._take_step(agreement):
                self._progress.slowest_step_seconds = max(
                    self._progress.slowest_step_seconds, time.monotonic() - started
                )

    def _agree(self) -> Agreement | None:
        """Come to the next quorum and stand where its leader stands; None to try again."""
        with self._phase("quorum", has_own_deadline=True):
            agreement = self._peers.membership.agree(self._position(), _QUORUM_DEADLINES * self._deadline_seconds())
        if self._peers.membership.replica_id not in agreement.replica_ids:
            return None  # two processes ask as one worker; the older is about to hear that it is not wanted
        try:
            self._follow(agreement)
        except (RecoveryError, GroupBrokenError, DeadlineError) as error:
            self._driver.abandon(agreement.group_key)
            self._peers.group.cut()
            self._note_failure(agreement, error)
            return None
        self._counted = agreement.step
        self._write_counted()
        return agreement

    def _follow(self, agreement: Agreement) -> None:
        self._driver.check_members(agreement)
        me = agreement.members[self._rank(agreement)]
        if not agreement.is_current(me):
            with self._phase("recovery", has_own_deadline=True):
                self._recover(agreement)
        someone_recovers = len(agreement.current) < agreement.world_size  # over a slow link that takes its time
        deadline = max(FIRST_DEADLINE_SECONDS if someone_recovers else 0.0, self._deadline_seconds())
        with self._phase("connect", has_own_deadline=True):
            self._peers.group.form(agreement, deadline)

    def _recover(self, agreement: Agreement) -> None:
        behind = self._state.step
        body = recover(agreement, self._peers.token, self._deadline_seconds(), self._driver.lost)
        self._state.load(body, f"the state of {in_words([agreement.leader.replica_id])}")
        self._peers.source.forget()
        self._pending = None
        self._driver.note("recovered", self._state.step, f"from step {behind}, {len(body) / 1e6:.1f} MB")

    def _take_step(self, agreement: Agreement) -> bool:
        """Do the step that the members agreed on; False when it must be done again."""
        step = agreement.step
        replicas = replicas_of(self._rank(agreement), agreement.world_size, self._plan.num_replicas)
        with self._phase("data", has_own_deadline=True):
            batches = self._course.loader.take(step, replicas)
        evidence, loss_sum = self._course.computation.run(step, replicas, batches, self._phase)
        try:
            with self._phase("reduce", has_own_deadline=True):
                evidence_of_all, loss_sum = self._strategy.reduce(
                    evidence, loss_sum, self._peers.group, self._deadline_seconds()
                )
        except GroupBrokenError as error:
            self._driver.abandon(agreement.group_key)  # a peer may not have noticed
            self._note_failure(agreement, error)
            return False
        self._faults.reach("reduced", step)
        loss = loss_sum / max(1, evidence_of_all.samples)
        learning_rate = learning_rate_at(self._course.optim, step, self._plan.num_steps)
        with self._phase("optimizer"):
            if 0 < evidence_of_all.samples < self._plan.num_samples_of(step):  # some are excused
                self._state.scale_gradients(self._plan.num_samples_of(step) / evidence_of_all.samples)
            gradient_norm = self._state.gradient_norm()
            if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
                self._give_up(step, loss, gradient_norm, learning_rate)
            self._state.apply(learning_rate, agreement.quorum_id, evidence_of_all, gradient_norm)
        self._peers.source.forget()
        self._faults.reach("applied", step)
        self._num_failures = 0
        self._remember(agreement, step, evidence.samples, (loss, learning_rate, gradient_norm))
        return True

    def _evaluate(self, agreement: Agreement) -> None:
        """Evaluate the state that the members agreed on; when the group breaks, the next quorum does it again."""
        started = time.monotonic()
        with self._phase("evaluate"):
            counts = self._validator.count(
                self._state, self._rank(agreement), agreement.world_size, lambda: self._progress.enter("evaluate")
            )
        deadline = max(self._deadline_seconds(), 10 * (time.monotonic() - started))
        try:
            with self._phase("reduce", has_own_deadline=True):
                evaluation = self._validator.reduce(counts, agreement.step, self._peers.group, deadline)
        except GroupBrokenError as error:
            self._driver.abandon(agreement.group_key)
            self._note_failure(agreement, error)
            return
        self._state.add_evaluation(evaluation)
        self._peers.source.forget()
        self._num_failures = 0
        self._write(self._record_of(evaluation))
        if self._is_leader(agreement):
            what = (
                f"top-1 {100 * evaluation.top1:.2f} %, top-5 {100 * evaluation.top5:.2f} %, loss {evaluation.loss:.4f}"
            )
            self._driver.note("evaluated", evaluation.step, f"{self._validator.config.split}: {what}")

    def _give_up(self, step: int, loss: float, gradient_norm: float, learning_rate: float) -> NoReturn:
        """The training has diverged: no worker could do better. The state before this step is what is saved."""
        paths = self._course.paths_of(step)
        self._driver.note("diverged", step, f"loss {loss}, gradient norm {gradient_norm}, images: {', '.join(paths)}")
        what = "loss" if not math.isfinite(loss) else "gradient"
        cause = (
            f"the {what} of step {step} is not finite (loss {loss}, gradient norm {gradient_norm}, learning rate "
            f"{learning_rate:g}); lower --learning-rate, or set --clip-norm; its {len(paths)} images begin with "
            f"{', '.join(paths[:5])}, and the event 'diverged' in the run's records names all"
        )
        self._driver.give_up(cause)
        raise WorkerError(cause)

    def _close(self, agreement: Agreement) -> bool:
        """The closing quorum: the leader publishes the end, the others wait for it. False when the leader is lost."""
        leader = agreement.leader.replica_id
        if self._is_leader(agreement):
            with self._phase("close", has_own_deadline=True):
                self._publisher.publish_end(self._state)
                self._driver.finish(self._state.step, self._progress.most_workers)
            return True
        with self._phase("end", has_own_deadline=True):
            self._driver.wait_for_end(leader)
        return False

    def _position(self) -> Position:
        return Position(
            step=self._state.step,
            lineage=self._state.lineage,
            counted=self._counted,
            failures=self._peers.group.failures,
        )

    def _rank(self, agreement: Agreement) -> int:
        return agreement.rank_of(self._peers.membership.replica_id)

    def _is_leader(self, agreement: Agreement) -> bool:
        return agreement.leader.replica_id == self._peers.membership.replica_id

    def _deadline_seconds(self) -> float:
        return deadline_seconds(self._progress.slowest_step_seconds)

    def _note_failure(self, agreement: Agreement, error: Exception) -> None:
        logger.info("%s: step %d again: %s", self._peers.membership.replica_id, agreement.step, error)
        self._driver.note("redone", agreement.step, f"{agreement.group_key} {error}")
        if agreement.replica_ids != self._failed_with:
            self._failed_with, self._num_failures = agreement.replica_ids, 0
        self._num_failures += 1
        if self._num_failures >= _MOST_FAILURES:
            raise WorkerError(
                f"step {agreement.step} failed {self._num_failures} times with the same workers "
                f"({in_words(agreement.replica_ids)}); the last time: {error}"
            ) from error

    def _remember(self, agreement: Agreement, step: int, samples: int, figures: tuple[float, float, float]) -> None:
        """Keep the record of the step until the step counts; `figures`: loss, learning rate, gradient norm."""
        loss, learning_rate, gradient_norm = figures
        seconds, self._seconds = self._seconds, {}
        self._progress.step = step + 1
        self._progress.most_workers = max(self._progress.most_workers, agreement.world_size)
        self._progress.report = {"loss": loss, "learning_rate": learning_rate}
        worker, incarnation = worker_and_incarnation_of(self._peers.membership.replica_id)
        self._pending = StepRecord(
            worker=worker,
            incarnation=incarnation,
            time_unix_seconds=time.time(),
            step=step,
            epoch=self._plan.epoch_of(step),
            loss=loss,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            samples=samples,
            quorum_seconds=seconds.get("quorum", 0.0) + seconds.get("connect", 0.0) + seconds.get("recovery", 0.0),
            data_seconds=seconds.get("data", 0.0),
            forward_seconds=seconds.get("forward", 0.0),
            backward_seconds=seconds.get("backward", 0.0),
            communication_seconds=seconds.get("reduce", 0.0),
            optimizer_seconds=seconds.get("optimizer", 0.0),
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            world_size=agreement.world_size,
            rank=self._rank(agreement),
        )

    def _record_of(self, evaluation: Evaluation) -> EvaluationRecord:
        worker, incarnation = worker_and_incarnation_of(self._peers.membership.replica_id)
        return EvaluationRecord(
            worker=worker,
            incarnation=incarnation,
            time_unix_seconds=time.time(),
            epoch=-(-evaluation.step // self._plan.steps_per_epoch),
            split=self._validator.config.split,
            excused=len(self._validator.rows) - evaluation.samples,
            **asdict(evaluation),
        )

    def _write_counted(self) -> None:
        if self._pending is not None and self._pending.step < self._counted:
            self._write(self._pending)
            self._pending = None

    @contextmanager
    def _phase(self, phase: str, *, has_own_deadline: bool = False) -> Iterator[None]:
        self._progress.enter(phase, has_own_deadline=has_own_deadline)
        self._faults.reach(phase, self._state.step)  # type: ignore[arg-type]
        started = time.monotonic()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - started
