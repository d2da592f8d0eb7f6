"""Laws of the strategies: what equals what, and that neither who computes nor who dies changes the weights.

Members sit around a table in one process (`table.py`), so any interleaving can be played.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sunspark.data.augment import AugmentConfig
from sunspark.data.loader import LoaderConfig
from sunspark.errors import ConfigError
from sunspark.models.registry import ModelConfig, build_model
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig, WorkConfig
from sunspark.training.state import TrainingState
from sunspark.training.strategies import local_sgd
from sunspark.training.strategies.build import check_strategy
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.strategies.local_sgd import LocalSgd
from sunspark.training.strategies.strategy import DivergedError
from sunspark.training.validation import Evaluation
from sunspark.training.verify import _expected, _wrong_samples
from tests.distributed.laws import NUM_CLASSES
from tests.training.table import Clock, Seat, Table, table

pytestmark = pytest.mark.timeout(240)

SGD = OptimConfig(optimizer="sgd", learning_rate=0.05, momentum=0.0, schedule="constant", warmup_fraction=0.0)
ADAM = OptimConfig(optimizer="adam", learning_rate=1e-3, schedule="cosine")
SCENE_VGG = ModelConfig(model_args={"n_filters": 2, "wide_units": 16})
RESNET = ModelConfig(model="resnet18", model_args={"channels": [16, 16, 16, 16]})

LOCAL: dict[str, dict[str, Any]] = {
    "local_sgd": {"strategy": "local_sgd", "sync_every": 5},
    "local_sgd, reset": {"strategy": "local_sgd", "sync_every": 3, "inner_state": "reset"},
    "local_sgd, keep, epoch": {"strategy": "local_sgd", "sync_every": "epoch", "inner_state": "keep"},
    "diloco": {"strategy": "diloco", "sync_every": 4},
}
each_local = pytest.mark.parametrize("strategy", LOCAL.values(), ids=LOCAL)
KINDS: dict[str, dict[str, Any]] = {"all_reduce": {}, "local_sgd": LOCAL["local_sgd"], "diloco": LOCAL["diloco"]}
each_kind = pytest.mark.parametrize("strategy", KINDS.values(), ids=KINDS)


def work_of(
    strategy: dict[str, Any],
    *,
    optim: OptimConfig = ADAM,
    model: ModelConfig = SCENE_VGG,
    replicas: int = 4,
    batch: int = 16,
    epochs: int = 1,
) -> WorkConfig:
    return WorkConfig(
        model=model,
        optim=optim,
        data=LoaderConfig(image_size=32, augment=AugmentConfig(flip_probability=0.0), prefetch_steps=2),
        training=TrainingConfig(epochs=epochs, global_batch_size=batch, replicas=replicas, dtype="float64"),
        strategy=StrategyConfig(**strategy),
    )


def model_of(work: WorkConfig) -> nn.Module:
    return build_model(work.model, num_classes=NUM_CLASSES, image_size=work.data.image_size, seed=3).double()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The networks are too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


_alone: dict[str, TrainingState] = {}


def trained(dataset: str, work: WorkConfig, workers: int = 1) -> TrainingState:
    if workers > 1:
        return _trained(dataset, work, workers)
    if repr(work) not in _alone:
        _alone[repr(work)] = _trained(dataset, work, 1)
    return _alone[repr(work)]


def _trained(dataset: str, work: WorkConfig, workers: int) -> TrainingState:
    with table(dataset, work, model_of(work), workers) as opened:
        return opened.train()


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def distance(one: TrainingState, other: TrainingState) -> float:
    """How far two states' weights and statistics are apart, relative to their length (L2)."""
    ones, others = (flat(state.weights().values()) for state in (one, other))
    return float((ones - others).norm() / others.norm())


# --- what equals what -------------------------------------------------------------------------------------------------


def test_averaging_after_every_step_of_plain_sgd_is_all_reduce(law_dataset: str) -> None:
    """With equal slices: batches of 10 in 2 replicas divide the 250 samples."""
    one = trained(law_dataset, work_of({"strategy": "local_sgd", "sync_every": 1}, optim=SGD, replicas=2, batch=10))
    other = trained(law_dataset, work_of({}, optim=SGD, replicas=2, batch=10))
    assert distance(one, other) <= 1e-9


def test_averaging_after_every_step_of_adam_is_not(law_dataset: str) -> None:
    """So the law above can fail."""
    one = trained(law_dataset, work_of({"strategy": "local_sgd", "sync_every": 1}, replicas=2, batch=10))
    other = trained(law_dataset, work_of({}, replicas=2, batch=10))
    assert distance(one, other) > 1e-6


