"""Laws of the parameter server: alone it is serial training; whoever dies, comes back or repeats itself, once is once.

Workers are hands in this process that a test moves one at a time; between them and the server are real calls.
"""

import contextlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import pytest
import torch

from sunspark.errors import WorkerError
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.parallel.codec import CompressedUpdates, Int8, decoded
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.server_link import Task
from sunspark.training.validation import Evaluation, ValidationConfig
from sunspark.training.wire import Wire, chunks_of
from tests.distributed.laws import NUM_CLASSES
from tests.training.server_table import Hand, server_table
from tests.training.test_strategies import ADAM, RESNET, SCENE_VGG, SGD, distance, trained, work_of

pytestmark = pytest.mark.timeout(240)

MOMENTUM = OptimConfig(optimizer="sgd", learning_rate=0.02, momentum=0.9, schedule="cosine", warmup_fraction=0.1)
ALONE = {"strategy": "async", "sync_every": 1, "staleness_bound": 0}


# --- what equals what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "strategy", "optim", "model"),
    [
        (0, ALONE, MOMENTUM, SCENE_VGG),
        (1, ALONE, ADAM, RESNET),
        (0, {"strategy": "hogwild", "sync_every": 4}, ADAM, SCENE_VGG),
        (1, {"strategy": "async", "sync_every": "epoch"}, MOMENTUM, RESNET),
    ],
    ids=["momentum", "adam, batch norm, shared memory", "hogwild", "epoch, shared memory"],
)
def test_one_worker_trains_as_one_alone(
    law_dataset: str, worker: int, strategy: dict[str, Any], optim: OptimConfig, model: Any
) -> None:
    work = work_of(strategy, optim=optim, model=model, replicas=1)
    serial = trained(law_dataset, work_of({"strategy": "serial"}, optim=optim, model=model, replicas=1))
    with server_table(law_dataset, work) as table:
        table.sit(worker)
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


