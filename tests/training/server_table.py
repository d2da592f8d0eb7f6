"""A parameter server and workers in one process, which a test moves one at a time; between them are real calls."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader
from sunspark.parallel.membership import replica_id_of
from sunspark.parallel.rpc import RpcClient, RpcServer
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.loss import Loss
from sunspark.training.parameter_server import ParameterServer
from sunspark.training.server_link import ServerLink, Task
from sunspark.training.state import TrainingState
from sunspark.training.strategies.build import build_local_steps, build_server_state
from sunspark.training.strategies.local_steps import LocalSteps
from sunspark.training.strategies.strategy import Share
from sunspark.training.validation import Evaluation
from sunspark.training.verify import _expected, _wrong_samples
from sunspark.training.wire import Wire
from tests.distributed.laws import NUM_CLASSES
from tests.training.table import Clock
from tests.training.test_strategies import model_of


class Office:
    """The driver, as far as the server sees it, and a publisher that keeps nothing."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.events: list[str] = []
        self.has_finished = False
        self.cause = ""
        self.evaluations: list[Evaluation] = []
        self.num_saved = 0
        self.when_published: Callable[[], None] = lambda: None

    def is_gone(self, replica_id: str) -> bool:
        return replica_id in self.gone

    def note(self, _replica_id: str, event: str, _step: int, _detail: str) -> None:
        self.events.append(event)

    def note_update(self, step: int, num_workers: int, report: Mapping[str, float]) -> None:
        assert step >= 0
        assert num_workers >= 1
        assert report["loss"] > 0

    def note_evaluation(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    def finish(self) -> None:
        self.has_finished = True

    def give_up(self, cause: str) -> None:
        self.cause = cause

    def is_due(self, _state: TrainingState) -> bool:
        return True

    def publish_when_due(self, _state: TrainingState) -> None:
        """The tests take snapshots themselves."""
        self.when_published()

    def publish_now(self, _state: TrainingState) -> None:
        self.num_saved += 1

    def publish_end_patiently(self, state: TrainingState) -> None:
        """Nothing is read back."""


class Hand:
    """One worker process."""

    def __init__(
        self,
        client: RpcClient,
        replica_id: str,
        state: TrainingState,
        steps: LocalSteps,
        work: WorkConfig,
        *,
        may_share_memory: bool = False,
    ) -> None:
        self.replica_id = replica_id
        self.steps = steps
        self.weights = FlatWeights(state)
        wire = Wire(self.weights, work.strategy.compression)
        self.link = ServerLink(client, replica_id, self.weights, wire, may_share_memory=may_share_memory)
        self.task: Task | None = None
        self.share: Share | None = None
        self.start = torch.empty(0)

    def move(self) -> bool:
        """Do what comes next: lease and pull, train, or push. False when there is nothing to do now."""
        if self.task is None:
            task = self.link.ask()
            if not isinstance(task, Task) or self.link.begin(task) != "yes":
                return False
            self.task, self.start = task, self.link.pull()
            self.weights.write(self.start)
        elif self.share is None:
            self.share = Share.empty(self.task.steps)
            for step in self.task.steps:
                self.steps.take(step, self.task.replica, self.share, Clock().phase)
        else:
            self.push()
            self.task = self.share = None
        return True

    def push(self) -> int:
        assert self.task is not None
        assert self.share is not None
        self.weights.change_since(self.start, self.link.outbox_N)
        return self.link.push(self.task, self.share.evidences, {"loss": 1.0})


class ServerTable:
    """A server behind a real port, and hands that a test moves."""

    def __init__(self, dataset: str, work: WorkConfig, resume: bytearray | None = None) -> None:
        self.work, self.opened = work, Dataset.open(dataset)
        self.plan = plan_of(self.opened, work)
        self.state = build_server_state(model_of(work), work)
        if resume is not None:
            self.state.load(resume, "what was saved")
        self.office = Office()
        self.server = ParameterServer(
            self.state,
            self.plan,
            work,
            self.office,
            self.office,
            num_classes=NUM_CLASSES,
            num_evaluated=0,  # type: ignore[arg-type]
        )
        server = self.server
        self.rpc = RpcServer("127.0.0.1", 0, "t", server.handlers, server.chunk_readers, server.chunk_writers)
        self.client = RpcClient(self.rpc.uri, "t")
        self.hands: list[Hand] = []
        server.look()

    def sit(self, worker: int, incarnation: int = 1) -> Hand:
        """A new process of the worker; the odd ones share memory with the server."""
        loader = Loader(self.opened, self.plan, self.work.data, 1)
        loss = Loss(self.work.loss, [1] * NUM_CLASSES)
        state, steps = build_local_steps(model_of(self.work), self.work, self.plan, loader, loss)
        name, shares = replica_id_of(worker, incarnation), worker % 2 == 1
        hand = Hand(self.client, name, state, steps, self.work, may_share_memory=shares)
        self.hands.append(hand)
        return hand

    def leave(self, hand: Hand) -> None:
        """The process dies, and the driver hears of it."""
        hand.steps.loader.close()
        self.hands.remove(hand)
        self.office.gone.add(hand.replica_id)
        self.server.look()

    def train(self) -> TrainingState:
        """To the end, one hand after the other."""
        while not self.office.has_finished:
            for hand in self.hands:
                hand.move()
            self.server.look()
        return self.state

    def assert_exactly_once(self) -> None:
        lines = self.state.ledger.lines
        expected = [_expected(self.plan, self.opened, step, frozenset(), ()) for step in range(self.plan.num_steps)]
        assert len(lines) == self.plan.num_steps
        assert not list(_wrong_samples(lines, expected))
        assert not self.state.open_steps


@contextmanager
def server_table(dataset: str, work: WorkConfig, resume: bytearray | None = None) -> Iterator[ServerTable]:
    table = ServerTable(dataset, work, resume)
    try:
        yield table
    finally:
        for hand in table.hands:
            hand.steps.loader.close()
        table.client.close()
        table.rpc.shutdown()