@pytest.mark.parametrize("inner_state", ["average", "reset", "keep"])
def test_an_outer_step_all_the_way_without_momentum_is_local_sgd(law_dataset: str, inner_state: str) -> None:
    settings = {"sync_every": 5, "inner_state": inner_state}
    plain = {"outer_learning_rate": 1.0, "outer_momentum": 0.0}
    one = trained(law_dataset, work_of({"strategy": "diloco", **settings, **plain}))
    other = trained(law_dataset, work_of({"strategy": "local_sgd", **settings}))
    assert distance(one, other) <= 1e-9


def test_one_replica_that_keeps_its_moments_trains_as_one_alone(law_dataset: str) -> None:
    one = trained(law_dataset, work_of({"strategy": "local_sgd", "sync_every": 7, "inner_state": "keep"}, replicas=1))
    other = trained(law_dataset, work_of({"strategy": "serial"}, replicas=1))
    assert distance(one, other) <= 1e-9


# --- who computes, who dies -------------------------------------------------------------------------------------------


@each_local
@pytest.mark.parametrize("workers", [3, 5])
def test_the_weights_do_not_depend_on_the_number_of_workers(
    law_dataset: str, strategy: dict[str, Any], workers: int
) -> None:
    work = work_of(strategy)
    one = trained(law_dataset, work)
    many = trained(law_dataset, work, workers)
    assert distance(many, one) <= 1e-9
    assert many.ledger.to_array()[:, 2:].tolist() == one.ledger.to_array()[:, 2:].tolist()


def test_nor_do_they_with_batch_norms(law_dataset: str) -> None:
    work = work_of({"strategy": "local_sgd", "sync_every": 4}, model=RESNET)
    assert distance(trained(law_dataset, work, 3), trained(law_dataset, work)) <= 1e-9


@each_kind
def test_nor_do_the_averaged_ones(law_dataset: str, strategy: dict[str, Any]) -> None:
    """Those of `ema_decay`, which are evaluated and kept."""
    work = work_of(strategy, optim=replace(ADAM, ema_decay=0.8))
    one, many = trained(law_dataset, work), trained(law_dataset, work, 3)
    averages = [flat(state.judged_model.parameters()) for state in (one, many)]
    assert float((averages[1] - averages[0]).norm() / averages[0].norm()) <= 1e-9
    assert float((averages[0] - flat(one.model.parameters())).norm() / averages[0].norm()) > 1e-6


@each_kind
def test_nor_do_they_where_images_are_left_out(law_dataset: str, strategy: dict[str, Any]) -> None:
    left_out = {3, 40, 41, 42, 200}
    states = []
    for workers in (1, 3):
        work = work_of(strategy)
        with table(law_dataset, work, model_of(work), workers) as opened:
            rows = opened.dataset.rows(opened.plan.split)[sorted(left_out)].tolist()
            for seat in opened.seats:
                seat.loader.excuse(rows)
            states.append(opened.train())
    one, many = states
    assert distance(many, one) <= 1e-9
    assert distance(many, trained(law_dataset, work_of(strategy))) > 1e-6, "they were not left out"
    for state in states:
        assert sum(line.evidence.samples for line in state.ledger.lines) == 250 - len(left_out)


def play(opened: Table, dice: random.Random) -> TrainingState:
    """To the end, while members are called away, die, come back, and miss exchanges."""
    while opened.seats[0].state.step < opened.plan.num_steps or len({s.state.lineage for s in opened.seats}) > 1:
        agreement = opened.agree()
        if opened.seats[0].state.step == opened.plan.num_steps:
            break
        is_rough = dice.random() < 0.6
        clocks = [Clock(dice.randint(0, 9) if is_rough else None) for _ in opened.seats]
        shares = opened.compute(agreement, clocks)
        if all(share is not None for share in shares):
            fate = dice.choice(["all", "all", "some", "none"]) if len(opened.seats) > 1 else "all"
            lucky = {"all": opened.seats, "some": dice.sample(opened.seats, 1), "none": []}[fate]
            opened.exchange(agreement, [s for s in shares if s is not None], lambda seat, lucky=lucky: seat in lucky)  # type: ignore[misc]
        if dice.random() < 0.25 and len(opened.seats) > 1:
            opened.leave(dice.choice(opened.seats))
        if dice.random() < 0.25 and len(opened.seats) < 4:
            opened.sit(dice.choice([w for w in range(4) if w not in {seat.worker for seat in opened.seats}]))
    return opened.seats[0].state