@contextlib.contextmanager
def an_update_is_being_applied(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That of `hand`: it does not get further meanwhile, and then to its end."""
    for _ in range(2):
        hand.move()
    has_come, may_go, add = threading.Event(), threading.Event(), FlatWeights.add

    def held(weights: FlatWeights, change_N: torch.Tensor, scale: float) -> None:
        has_come.set()
        assert may_go.wait(30)
        add(weights, change_N, scale)

    monkeypatch.setattr(FlatWeights, "add", held)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(hand.push)
        assert has_come.wait(30)
        yield
        may_go.set()
        assert pushing.result(30) == 1


@pytest.mark.parametrize("strategy", ["async", "hogwild"])
def test_nobody_within_the_bound_takes_parameters_that_lack_an_update(
    law_dataset: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of({"strategy": strategy, "sync_every": 2, "staleness_bound": 0}, optim=SGD, replicas=2)
    with server_table(law_dataset, work) as table, ThreadPoolExecutor(1) as pool:
        one, other = table.sit(0), table.sit(2)
        with an_update_is_being_applied(one, monkeypatch):
            task = other.link.ask()
            assert isinstance(task, Task)
            if strategy == "hogwild":  # which would not wait when it pulls
                assert other.link.begin(task) == "wait"
            else:
                assert other.link.begin(task) == "yes"
                pulling = pool.submit(other.link.pull)
                assert not wait([pulling], timeout=0.3).done
        assert other.link.begin(task) == "yes"
        pulled = other.link.pull() if strategy == "hogwild" else pulling.result(30)
        assert torch.equal(pulled, FlatWeights(table.state).read())


def test_a_checkpoint_of_hogwild_holds_whole_updates_only(law_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_of({"strategy": "hogwild", "sync_every": 2}, optim=SGD, replicas=2)
    with server_table(law_dataset, work) as table, ThreadPoolExecutor(1) as pool:
        one, other = table.sit(0), table.sit(2)
        for _ in range(3):
            other.move()  # there is something to save
        with an_update_is_being_applied(one, monkeypatch):
            saving = pool.submit(table.server.save)
            assert not wait([saving], timeout=0.3).done
        saving.result(30)
        assert table.office.num_saved == 1


def test_memory_that_the_worker_has_not_heard_of_is_not_used(law_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push fails; the server has other memory for the next attempt, but the reply that names it is lost."""
    with server_table(law_dataset, work_of({"strategy": "async", "sync_every": 2}, optim=SGD, replicas=2)) as table:
        hand = table.sit(1)
        for _ in range(2):
            hand.move()
        call, lost = table.client.call, ["push_shared", "open_mailbox"]

        def lossy(name: str, **arguments: Any) -> Any:
            if lost and name == lost[0]:
                lost.pop(0)
                if name == "open_mailbox":
                    call(name, **arguments)
                raise WorkerError(f"{name} was lost")
            return call(name, **arguments)

        monkeypatch.setattr(table.client, "call", lossy)
        before = FlatWeights(table.state).read()
        hand.weights.change_since(hand.start, change_N := hand.weights.empty())
        assert hand.push()
        assert not lost
        moved_N = FlatWeights(table.state).read() - before
        torch.testing.assert_close(moved_N, change_N)
        torch.testing.assert_close(hand.link.pull(), FlatWeights(table.state).read())


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


def test_no_variance_of_a_batch_norm_is_negative_when_all_start_at_once(law_dataset: str) -> None:
    """Each has seen the first, large variance go; taking that away once for each would leave less than nothing."""
    work = work_of({"strategy": "async", "sync_every": "epoch"}, optim=SGD, model=RESNET, replicas=4)
    with server_table(law_dataset, work) as table:
        hands = [table.sit(2 * worker) for worker in range(4)]
        for hand in (*hands, *hands, *hands):
            assert hand.move()
        variances = [v for name, v in table.state.weights().items() if name.endswith("running_var")]
        assert variances
        assert all(float(v.min()) >= 0 for v in variances), min(float(v.min()) for v in variances)


# --- evaluations ------------------------------------------------------------------------------------------------------

EVALUATED = ValidationConfig(eval_every=1, eval_split="train", keep="best")
COUNTED: dict[str, Any] = {"part": 0, "per_class": [[1] * NUM_CLASSES] * 3, "loss": 1.0}


def test_the_best_state_is_published_before_anybody_trains_on(law_dataset: str) -> None:
    work = work_of({"strategy": "async", "sync_every": "epoch"}, optim=SGD, replicas=1, epochs=2)
    with server_table(law_dataset, replace(work, validation=EVALUATED)) as table:
        hand, server, told = table.sit(0), table.server, []
        table.office.when_published = lambda: told.append(server.ask("9.1")["do"])
        while table.state.step == 0:
            hand.move()
        server.look()
        assert server.ask("1.1") == server.ask("1.1"), "the first reply was lost"
        server.hand_in_counts(step=table.state.step, **COUNTED)
        server.look()
        assert [evaluation.top1 for evaluation in table.office.evaluations] == [1.0]
        assert set(told) == {"wait"}
        assert server.ask("9.1")["do"] == "train"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_that_is_stopped_does_not_replace_the_best_state_by_one_that_has_moved_on(
    law_dataset: str, keep: Any
) -> None:
    work = work_of({"strategy": "async", "sync_every": "epoch"}, optim=SGD, replicas=2)
    with server_table(law_dataset, replace(work, validation=replace(EVALUATED, keep=keep))) as table:
        table.state.add_evaluation(Evaluation(step=0, samples=1, top1=1.0, top5=1.0, mean_per_class=1.0, loss=1.0))
        hand = table.sit(0)
        for _ in range(3):
            hand.move()
        assert table.state.open_steps
        table.server.save()
        assert table.office.num_saved == (keep == "last")


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
