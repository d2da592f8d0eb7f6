"""Workers around a table: real states and strategies in one process, whose quorums and sums a test plays by hand.

What a network, a quorum and a group do between processes is done here by a loop, so that a test can have any
interleaving: members are called away after any number of steps, die, come back, or miss an exchange that others had.
"""

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader
from sunspark.data.order import StepPlan
from sunspark.parallel.membership import Agreement, Member, Position, replica_id_of
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.loss import Loss
from sunspark.training.state import TrainingState
from sunspark.training.strategies.build import build_strategy
from sunspark.training.strategies.strategy import Share, Strategy


class Clock:
    """Calls its member away after `budget` steps, if there is one."""

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self.steps: list[int] = []
        self.redone: list[int] = []
        self.unsaved: list[str] = []

    def phase(self, phase: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002 - nobody looks at the time
        return contextlib.nullcontext()

    def at(self, step: int) -> None:
        self.steps.append(step)

    def before_last_backward(self) -> None:
        """Sums wait for `Table.exchange`."""

    def is_called(self) -> bool:
        return self.budget is not None and len(self.steps) >= self.budget

    def note_redone(self, replicas: Sequence[int]) -> None:
        self.redone += replicas

    def note_unsaved(self, cause: str) -> None:
        self.unsaved.append(cause)


def summands(state: TrainingState) -> list[nn.Parameter]:
    """Everything whose `grad` is summed over the workers."""
    return [*state.staged(), *state.trained()]


@dataclass
class Seat:
    """One worker process."""

    worker: int
    incarnation: int
    state: TrainingState
    strategy: Strategy
    loader: Loader
    failures: int = 0

    @property
    def replica_id(self) -> str:
        return replica_id_of(self.worker, self.incarnation)

    @property
    def position(self) -> Position:
        return Position(
            step=self.state.step,
            lineage=self.state.lineage,
            counted=0,
            failures=self.failures,
            held=self.strategy.held(),
        )


class Table:
    """The members of a training, in one process."""

    def __init__(self, dataset: str, work: WorkConfig, model: nn.Module, run: str) -> None:
        self.dataset = Dataset.open(dataset)
        self.work = work
        self.plan: StepPlan = plan_of(self.dataset, work)
        self.run = run
        self._model = model
        self._incarnations: dict[int, int] = {}
        self._quorum_id = 0
        self.seats: list[Seat] = []

    def sit(self, worker: int) -> Seat:
        """A new process of the worker, at step 0; it recovers at the next quorum."""
        self._incarnations[worker] = self._incarnations.get(worker, 0) + 1
        loader = Loader(self.dataset, self.plan, self.work.data, 1)
        loss = Loss(self.work.loss, [1] * len(self.dataset.classes))
        state, strategy = build_strategy(copy.deepcopy(self._model), self.work, self.plan, loader, loss, self.run)
        seat = Seat(worker, self._incarnations[worker], state, strategy, loader)
        self.seats = sorted([*self.seats, seat], key=lambda one: one.replica_id)
        return seat

    def leave(self, seat: Seat) -> None:
        """The process dies, and all that it held with it."""
        seat.loader.close()
        self.seats.remove(seat)

    def agree(self) -> Agreement:
        """A quorum of all who are there; whoever is behind takes over the leader's state."""
        self._quorum_id += 1
        members = tuple(Member(replica_id=s.replica_id, address="", position=s.position) for s in self.seats)
        agreement = Agreement(quorum_id=self._quorum_id, members=members)
        leader = self.seats[agreement.rank_of(agreement.leader.replica_id)]
        for seat, member in zip(self.seats, members, strict=True):
            if not agreement.is_current(member):
                seat.state.load(leader.state.snapshot().body, "the leader's state")
        return agreement

    def compute(self, agreement: Agreement, clocks: Sequence[Clock]) -> list[Share | None]:
        return [
            seat.strategy.compute(agreement, rank, clock)
            for rank, (seat, clock) in enumerate(zip(self.seats, clocks, strict=True))
        ]

    def exchange(self, agreement: Agreement, shares: Sequence[Share], applies: Callable[[Seat], bool]) -> None:
        """Sum as an all-reduce does; those of whom `applies` is true apply it, the others still have their own."""
        total = shares[0].copy()
        for share in shares[1:]:
            total += share
        gradients = [[summand.grad for summand in summands(seat.state)] for seat in self.seats]
        sums = [torch.stack([g for g in column if g is not None]).sum(0) for column in zip(*gradients, strict=True)]
        for seat in self.seats:
            if not applies(seat):
                seat.failures += 1
                continue
            for summand, one in zip(summands(seat.state), sums, strict=True):
                summand.grad = torch.empty_like(summand)  # with its layout, as fused optimizers want it
                summand.grad.copy_(one)
            seat.strategy.apply(total.copy(), agreement.quorum_id)

    def train(self) -> TrainingState:
        """To the end, with nothing happening."""
        while self.seats[0].state.step < self.plan.num_steps:
            agreement = self.agree()
            shares = self.compute(agreement, [Clock() for _ in self.seats])
            self.exchange(agreement, [share for share in shares if share is not None], lambda _: True)
        return self.seats[0].state


@contextlib.contextmanager
def table(dataset: str, work: WorkConfig, model: nn.Module, workers: int, run: str | None = None) -> Iterator[Table]:
    """A table with so many workers at it; `run`: the folder that they work on, if it is to outlive them."""
    with tempfile.TemporaryDirectory() as folder:
        opened = Table(dataset, work, model, run or folder)
        try:
            for worker in range(workers):
                opened.sit(worker)
            yield opened
        finally:
            for seat in list(opened.seats):
                opened.leave(seat)
