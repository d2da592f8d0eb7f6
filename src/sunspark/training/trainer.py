"""The training loop of one worker: agree, compute my share of the step, reduce, apply.

The loop is the same for one worker and for many, for the first step and after a loss. It never decides alone that a
step counts: it applies what was reduced, and learns at the next agreement whether the others went along.
"""

import hashlib
import logging
import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import torch

from sunspark.data.decode_pool import Batch
from sunspark.data.loader import Loader
from sunspark.data.order import StepPlan, replicas_of
from sunspark.errors import DeadlineError, WorkerError
from sunspark.optim import OptimConfig, learning_rate_at
from sunspark.parallel.all_reduce import AllReduce
from sunspark.parallel.faults import FaultInjector
from sunspark.parallel.group import Group
from sunspark.parallel.ledger import Evidence, evidence_of
from sunspark.parallel.membership import Agreement, Membership, Position, worker_and_incarnation_of
from sunspark.parallel.recovery import RecoveryError, RecoverySource, recover
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.records import StepRecord
from sunspark.training.driver_link import DriverLink
from sunspark.training.forward import summed_loss
from sunspark.training.publisher import Publisher
from sunspark.training.pulse import Progress
from sunspark.training.state import TrainingState

logger = logging.getLogger(__name__)

_LEAST_DEADLINE_SECONDS: Final = 60.0
_FIRST_DEADLINE_SECONDS: Final = 600.0
"""Before the first step has shown how long a step takes."""
_QUORUM_DEADLINES: Final = 3
"""A quorum waits for the slowest worker; one that hangs is replaced within one deadline."""
_MOST_FAILURES: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What is trained: the state that a worker holds, and where its samples come from."""

    state: TrainingState
    plan: StepPlan
    loader: Loader
    optim: OptimConfig
    dtype: str
    """As in TrainingConfig, resolved."""


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
    write: Callable[[StepRecord], None]
    """Keep the record of a step that counts."""
    faults: FaultInjector


@final
class Trainer:
    """Trains until the last step counts."""

    def __init__(
        self, course: Course, peers: Peers, driver: DriverLink, publisher: Publisher, observers: Observers
    ) -> None:
        self._state, self._plan, self._loader = course.state, course.plan, course.loader
        self._optim, self._dtype = course.optim, course.dtype
        self._peers = peers
        self._driver = driver
        self._publisher = publisher
        self._progress, self._write, self._faults = observers.progress, observers.write, observers.faults
        self._strategy = AllReduce(list(course.state.model.parameters()))
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
            if agreement.step == self._plan.num_steps:
                if self._close(agreement):
                    return
                continue
            if self._is_leader(agreement):
                self._publisher.publish_when_due(self._state)
            if self._take_step(agreement):
                self._progress.slowest_step_seconds = max(
                    self._progress.slowest_step_seconds, time.monotonic() - started
                )

    def _agree(self) -> Agreement | None:
        """Come to the next quorum and stand where its leader stands; None to try again."""
        with self._phase("quorum", has_own_deadline=True):
            agreement = self._peers.membership.agree(self._position(), _QUORUM_DEADLINES * self._deadline_seconds())
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
        with self._phase("connect", has_own_deadline=True):
            self._peers.group.form(agreement, self._deadline_seconds())

    def _recover(self, agreement: Agreement) -> None:
        behind = self._state.step
        body = recover(agreement, self._peers.token, self._deadline_seconds(), self._driver.lost)
        self._state.load(body, f"the state of {agreement.leader.replica_id}")
        self._peers.source.forget()
        self._pending = None
        self._driver.note("recovered", self._state.step, f"from step {behind}, {len(body) / 1e6:.1f} MB")

    def _take_step(self, agreement: Agreement) -> bool:
        """Do the step that the members agreed on; False when it must be done again."""
        step = agreement.step
        replicas = replicas_of(self._rank(agreement), agreement.world_size, self._plan.num_replicas)
        with self._phase("data", has_own_deadline=True):
            batches = self._loader.take(step, replicas)
        evidence, loss_sum = self._compute(step, replicas, batches)
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
        learning_rate = learning_rate_at(self._optim, step, self._plan.num_steps)
        with self._phase("optimizer"):
            self._state.apply(learning_rate, agreement.quorum_id, evidence_of_all)
        self._peers.source.forget()
        self._faults.reach("applied", step)
        self._num_failures = 0
        self._remember(agreement, step, evidence.samples, loss_sum / self._plan.num_samples_of(step), learning_rate)
        return True

    def _compute(self, step: int, replicas: range, batches: list[Batch]) -> tuple[Evidence, float]:
        """Leave the gradient of the step's mean loss, this worker's part of it, in the parameters.

        Returns the evidence of the samples and the sum of their losses (nats).
        """
        self._state.optimizer.zero_grad(set_to_none=True)
        num_samples, epoch = self._plan.num_samples_of(step), self._plan.epoch_of(step)
        evidence, loss_sum = Evidence(samples=0, sample_sum=0, pixel_sum=0), 0.0
        for replica, batch in zip(replicas, batches, strict=True):
            if not len(batch.labels):
                continue
            with self._phase("forward"):
                torch.manual_seed(_mask_seed_of(self._plan.seed, step, replica))
                evidence += evidence_of(batch.sample_ids, batch.labels, batch.pixels, epoch)
                loss = summed_loss(self._state.model, batch, self._dtype)
            with self._phase("backward"):
                (loss / num_samples).backward()
                loss_sum += float(loss.detach())
        return evidence, loss_sum

    def _close(self, agreement: Agreement) -> bool:
        """The closing quorum: the leader publishes the end, the others wait for it. False when the leader is lost."""
        leader = agreement.leader.replica_id
        if self._is_leader(agreement):
            with self._phase("close", has_own_deadline=True):
                self._publisher.publish_end(self._state)
                self._driver.finish(self._state.step)
            return True
        with self._phase("end", has_own_deadline=True):
            self._driver.wait_for_end(leader)
        return False

    def _position(self) -> Position:
        return Position(
            step=self._state.step,
            lineage=self._state.ledger.lineage,
            counted=self._counted,
            failures=self._peers.group.failures,
        )

    def _rank(self, agreement: Agreement) -> int:
        return agreement.rank_of(self._peers.membership.replica_id)

    def _is_leader(self, agreement: Agreement) -> bool:
        return agreement.leader.replica_id == self._peers.membership.replica_id

    def _deadline_seconds(self) -> float:
        slowest = self._progress.slowest_step_seconds
        return max(_LEAST_DEADLINE_SECONDS, 10 * slowest) if slowest else _FIRST_DEADLINE_SECONDS

    def _note_failure(self, agreement: Agreement, error: Exception) -> None:
        logger.info("%s: step %d again: %s", self._peers.membership.replica_id, agreement.step, error)
        self._driver.note("redone", agreement.step, f"{agreement.group_key} {error}")
        if agreement.replica_ids != self._failed_with:
            self._failed_with, self._num_failures = agreement.replica_ids, 0
        self._num_failures += 1
        if self._num_failures >= _MOST_FAILURES:
            raise WorkerError(
                f"step {agreement.step} failed {self._num_failures} times with the same workers "
                f"({', '.join(agreement.replica_ids)}); the last time: {error}"
            ) from error

    def _remember(self, agreement: Agreement, step: int, samples: int, loss: float, learning_rate: float) -> None:
        """Keep the record of the step until the step counts."""
        seconds, self._seconds = self._seconds, {}
        self._progress.step = step + 1
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
            gradient_norm=math.nan,
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


def _mask_seed_of(seed: int, step: int, replica: int) -> int:
    """A seed for the masks of one replica in one step."""
    digest = hashlib.blake2b(f"{seed} {step} {replica}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
