"""Laws of the parameter server: alone it is serial training; whoever dies, comes back or repeats itself, once is once.

Workers are hands in this process that a test moves one at a time; between them and the server are real calls.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader
from sunspark.errors import WorkerError
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.parallel.compression import CompressedUpdates, Int8, decoded
from sunspark.parallel.membership import replica_id_of
from sunspark.parallel.rpc import RpcClient, RpcServer
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.loss import Loss
from sunspark.training.parameter_server import ParameterServer
from sunspark.training.server_link import ServerLink, Task
from sunspark.training.state import TrainingState
from sunspark.training.strategies.build import build_local_steps, build_server_state
from sunspark.training.strategies.strategy import Share
from sunspark.training.validation import Evaluation
from sunspark.training.verify import _expected, _wrong_samples
from sunspark.training.wire import Wire, chunks_of
from tests.distributed.laws import NUM_CLASSES
from tests.training.table import Clock
from tests.training.test_strategies import ADAM, RESNET, SCENE_VGG, SGD, distance, model_of, trained, work_of

pytestmark = pytest.mark.timeout(240)

MOMENTUM = OptimConfig(optimizer="sgd", learning_rate=0.02, momentum=0.9, schedule="cosine", warmup_fraction=0.1)
ALONE = {"strategy": "async", "sync_every": 1, "staleness_bound": 0}


class Office:
    """The driver, as far as the server sees it, and a publisher that keeps nothing."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.events: list[str] = []
        self.has_finished = False
        self.cause = ""

    def is_gone(self, replica_id: str) -> bool:
        return replica_id in self.gone

    def note(self, _replica_id: str, event: str, _step: int, _detail: str) -> None:
        self.events.append(event)

    def note_update(self, step: int, num_workers: int, report: Mapping[str, float]) -> None:
        assert step >= 0
        assert num_workers >= 1
        assert report["loss"] > 0

    def note_evaluation(self, evaluation: Evaluation) -> None:
        raise AssertionError(evaluation)

    def finish(self) -> None:
        self.has_finished = True

    def give_up(self, cause: str) -> None:
        self.cause = cause

    def publish_when_due(self, state: TrainingState) -> None:
        """The tests take snapshots themselves."""

    def publish_end(self, state: TrainingState) -> None:
        """Nothing is read back."""


class Hand:
    """One worker process."""

    def __init__(self, table: "ServerTable", worker: int, incarnation: int = 1) -> None:
        work, opened = table.work, table.opened
        self.replica_id = replica_id_of(worker, incarnation)
        self.loader = Loader(opened, table.plan, work.data, 1)
        loss = Loss(work.loss, [1] * NUM_CLASSES)
        self.state, self.steps = build_local_steps(model_of(work), work, table.plan, self.loader, loss)
        self.weights = FlatWeights(self.state)
        wire = Wire(self.weights, work.strategy.compression)
        self.link = ServerLink(table.client, self.replica_id, self.weights, wire)
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
                self.steps.take(step, self.task.replica, self.share, Clock())
        else:
            self.push()
            self.task = self.share = None
        return True

    def push(self) -> bool:
        assert self.task is not None
        assert self.share is not None
        change = self.weights.read().sub_(self.start)
        return self.link.push(self.task, change, self.share.evidences, {"loss": 1.0}, lambda: None)


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
        hand = Hand(self, worker, incarnation)
        self.hands.append(hand)
        return hand

    def leave(self, hand: Hand) -> None:
        """The process dies, and the driver hears of it."""
        hand.loader.close()
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
            hand.loader.close()
        table.client.close()
        table.rpc.shutdown()


# --- what equals what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "optim", "model"),
    [
        (ALONE, MOMENTUM, SCENE_VGG),
        (ALONE, ADAM, RESNET),
        ({"strategy": "hogwild", "sync_every": 4}, ADAM, SCENE_VGG),
        ({"strategy": "async", "sync_every": "epoch"}, MOMENTUM, RESNET),
    ],
    ids=["momentum", "adam, batch norm", "hogwild", "epoch"],
)
def test_one_worker_trains_as_one_alone(
    law_dataset: str, strategy: dict[str, Any], optim: OptimConfig, model: Any
) -> None:
    work = work_of(strategy, optim=optim, model=model, replicas=1)
    serial = trained(law_dataset, work_of({"strategy": "serial"}, optim=optim, model=model, replicas=1))
    with server_table(law_dataset, work) as table:
        table.sit(0)
        state = table.train()
    assert distance(state, serial) <= 1e-9
    assert state.ledger.lines[-1].evidence == serial.ledger.lines[-1].evidence


def test_two_workers_do_not(law_dataset: str) -> None:
    """So the law above can fail."""
    serial = trained(law_dataset, work_of({"strategy": "serial"}, optim=MOMENTUM, replicas=1))
    work = work_of({"strategy": "async", "sync_every": 1}, optim=MOMENTUM, replicas=1)
    with server_table(law_dataset, work) as table:
        table.sit(0)
        table.sit(1)
        state = table.train()
        table.assert_exactly_once()
    assert distance(state, serial) > 1e-6