@each_local
def test_nothing_that_happens_to_workers_changes_the_weights(
    law_dataset: str, strategy: dict[str, Any], dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(strategy)
    monkeypatch.setattr(local_sgd, "LONG_ROUND_SECONDS", dice.choice([0.0, 60.0]))
    with table(law_dataset, work, model_of(work), workers=3) as opened:
        state = play(opened, dice)
        assert distance(state, trained(law_dataset, work)) <= 1e-9
        lines = state.ledger.lines
        expected = [_expected(opened.plan, opened.dataset, line.step, frozenset(), [line]) for line in lines]
        assert len(lines) == opened.plan.num_steps
        assert list(_wrong_samples(lines, expected)) == []


def finished_replicas(seats: Sequence[Seat]) -> list[tuple[int, ...]]:
    return [seat.strategy.held().finished for seat in seats]


def test_a_death_in_a_round_costs_what_the_dead_one_had_done_and_no_more(law_dataset: str) -> None:
    work = work_of({"strategy": "local_sgd", "sync_every": "epoch"})
    with table(law_dataset, work, model_of(work), workers=2) as opened:
        num_steps = opened.plan.num_steps
        agreement = opened.agree()
        before = [Clock(num_steps + 5), Clock(num_steps + 3)]
        assert opened.compute(agreement, before) == [None, None]
        assert finished_replicas(opened.seats) == [(0,), (1,)]
        opened.leave(opened.seats[1])
        opened.sit(1)
        after = [Clock(), Clock()]
        shares = opened.compute(opened.agree(), after)
        # Four replicas; the one alive goes on in its second one; the two of the dead one are done anew, by the new one.
        computed = sum(len(clock.steps) for clock in after)
        assert computed == 4 * num_steps - (num_steps + 5)
        assert sorted(sum(finished_replicas(opened.seats), ())) == [0, 1, 2, 3]
        assert (after[0].redone, after[1].redone) == ([3], [])
        assert all(share is not None for share in shares)


def test_who_recovers_back_to_where_it_was_does_its_part_anew(law_dataset: str) -> None:
    """The others do what it had finished; both together would count it twice."""
    work = work_of({"strategy": "local_sgd", "sync_every": "epoch"})
    with table(law_dataset, work, model_of(work), workers=2) as opened:
        num_steps = opened.plan.num_steps
        opened.compute(opened.agree(), [Clock(num_steps + 5), Clock(num_steps + 3)])
        found = Evaluation(step=0, samples=1, top1=0.0, top5=0.0, mean_per_class=0.0, loss=0.0)
        opened.seats[1].state.add_evaluation(found)
        shares = opened.compute(opened.agree(), [Clock(), Clock()])
        assert sum(sum(share.samples) for share in shares if share is not None) == 250


def test_an_exchange_that_breaks_costs_nothing(law_dataset: str) -> None:
    work = work_of({"strategy": "diloco", "sync_every": 4})
    with table(law_dataset, work, model_of(work), workers=2) as opened:
        for _ in range(3):
            agreement = opened.agree()
            clocks = [Clock(), Clock()]
            shares = [share for share in opened.compute(agreement, clocks) if share is not None]
            opened.exchange(agreement, shares, lambda _: False)
        assert [clock.steps for clock in clocks] == [[], []]
        state = opened.train()
        assert distance(state, trained(law_dataset, work)) <= 1e-9


def test_a_state_that_was_saved_in_between_goes_on_bit_for_bit(law_dataset: str) -> None:
    work = work_of({"strategy": "diloco", "sync_every": 4, "inner_state": "keep"})
    whole = trained(law_dataset, work)
    with table(law_dataset, work, model_of(work), workers=1) as opened:
        for _ in range(3):
            agreement = opened.agree()
            opened.exchange(
                agreement, [share for share in opened.compute(agreement, [Clock()]) if share], lambda _: True
            )
        saved = bytes(opened.seats[0].state.snapshot().body)
    with table(law_dataset, work, model_of(work), workers=1) as opened:
        opened.seats[0].state.load(saved, "the checkpoint")
        state = opened.train()
    assert all(
        torch.equal(one, other) for one, other in zip(state.weights().values(), whole.weights().values(), strict=True)
    )


def test_what_is_not_finite_stops_before_it_is_applied(law_dataset: str) -> None:
    optim = replace(SGD, learning_rate=1e30)
    work = work_of({"strategy": "local_sgd", "sync_every": 4}, optim=optim)
    with table(law_dataset, work, model_of(work), workers=1) as opened:
        before = {name: tensor.clone() for name, tensor in opened.seats[0].state.weights().items()}
        with pytest.raises(DivergedError) as caught:
            opened.train()
        assert 0 <= caught.value.step < 8
        state = opened.seats[0].state
        assert state.step % 4 == 0
        if state.step == 0:
            assert all(torch.equal(before[name], tensor) for name, tensor in state.weights().items())


def test_sums_are_means_however_long_a_round_is(law_dataset: str) -> None:
    """Compression adds what one exchange has lost to the next: they must be of one unit."""
    work = work_of({"strategy": "local_sgd", "sync_every": 15}, replicas=1)
    with table(law_dataset, work, model_of(work), workers=1) as opened:
        state, strategy = opened.seats[0].state, opened.seats[0].strategy
        assert isinstance(strategy, LocalSgd)
        for num_steps in (15, 1):
            agreement = opened.agree()
            shares = [share for share in opened.compute(agreement, [Clock()]) if share is not None]
            assert len(shares[0].steps) == num_steps
            for outer, inner in zip(state.trained(), strategy._inner.state.trained(), strict=True):
                torch.testing.assert_close(outer.grad, outer.detach() - inner.detach(), rtol=1e-9, atol=1e-12)
            opened.exchange(agreement, shares, lambda _: True)


class Wasteful(nn.Module):
    """Has a parameter that forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(3 * 32 * 32, NUM_CLASSES)
        self.unused = nn.Parameter(torch.ones(3))
        self.default_cfg = self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.used(images_BCHW.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("inner_state", ["average", "keep"])
def test_a_parameter_that_forward_does_not_use_is_left_alone(law_dataset: str, inner_state: str) -> None:
    work = work_of({"strategy": "local_sgd", "sync_every": 4, "inner_state": inner_state})
    with table(law_dataset, work, Wasteful().double(), workers=2) as opened:
        assert opened.train().weights()["unused"].tolist() == [1.0, 1.0, 1.0]


class PartlyFrozen(nn.Module):
    """Trains its head only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Linear(3 * 32 * 32, 8).requires_grad_(False)
        self.head = nn.Linear(8, NUM_CLASSES)
        self.default_cfg = self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images_BCHW.flatten(1)))  # type: ignore[no-any-return]


