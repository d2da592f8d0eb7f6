"""The parameter server: it keeps the parameters of a run whose workers do not wait for each other (`async`, `hogwild`).

Sources: Downpour SGD (Dean et al., "Large scale distributed deep networks", NIPS 2012, section 4.1), with leases of
samples instead of a shard for each worker, and updates scaled by their staleness (`parallel/lease_desk.py`). With
`async` one update is applied at a time; with `hogwild` (Niu et al., arXiv 1106.5730) they are applied, and parameters
read, without a lock: single numbers of an update may be lost to another one that is applied at the same moment.
Either way the ledger holds each sample once, and a checkpoint whole updates only.

It lives in the driver: its threads call `handlers`, and the driver looks after it (`look`) several times a second.
Memory: parameters, those of a checkpoint, twice more for every worker on this host, and for each update that travels
here at the moment up to three times its size: as it comes, joined, and decoded.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, final

import torch
from torch import Tensor

from sunspark.data.order import StepPlan
from sunspark.data.rounds import Rounds
from sunspark.errors import WorkerError
from sunspark.parallel.lease_desk import LeaseDesk, Unit
from sunspark.parallel.leases import LeaseBook
from sunspark.parallel.ledger import Evidence, LedgerLine
from sunspark.parallel.rpc import ChunkReader, ChunkWriter, Handler, Reply
from sunspark.parallel.shared_lock import SharedLock
from sunspark.records import EventName
from sunspark.training.config import WorkConfig
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.mailbox import Mailbox
from sunspark.training.publisher import Publisher
from sunspark.training.state import TrainingState
from sunspark.training.validation import Evaluation, ValidationConfig, best_of, end_of, is_due
from sunspark.training.validator import Counts, evaluation_of
from sunspark.training.wire import Wire, chunks_of, gathered

_PART_SAMPLES: Final = 256


class Driver(Protocol):
    """The driver, as the server sees it."""

    def is_gone(self, replica_id: str) -> bool:
        """Whether that process will not be heard of again."""

    def note(self, replica_id: str, event: EventName, step: int, detail: str) -> None:
        """Keep an event of that process."""

    def note_update(self, step: int, num_workers: int, report: Mapping[str, float]) -> None:
        """An update was applied: the steps that are whole, who takes part, figures for a display."""

    def note_evaluation(self, evaluation: Evaluation) -> None:
        """Keep the record of an evaluation."""

    def finish(self) -> None:
        """The end of the run is published."""

    def give_up(self, cause: str) -> None:
        """The run cannot go on."""


@final
class ParameterServer:
    """Applies what workers push to `state`, each update once, until every unit is applied."""

    def __init__(
        self,
        state: TrainingState,
        plan: StepPlan,
        work: WorkConfig,
        publisher: Publisher,
        driver: Driver,
        num_classes: int,
        num_evaluated: int,
    ) -> None:
        """`state` as the run goes on from; `num_evaluated`: samples of the split that is evaluated on."""
        self._state, self._plan, self._publisher, self._driver = state, plan, publisher, driver
        self._validation: ValidationConfig = work.validation
        self._num_classes, self._num_evaluated = num_classes, num_evaluated
        self._rounds = Rounds(plan=plan, sync_every=work.strategy.steps_between_exchanges)
        self._desk = LeaseDesk(
            plan.num_replicas,
            work.strategy.staleness_bound,
            first_round=self._rounds.round_of(state.step),
            applied=self._units_applied(),
        )
        self._desk_lock = threading.Lock()
        self._weights = FlatWeights(state)
        self._wire = Wire(self._weights, work.strategy.compression)
        self._weights_lock = SharedLock()
        self._is_hogwild = work.strategy.strategy == "hogwild"
        self._applying = self._weights_lock.shared if self._is_hogwild else self._weights_lock.exclusive
        self._mailboxes: dict[str, Mailbox] = {}
        """Of workers on this host."""
        self._evaluation: LeaseBook | None = None
        """The parts of the one that is under way, and in `_counts` what was found in them."""
        self._counts = Counts.nothing(num_classes)
        self._has_ended = False
        self._end_step = state.step
        """Nothing beyond is leased yet. A state may be saved just before it is evaluated."""

    @property
    def handlers(self) -> dict[str, Handler]:
        return {
            "ask": self.ask,
            "begin": self.begin,
            "hand_in_counts": self.hand_in_counts,
            "open_mailbox": self.open_mailbox,
            "fill_mailbox": self.fill_mailbox,
            "push_shared": self.push_shared,
        }

    @property
    def chunk_readers(self) -> dict[str, ChunkReader]:
        return {"weights": self.weights}

    @property
    def chunk_writers(self) -> dict[str, ChunkWriter]:
        return {"push": self.push}

    def ask(self, replica_id: str) -> Reply:
        """What that worker is to do: train on a unit, evaluate a part of the split, or wait."""
        with self._desk_lock:
            if self._has_ended:
                return {"do": "wait"}
            if self._evaluation is not None:
                return self._part_of(self._evaluation, replica_id)
            lease = self._desk.ask(replica_id)
        if lease is None:
            return {"do": "wait"}
        steps = self._rounds.steps_of(lease.unit.round)
        return {
            "do": "train",
            "lease": lease.number,
            "begin": steps.start,
            "end": steps.stop,
            "replica": lease.unit.replica,
        }

    def begin(self, lease: int) -> Reply:
        """Whether the worker may take the parameters now: yes, wait, or void when the lease is no longer its own."""
        with self._desk_lock:
            if not self._desk.is_held(lease):
                return {"answer": "void"}
            return {"answer": "yes" if self._desk.begin(lease) else "wait"}

    def weights(self, judged: bool = False) -> Iterator[memoryview]:
        """The parameters; `judged`: those that are evaluated and kept."""
        with self._weights_lock.shared():
            numbers_N = self._weights.read_judged() if judged else self._weights.read()
        return chunks_of(numbers_N.view(torch.uint8) if judged else self._wire.pack_parameters(numbers_N))

    def push(
        self,
        chunks: Iterator[memoryview],
        replica_id: str,
        lease: int,
        evidences: Sequence[Sequence[int]],
        report: Mapping[str, float],
    ) -> Reply:
        """Apply an update; `evidences`: what was seen of each step of the unit, as `Evidence.to_array` gives it."""
        return self._apply(self._wire.unpack_update(gathered(chunks)), replica_id, lease, evidences, report)

    def open_mailbox(self, replica_id: str) -> Reply:
        """Memory for that worker's parameters and changes, if it is on this host: what it needs to open it."""
        mailbox = Mailbox.create(self._weights)
        if mailbox is None:
            return {"ticket": ""}
        self._mailboxes[replica_id] = mailbox
        return {"ticket": mailbox.ticket}

    def fill_mailbox(self, replica_id: str, judged: bool) -> Reply:
        """As `weights`, into that worker's memory."""
        if (mailbox := self._mailboxes.get(replica_id)) is None:
            raise WorkerError(f"{replica_id} shares no memory with the parameter server: it is thought to be gone")
        with self._weights_lock.shared():
            if judged:
                self._weights.read_judged(mailbox.parameters_N)
            else:
                self._weights.read(mailbox.parameters_N)
        return {}

    def push_shared(
        self, replica_id: str, lease: int, evidences: Sequence[Sequence[int]], report: Mapping[str, float]
    ) -> Reply:
        """As `push`, with the change in that worker's memory."""
        if (mailbox := self._mailboxes.get(replica_id)) is None:
            return {"answer": "void"}
        return self._apply(mailbox.change_N, replica_id, lease, evidences, report)

    def _apply(
        self,
        change_N: Tensor,
        replica_id: str,
        lease: int,
        evidences: Sequence[Sequence[int]],
        report: Mapping[str, float],
    ) -> Reply:
        with self._applying():
            with self._desk_lock:
                accepted = self._desk.push(
                    replica_id, lease, settles=not self._is_hogwild
                )  # else nobody reads meanwhile
                num_workers = len(self._desk.holders | {replica_id})
            if accepted is None:
                return {"answer": "void"}
            if not accepted.is_repeated:
                with self._ends_run_if_it_fails():
                    self._weights.add(change_N, accepted.scale)
                    self._account(accepted.unit, [Evidence.from_array(sums) for sums in evidences])
                with self._desk_lock:
                    self._desk.settle(lease)
        self._driver.note_update(self._state.step, num_workers, report)
        return {"answer": "applied", "workers": num_workers}

    def hand_in_counts(self, part: int, step: int, per_class: Sequence[Sequence[int]], loss: float) -> Reply:
        """Take what was counted in a part of the split with the weights after `step` steps; the first one counts."""
        with self._desk_lock:
            if self._evaluation is not None and step == self._state.step:
                self._evaluation.hand_in(part, {"per_class": per_class, "loss": loss})
        return {}

    def look(self) -> None:
        """Do what is due: free leases, evaluate, write checkpoints, end. Raises when storage does not take the end."""
        self._release_lost()
        if self._has_ended:
            return
        self._close_evaluation()
        if self._publisher.is_due(self._state):
            with self._weights_lock.exclusive():  # the best state before anybody trains on
                self._publisher.publish_when_due(self._state)
        if self._state.step == self._end_step and self._evaluation is None:
            self._evaluate_or_go_on()

    def save(self) -> None:
        """Write a checkpoint of what is applied and not on storage yet: the run ends before its time."""
        with self._weights_lock.exclusive():
            if self._desk.version and not self._has_ended and not self._would_replace_the_best():
                self._publisher.publish_now(self._state)

    def _would_replace_the_best(self) -> bool:
        """Whether a checkpoint would take the place of the best state, which it has moved on from without a step."""
        best = best_of(self._state.evaluations)
        is_there = best is not None and best.step == self._state.step
        return self._validation.keep == "best" and is_there and bool(self._state.open_steps)

    def _units_applied(self) -> set[Unit]:
        """Of rounds that are not whole."""
        parts = self._state.open_steps
        return {
            Unit(round=self._rounds.round_of(step), replica=replica)
            for step in parts.steps
            for replica in parts.replicas_of(step)
        }

    def _account(self, unit: Unit, evidences: Sequence[Evidence]) -> None:
        """Write down what is applied; steps that are whole now become lines of the ledger."""
        state, steps = self._state, self._rounds.steps_of(unit.round)
        with state.lock:
            state.move_average(len(steps) / self._plan.num_replicas)
            state.open_steps.add(unit.replica, dict(zip(steps, evidences, strict=True)))
            while (whole := state.open_steps.take_whole(state.step, self._plan.num_replicas)) is not None:
                state.ledger.append(LedgerLine(step=state.step, quorum_id=self._desk.version, evidence=whole))
                state.statistics.count(1)

    @contextlib.contextmanager
    def _ends_run_if_it_fails(self) -> Iterator[None]:
        """Half an update must not be trained on, nor saved."""
        try:
            yield
        except Exception as error:
            self._has_ended = True
            self._driver.give_up(f"the parameter server could not apply an update: {type(error).__name__}: {error}")
            raise

    def _release_lost(self) -> None:
        for replica_id in filter(self._driver.is_gone, list(self._mailboxes)):
            del self._mailboxes[replica_id]
        with self._desk_lock:
            holders = self._desk.holders
            evaluating = self._evaluation.holders if self._evaluation else set()
        for holder in filter(self._driver.is_gone, evaluating):
            with self._desk_lock:
                if self._evaluation:
                    self._evaluation.give_back(holder)
        for holder in filter(self._driver.is_gone, holders):
            with self._desk_lock:
                units = self._desk.release(holder)
            for unit in units:
                steps = self._rounds.steps_of(unit.round)
                what = f"replica {unit.replica} of steps {steps.start} to {steps.stop - 1}, which a lost worker had"
                self._driver.note(holder, "redone", steps.start, f"{holder}/{unit.replica} {what}")

    def _close_evaluation(self) -> None:
        """Write down what was found, once all parts are counted."""
        with self._desk_lock:
            if self._evaluation is None or not self._evaluation.is_complete:
                return
            self._evaluation = None
        evaluation = evaluation_of(self._counts, self._state.step, self._validation.split)
        self._state.add_evaluation(evaluation)
        self._driver.note_evaluation(evaluation)

    def _evaluate_or_go_on(self) -> None:
        state, plan = self._state, self._plan
        if is_due(self._validation, state.evaluations, state.step, plan.steps_per_epoch, plan.num_steps):
            num_parts = max(1, -(-self._num_evaluated // _PART_SAMPLES))
            with self._desk_lock:
                self._counts = Counts.nothing(self._num_classes)
                self._evaluation = LeaseBook(ranges=[(part, part + 1) for part in range(num_parts)], count=self._count)
        elif state.step == end_of(self._validation, state.evaluations, plan.num_steps):
            with self._weights_lock.exclusive():
                self._publisher.publish_end_patiently(state)
            self._has_ended = True
            self._driver.finish()
        else:
            self._move_end()

    def _move_end(self) -> None:
        """Lease until the next evaluation; it belongs to a state between two epochs."""
        every, end = self._validation.eval_every * self._plan.steps_per_epoch, self._plan.num_steps
        self._end_step = min(end, (self._state.step // every + 1) * every) if every else end
        with self._desk_lock:
            self._desk.end_round = self._rounds.round_of(self._end_step - 1) + 1

    def _part_of(self, evaluation: LeaseBook, replica_id: str) -> Reply:
        leased = evaluation.lease(replica_id, time.monotonic())
        if leased is None:
            return {"do": "wait"}
        return {"do": "evaluate", "part": leased[0], "num_parts": len(evaluation.ranges), "step": self._state.step}

    def _count(self, found: dict[str, Any]) -> None:
        self._counts.per_class.add_(torch.tensor(found["per_class"]))
        self._counts.loss.add_(found["loss"])