# --- who dies, who comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["async", "hogwild"])
def test_whoever_dies_or_comes_back_every_sample_is_applied_once(
    law_dataset: str, strategy: str, dice: random.Random
) -> None:
    work = work_of({"strategy": strategy, "sync_every": 3, "staleness_bound": 6}, optim=SGD, replicas=3, epochs=2)
    with server_table(law_dataset, work) as table:
        incarnations = [1, 1, 1]
        for worker in range(3):
            table.sit(worker)
        zombies: list[Hand] = []
        deaths = 0
        while not table.office.has_finished:
            hand = dice.choice(table.hands)
            if deaths < 5 and dice.random() < 0.08:
                deaths += 1
                if hand.share is not None:
                    zombies.append(hand)
                table.leave(hand)
                worker = int(hand.replica_id.split(".")[0])
                incarnations[worker] += 1
                table.sit(worker, incarnations[worker])
            elif zombies and dice.random() < 0.2:
                before = FlatWeights(table.state).read()
                assert not zombies.pop().push(), "its lease is void"
                assert torch.equal(FlatWeights(table.state).read(), before)
            else:
                hand.move()
            table.server.look()
        table.assert_exactly_once()


def test_a_push_whose_reply_was_lost_is_repeated_and_applied_once(law_dataset: str) -> None:
    with server_table(law_dataset, work_of({"strategy": "async", "sync_every": 2}, optim=SGD, replicas=2)) as table:
        hand = table.sit(0)
        for _ in range(2):
            hand.move()
        assert hand.push()
        weights = FlatWeights(table.state).read()
        assert hand.push()
        assert torch.equal(FlatWeights(table.state).read(), weights)
        hand.task = hand.share = None
        table.train()
        table.assert_exactly_once()


def test_an_update_that_is_not_whole_changes_nothing_and_may_come_again(law_dataset: str) -> None:
    with server_table(law_dataset, work_of({"strategy": "async", "sync_every": 2}, optim=SGD, replicas=2)) as table:
        hand = table.sit(0)
        for _ in range(2):
            hand.move()
        assert hand.task is not None
        before, half = FlatWeights(table.state).read(), torch.zeros(1000, dtype=torch.uint8)
        arguments: dict[str, Any] = {"replica_id": hand.replica_id, "lease": hand.task.lease, "evidences": []}
        with pytest.raises(WorkerError, match="1000 bytes came"):
            table.client.write_chunks("push", chunks_of(half), timeout_seconds=10, report={}, **arguments)
        assert torch.equal(FlatWeights(table.state).read(), before)
        assert hand.push()


def test_a_checkpoint_between_two_parts_of_a_step_goes_on_with_the_other(law_dataset: str) -> None:
    """Without memory in the optimizer, bit for bit."""
    work = work_of({"strategy": "async", "sync_every": 2}, optim=SGD, replicas=2)
    with server_table(law_dataset, work) as table:
        hand = table.sit(0)
        for _ in range(3 * 5):
            hand.move()
        assert table.state.open_steps, "one of two replicas of a round is applied"
        saved = table.state.snapshot().body
        undisturbed = FlatWeights(table.train()).read()
    with server_table(law_dataset, work, resume=saved) as table:
        table.sit(7)
        assert torch.equal(FlatWeights(table.train()).read(), undisturbed)
        table.assert_exactly_once()


# --- compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "most_up"), [("bf16", 0.51), ("int8", 0.27)])
def test_compressed_updates_are_as_small_as_they_are_said_to_be(
    law_dataset: str, compression: str, most_up: float
) -> None:
    model = ModelConfig(model_args={"n_filters": 8, "wide_units": 64})
    work = work_of({"strategy": "async", "sync_every": 8, "compression": compression}, model=model, replicas=1)
    with server_table(law_dataset, work) as table:
        weights = FlatWeights(table.state)
        wire = Wire(weights, work.strategy.compression)
        numbers = torch.randn(weights.size, dtype=weights.dtype)
        assert len(wire.pack_update(numbers)) <= most_up * 4 * weights.size
        assert len(wire.pack_parameters(numbers)) <= 0.51 * 4 * weights.size
        table.sit(0)
        table.train()
        table.assert_exactly_once()


def test_what_an_update_loses_is_in_the_next_one() -> None:
    torch.manual_seed(0)
    updates, codec = CompressedUpdates(1000, Int8()), Int8()
    true_sum, arrived, arrived_without = torch.zeros(1000), torch.zeros(1000), torch.zeros(1000)
    for _ in range(100):
        update = torch.randn(1000) * 0.01 + 0.0001
        true_sum += update
        arrived += decoded(updates.encode(update), 1000, codec)
        updates.commit()
        arrived_without += decoded(CompressedUpdates(1000, codec).encode(update), 1000, codec)
    assert (arrived - true_sum).abs().max() <= 0.0004, "one last rounding"
    assert (arrived_without - true_sum).abs().max() > 0.0008
