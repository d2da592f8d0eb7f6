"""Golden histories: the weights after every exchange of each strategy, on a tiny network with gradients that are given.

They are kept in `golden_histories.json`. Whoever changes them on purpose writes them anew with
SUNSPARK_WRITE_GOLDEN=1, and reads the difference.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sunspark.data.order import StepPlan
from sunspark.optim import OptimConfig
from sunspark.parallel.ledger import Evidence
from sunspark.parallel.membership import Agreement, Member, Position
from sunspark.parallel.rpc import RpcClient, RpcServer
from sunspark.training.config import TrainingConfig, WorkConfig
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.parameter_server import ParameterServer
from sunspark.training.state import TrainingState
from sunspark.training.strategies import build
from sunspark.training.strategies.build import build_local_steps, build_server_state, build_strategy
from sunspark.training.strategies.config import StrategyConfig
from tests.training.server_table import Hand, Office
from tests.training.table import Clock

GOLDEN = Path(__file__).with_name("golden_histories.json")

PLAN = StepPlan(
    dataset_id="none", split="train", seed=0, num_samples=27, global_batch_size=6, num_epochs=2, num_replicas=2
)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "serial, sgd": ("sgd", {"strategy": "serial"}),
    "all_reduce, adam": ("adam", {}),
    "local_sgd, sgd": ("sgd", {"strategy": "local_sgd", "sync_every": 2}),
    "local_sgd, adam, average": ("adam", {"strategy": "local_sgd", "sync_every": 3}),
    "local_sgd, adam, reset": ("adam", {"strategy": "local_sgd", "sync_every": 3, "inner_state": "reset"}),
    "local_sgd, adam, keep": ("adam", {"strategy": "local_sgd", "sync_every": 3, "inner_state": "keep"}),
    "local_sgd, epoch": ("sgd", {"strategy": "local_sgd", "sync_every": "epoch"}),
    "diloco, adam": ("adam", {"strategy": "diloco", "sync_every": 3}),
    "diloco, no momentum": ("sgd", {"strategy": "diloco", "sync_every": 2, "outer_momentum": 0.0}),
    "async, sgd": ("sgd", {"strategy": "async", "sync_every": 2}),
    "async, adam": ("adam", {"strategy": "async", "sync_every": 1, "staleness_bound": 3}),
    "hogwild, adam": ("adam", {"strategy": "hogwild", "sync_every": "epoch"}),
}


class GivenGradients:
    """In the place of a Computation: the gradient of a slice is a function of step and replica."""

    def __init__(self, state: TrainingState, plan: StepPlan) -> None:
        self.state, self.plan = state, plan

    def run(self, step: int, replicas: range, _batches: object, num_samples: int, *_: object) -> tuple[Evidence, float]:
        sizes = {replica: len(self.plan.slice_of(step, replica)) for replica in replicas}
        number = 0
        for parameter in self.state.model.parameters():
            flat = torch.zeros(parameter.numel(), dtype=parameter.dtype)
            for index in range(len(flat)):
                number += 1
                for replica, size in sizes.items():
                    flat[index] += size / max(1, num_samples) * math.sin(1 + step + 3 * replica + number)
            parameter.grad = flat.view_as(parameter)
        self.state.statistics.begin_step()
        return Evidence(samples=sum(sizes.values()), sample_sum=0, pixel_sum=0), float(sum(sizes.values()))


class NoLoader:
    """Its batches have their lengths, and nothing else."""

    def take(self, step: int, replicas: range, *_: object) -> list[range]:
        return [range(len(PLAN.slice_of(step, replica))) for replica in replicas]


def network() -> nn.Module:
    model = nn.Linear(2, 1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    return model


def history(optimizer: str, strategy: dict[str, Any], run: str, monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    monkeypatch.setattr(build, "_computation", lambda state, *_: GivenGradients(state, PLAN))
    model = network()
    work = WorkConfig(
        optim=OptimConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.01, warmup_fraction=0.0),
        training=TrainingConfig(global_batch_size=6, replicas=2),
        strategy=StrategyConfig(**strategy),
    )
    if work.strategy.has_server:
        return history_with_server(model, work)
    state, moves = build_strategy(model, work, PLAN, NoLoader(), None, run)  # type: ignore[arg-type]
    weights = []
    while state.step < PLAN.num_steps:
        position = Position(step=state.step, lineage=state.lineage, counted=0, failures=0, held=moves.held())
        agreement = Agreement(quorum_id=1, members=(Member(replica_id="0", address="", position=position),))
        share = moves.compute(agreement, 0, Clock())
        assert share is not None
        moves.apply(share, 1)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]).tolist())
    return weights


def history_with_server(model: nn.Module, work: WorkConfig) -> list[list[float]]:
    """After every update of two workers who take turns, the second a move behind the first."""
    state, office = build_server_state(model, work), Office()
    server = ParameterServer(state, PLAN, work, office, office, num_classes=1, num_evaluated=0)  # type: ignore[arg-type]
    rpc = RpcServer("127.0.0.1", 0, "t", server.handlers, server.chunk_readers, server.chunk_writers)
    client, weights = RpcClient(rpc.uri, "t"), FlatWeights(state)
    hands = [
        Hand(client, name, *build_local_steps(network(), work, PLAN, NoLoader(), None), work)  # type: ignore[arg-type]
        for name in ("0000.000001", "0001.000001")
    ]
    server.look()
    hands[0].move()
    found = [weights.read()]
    while not office.has_finished:
        for hand in hands:
            hand.move()
            if not torch.equal(found[-1], weights.read()):
                found.append(weights.read())
        server.look()
    client.close()
    rpc.shutdown()
    return [numbers.tolist() for numbers in found[1:]]


@pytest.mark.parametrize("case", CASES)
def test_a_history_is_the_golden_one(case: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = history(*CASES[case], str(run_folder), monkeypatch)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("SUNSPARK_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {case: found}, indent=1) + "\n")
        return
    ones, others = (torch.tensor(weights, dtype=torch.float64) for weights in (found, golden[case]))
    torch.testing.assert_close(ones, others, rtol=1e-12, atol=1e-12)


def test_no_two_strategies_have_one_history() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(CASES)
    assert len({json.dumps(weights) for weights in golden.values()}) == len(CASES)
