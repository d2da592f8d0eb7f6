"""The training loop of one worker: agree, compute my share of the steps that count together, reduce, apply.

The loop is the same for one worker and for many, for every strategy, for the first step and after a loss. It never
decides alone that steps count: it applies what was reduced, and learns at the next agreement whether the others went
along.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NoReturn, final

from sunspark.data.order import StepPlan
from sunspark.errors import DeadlineError, WorkerError
from sunspark.parallel.all_reduce import AllReduce
from sunspark.parallel.codec import Compression
from sunspark.parallel.faults import Phase
from sunspark.parallel.group import Group
from sunspark.parallel.membership import Agreement, Membership, Position, in_words, worker_and_incarnation_of
from sunspark.parallel.recovery import RecoveryError, RecoverySource, recover
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.round import Held
from sunspark.records import EvaluationRecord, StepRecord
from sunspark.training import divergence
from sunspark.training.deadline import FIRST_DEADLINE_SECONDS, deadline_seconds
from sunspark.training.driver_link import DriverLink
from sunspark.training.evaluation_notes import record_of, sentence_of
from sunspark.training.observers import Observers
from sunspark.training.publisher import Publisher
from sunspark.training.state import TrainingState
from sunspark.training.step_clock import StepClock
from sunspark.training.step_records import step_records
from sunspark.training.strategies.strategy import Applied, DivergedError, Share, Strategy
from sunspark.training.validation import Evaluation
from sunspark.training.validator import Validator

logger = logging.getLogger(__name__)

_QUORUM_DEADLINES: Final = 3
"""A quorum waits for the slowest worker; one that hangs is replaced within one deadline."""
_MOST_FAILURES: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What is trained, and how: the state that a worker holds, its steps, what is done with them."""

    state: TrainingState
    plan: StepPlan
    strategy: Strategy
    compression: Compression
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
        self._progress, self._write = observers.progress, observers.write
        self._clock = StepClock(observers.progress, observers.faults)
        self._strategy = course.strategy
        self._sum = AllReduce(course.state.trained(), course.state.staged(), course.compression)
        self._counted = 0
        self._pending: list[StepRecord] = []
        self._failed_with: tuple[tuple[str, ...], Held] = ((), Held())
        self._num_failures = 0
        self._bytes_sent = 0

    def run(self) -> None:
        """Train. Returns when the end of the run is published, by this worker or by another.

        Raises WorkerError when the same members fail ten times at one step.
        """
        while True:
            self._clock.step = self._state.step
            agreement = self._agree()
            if agreement is None:
                continue
            if self._is_leader(agreement):
                with self._clock.phase("publish"):
                    self._publisher.publish_when_due(self._state)
            if self._validator.is_due(self._state):
                self._evaluate(agreement)
            elif agreement.step == self._validator.end_of(self._state):
                if self._close(agreement):
                    return
            elif self._take_steps(agreement):
                self._clock.end_step()

    def _agree(self) -> Agreement | None:
        """Come to the next quorum and stand where its leader stands; None to try again."""
        with self._clock.phase("quorum"):
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
        someone_recovers = len(agreement.current) < agreement.world_size  # over a slow link that takes its time
        deadline = max(FIRST_DEADLINE_SECONDS if someone_recovers else 0.0, self._deadline_seconds())
        if not agreement.is_current(me):
            with self._clock.phase("recovery"):
                self._recover(agreement, deadline)
        with self._clock.phase("connect"):
            self._peers.group.form(agreement, deadline)

    def _recover(self, agreement: Agreement, deadline_seconds: float) -> None:
        behind = self._state.step
        body = recover(agreement, self._peers.token, deadline_seconds, self._driver.lost)
        self._state.load(body, f"the state of {in_words([agreement.leader.replica_id])}")
        self._peers.source.forget()
        self._sum.forget()
        self._pending = []
        self._driver.note("recovered", self._state.step, f"from step {behind}, {len(body) / 1e6:.1f} MB")

    def _take_steps(self, agreement: Agreement) -> bool:
        """Do the steps that count together next; False when they must be gone on with in another quorum."""
        share = self._strategy.compute(agreement, self._rank(agreement), self)
        if share is None:
            self._clock.drop_step()
            self._driver.abandon(agreement.group_key)
            self._peers.group.cut()
            return False
        own_samples = share.samples
        try:
            with self._clock.phase("reduce"):
                self._exchange(share, agreement)
        except GroupBrokenError as error:
            self._clock.drop_step()
            self._driver.abandon(agreement.group_key)  # a peer may not have noticed
            self._note_failure(agreement, error)
            return False
        self._clock.reach("reduced", share.steps.start)
        try:
            with self._clock.phase("optimizer"):
                applied = self._strategy.apply(share, agreement.quorum_id)
        except DivergedError as error:
            self._give_up(error.step, error.figures)
        self._peers.source.forget()
        self._sum.commit()
        self._clock.reach("applied", share.steps.start)
        self._num_failures = 0
        self._remember(agreement, share.steps, own_samples, applied)
        return True

    def _exchange(self, share: Share, agreement: Agreement) -> None:
        """Sum gradients and tallies over the group, once all are there."""
        deadline = self._deadline_seconds()
        if self._strategy.is_local:
            self._clock.end_step()  # the wait for others is no part of it
            turns = len(share.steps) * -(-self._plan.num_replicas // agreement.world_size)
            arrived = self._peers.group.start_barrier(turns * self._deadline_seconds())
            self._peers.group.wait([arrived])
            deadline = max(deadline, FIRST_DEADLINE_SECONDS)  # no step tells how long it takes
        self._sum.reduce(share.tallies, self._peers.group, deadline)

    # --- a `Clock`, for the strategy ---

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        """Enter a phase of the step at hand."""
        return self._clock.phase(phase)

    def at(self, step: int) -> None:
        """This step is computed from now on."""
        self._clock.begin_step(step)

    def before_last_backward(self) -> None:
        """Gradients leave as soon as they are final; the others may still compute for as long as a step may take."""
        self._sum.begin(self._peers.group, 2 * self._deadline_seconds())

    def is_called(self) -> bool:
        """Whether this group has ended, or a worker outside of it waits for the next one."""
        group = self._peers.group
        return group.is_cut or not self._driver.waiting() <= frozenset(group.members)

    def note_redone(self, replicas: Sequence[int]) -> None:
        """Tell of replicas that are done again; each worker of its own."""
        names = ",".join(map(str, replicas))
        detail = f"{self._peers.group.key}/{names} replicas {names} of the round, which a lost worker had"
        self._driver.note("redone", self._state.step, detail)

    def note_unsaved(self, cause: str) -> None:
        """Tell of what storage does not hold."""
        self._driver.note("unsaved", self._state.step, cause)

    def _evaluate(self, agreement: Agreement) -> None:
        """Evaluate the state that the members agreed on; when the group breaks, the next quorum does it again."""
        started = time.monotonic()
        with self._clock.phase("evaluate"):
            counts = self._validator.count(
                self._state, self._rank(agreement), agreement.world_size, lambda: self._clock.enter("evaluate")
            )
        deadline = max(self._deadline_seconds(), 10 * (time.monotonic() - started))
        try:
            with self._clock.phase("reduce"):
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
            self._driver.note("evaluated", evaluation.step, sentence_of(evaluation, self._validator.config.split))

    def _give_up(self, step: int, figures: Applied) -> NoReturn:
        """The training has diverged: no worker could do better. The state before this step is what is saved."""
        paths = self._course.paths_of(step)
        self._driver.note("diverged", step, divergence.note_of(figures, paths))
        cause = divergence.cause_of(step, figures, paths)
        self._driver.give_up(cause)
        raise WorkerError(cause)

    def _close(self, agreement: Agreement) -> bool:
        """The closing quorum: the leader publishes the end, the others wait for it. False when the leader is lost."""
        leader = agreement.leader.replica_id
        if self._is_leader(agreement):
            with self._clock.phase("close"):
                self._publisher.publish_end(self._state)
                self._driver.finish(self._state.step, self._progress.most_workers, self._progress.report)
            return True
        with self._clock.phase("end"):
            self._driver.wait_for_end(leader)
        return False

    def _position(self) -> Position:
        return Position(
            step=self._state.step,
            lineage=self._state.lineage,
            counted=self._counted,
            failures=self._peers.group.failures,
            held=self._strategy.held(),
        )

    def _rank(self, agreement: Agreement) -> int:
        return agreement.rank_of(self._peers.membership.replica_id)

    def _is_leader(self, agreement: Agreement) -> bool:
        return agreement.leader.replica_id == self._peers.membership.replica_id

    def _deadline_seconds(self) -> float:
        return deadline_seconds(self._progress.slowest_step_seconds)

    def _note_failure(self, agreement: Agreement, error: Exception) -> None:
        logger.info("%s: step %d again: %s", self._peers.membership.replica_id, agreement.step, error)
        if self._strategy.held() == Held():  # else nothing of this worker's is lost
            self._driver.note("redone", agreement.step, f"{agreement.group_key} {error}")
        if (agreement.replica_ids, self._strategy.held()) != self._failed_with:
            self._failed_with, self._num_failures = (agreement.replica_ids, self._strategy.held()), 0
        self._num_failures += 1
        if self._num_failures >= _MOST_FAILURES:
            raise WorkerError(
                f"step {agreement.step} failed {self._num_failures} times with the same workers "
                f"({in_words(agreement.replica_ids)}); the last time: {error}"
            ) from error

    def _remember(
        self, agreement: Agreement, steps: range, own_samples: Sequence[int], applied: Sequence[Applied]
    ) -> None:
        """Keep the records of the steps until they count; what they took together is spread over them."""
        bytes_sent, self._bytes_sent = self._peers.group.bytes_sent - self._bytes_sent, self._peers.group.bytes_sent
        self._progress.step = steps.stop
        self._progress.most_workers = max(self._progress.most_workers, agreement.world_size)
        self._progress.report = {"loss": applied[-1].loss, "learning_rate": applied[-1].learning_rate}
        worker, incarnation = worker_and_incarnation_of(self._peers.membership.replica_id)
        self._pending = step_records(
            self._plan,
            steps,
            own_samples,
            applied,
            self._clock.take_seconds(),
            worker=worker,
            incarnation=incarnation,
            world_size=agreement.world_size,
            rank=self._rank(agreement),
            bytes_sent=bytes_sent // len(steps),
            hidden_communication_seconds=self._sum.hidden_seconds / len(steps),
        )

    def _record_of(self, evaluation: Evaluation) -> EvaluationRecord:
        worker, incarnation = worker_and_incarnation_of(self._peers.membership.replica_id)
        return record_of(
            evaluation,
            self._plan,
            split=self._validator.config.split,
            num_rows=len(self._validator.rows),
            worker=worker,
            incarnation=incarnation,
        )

    def _write_counted(self) -> None:
        for record in self._pending:
            if record.step < self._counted:
                self._write(record)
        self._pending = [record for record in self._pending if record.step >= self._counted]