@each_kind
def test_what_is_frozen_stays_as_it_is_whoever_trains_the_rest(law_dataset: str, strategy: dict[str, Any]) -> None:
    states = []
    for workers in (1, 3):
        with table(law_dataset, work_of(strategy), PartlyFrozen().double(), workers) as opened:
            states.append(opened.train())
    one, many = states
    assert distance(many, one) <= 1e-9
    before = PartlyFrozen().double().state_dict()
    assert torch.equal(many.weights()["body.weight"], before["body.weight"])
    assert not torch.equal(many.weights()["head.weight"], before["head.weight"])


# --- what does not go together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sync_every": 4}, r"sync_every 4 has no effect with --strategy all_reduce; it is for local_sgd, diloco"),
        ({"strategy": "async", "inner_state": "keep"}, r"inner_state keep has no effect with --strategy async"),
        ({"strategy": "diloco", "staleness_bound": 3}, r"staleness_bound 3 .* diloco; it is for async, hogwild"),
        ({"strategy": "hogwild", "staleness_bound": -1}, r"staleness_bound must be at least 0, got -1"),
        ({"strategy": "local_sgd", "outer_momentum": 0.5}, r"outer_momentum 0.5 has no effect .* it is for diloco"),
        ({"strategy": "serial", "inner_state": "keep"}, "inner_state keep has no effect"),
        ({"strategy": "diloco", "sync_every": 0}, "sync_every must be at least 1, or epoch, got 0"),
        ({"strategy": "diloco", "outer_learning_rate": 0.0}, "outer_learning_rate must be above 0"),
        ({"strategy": "diloco", "outer_momentum": 1.0}, "outer_momentum must be at least 0 and below 1"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        StrategyConfig(**wrong)


def test_an_optimizer_whose_moments_cannot_be_averaged_is_refused() -> None:
    optim = OptimConfig(optimizer="adafactor")
    with pytest.raises(ConfigError, match="--inner-state reset"):
        check_strategy(work_of({"strategy": "local_sgd"}, optim=optim))
    check_strategy(work_of({"strategy": "local_sgd", "inner_state": "reset"}, optim=optim))
