"""Costs are found again in what they cause; a forecast says what it knows, what it guesses and what to take."""

from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.bench.forecasting.config import ForecastConfig
from sunspark.bench.forecasting.costs import Costs, NetworkSize
from sunspark.bench.forecasting.fitting import fit
from sunspark.bench.forecasting.observation import Observation
from sunspark.bench.forecasting.pricing import TABLE, instances_of
from sunspark.bench.forecasting.recommendation import recommend
from sunspark.bench.forecasting.rows import Pilot, Row, Work, rows_of, seconds_per_epoch
from sunspark.bench.forecasting.simulation import Setting, seconds_per_step
from sunspark.data.order import StepPlan
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import TrainConfig
from sunspark.training.config import TrainingConfig
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.validation import ValidationConfig
from tests.bench.forecasting.test_simulation import COSTS

NETWORK = NetworkSize(parameters=1_000_000, moments=2_000_000)
PLAN = StepPlan(
    dataset_id="", split="train", seed=0, num_samples=6400, global_batch_size=64, num_epochs=10, num_replicas=1
)
CONFIG = TrainConfig(training=TrainingConfig(global_batch_size=64, epochs=10))
WORK = Work(config=CONFIG, steps=PLAN, judged_images=0)


def rows(
    asked: ForecastConfig, costs: Costs, work: Work = WORK, room: int | None = None
) -> tuple[list[Row], list[str]]:
    return rows_of(work, asked, Pilot(costs=costs, workers=3, room=room))


def observed(setting: Setting, costs: Costs = COSTS) -> Observation:
    """What a run would show whose costs are these, on a machine where nothing varies."""
    seconds = seconds_per_step(setting, costs) * setting.steps_per_exchange
    compute = costs.slice_of(setting.slice_size) * costs.crowded(setting.workers)
    slices = -(-setting.num_replicas // setting.workers)
    has_server = setting.strategy == "async"
    whole = costs.sum_seconds(setting.workers, setting.compression) if setting.strategy == "all_reduce" else 0.0
    hidden = min(0.95 * whole, costs.hideable * costs.backward * compute)
    return Observation(
        run="made",
        strategy=setting.strategy,
        workers=setting.workers,
        replicas=setting.num_replicas,
        slice_size=setting.slice_size,
        steps_per_exchange=setting.steps_per_exchange,
        compression=setting.compression,
        exchanges_moments=setting.exchanges_moments,
        compute_seconds=compute,
        backward_seconds=compute * costs.backward,
        optimizer_seconds=costs.optimizer_seconds
        * costs.crowded(setting.workers)
        * (slices if setting.is_local else 1),
        spread=0.0,
        exchange_seconds=whole - hidden,
        hidden_seconds=hidden,
        period_seconds=seconds * setting.workers if has_server else seconds,
        start_seconds=8.0,
        peak_worker_bytes=500_000_000,
    )


def pilot(costs: Costs = COSTS) -> list[Observation]:
    """What a pilot would see."""
    alone = Setting(strategy="serial", workers=1, global_batch_size=48)
    server = Setting(strategy="async", workers=1, global_batch_size=16, steps_per_exchange=2)
    summing = Setting(strategy="all_reduce", workers=3, global_batch_size=48)
    rounds = Setting(
        strategy="local_sgd", workers=3, global_batch_size=48, steps_per_exchange=4, exchanges_moments=True
    )
    settings = [
        alone,
        replace(alone, global_batch_size=16),
        server,
        replace(server, workers=3, global_batch_size=48),
        summing,
        replace(summing, workers=2),
        replace(summing, compression="int8"),
        rounds,
    ]
    return [observed(setting, costs) for setting in settings]


CROWDED = replace(COSTS, crowding={"1": 1.0, "2": 1.2, "3": 1.6}, hideable=0.7)


@pytest.mark.parametrize("costs", [COSTS, CROWDED], ids=["cores of their own", "shared cores, and what is hidden"])
def test_costs_are_found_again_in_what_they_cause(costs: Costs) -> None:
    found = fit(pilot(costs), NETWORK)
    assert found.crowded(3) == pytest.approx(costs.crowded(3), rel=0.02)
    for setting in (
        Setting(strategy="serial", workers=1, global_batch_size=64),
        Setting(strategy="serial", workers=1, global_batch_size=64, replicas=4),
        Setting(strategy="all_reduce", workers=8, global_batch_size=64),
        Setting(strategy="all_reduce", workers=3, global_batch_size=64, replicas=8),
        Setting(strategy="all_reduce", workers=8, global_batch_size=64, compression="int8"),
        Setting(strategy="diloco", workers=5, global_batch_size=64, steps_per_exchange=64),
        Setting(strategy="async", workers=2, global_batch_size=64, steps_per_exchange=1),
        Setting(strategy="async", workers=16, global_batch_size=64, steps_per_exchange=16),
    ):
        assert seconds_per_step(setting, found) == pytest.approx(seconds_per_step(setting, costs), rel=0.1), setting


def test_without_one_worker_alone_nothing_is_known() -> None:
    with pytest.raises(RunError, match="serial"):
        fit([one for one in pilot() if one.strategy != "serial"], NETWORK)


def test_what_no_run_tells_is_a_row_with_its_reason() -> None:
    seen = [one for one in pilot() if one.strategy in ("serial", "all_reduce")]
    found, _ = rows(ForecastConfig(workers="2,4", compression="none,int8,bf16"), fit(seen, NETWORK))
    reasons = {(row.strategy, row.compression): row.reason for row in found}
    assert "rounds" in reasons["diloco", "none"]
    assert "server" in reasons["async", "none"]
    assert "bf16" in reasons["all_reduce", "bf16"]
    assert not reasons["all_reduce", "int8"]


def test_workers_beyond_the_pilots_are_marked_and_a_batch_that_is_too_small_for_them_is_refused() -> None:
    found, _ = rows(ForecastConfig(workers="1..64", strategy="all_reduce"), fit(pilot(), NETWORK))
    marked = {row.workers: row.is_extrapolated for row in found}
    assert marked == {1: False, 2: False, 4: True, 8: True, 16: True, 32: True, 64: True}
    assert [row.workers for row in found if row.reason] == [64]


def test_exchanges_longer_than_an_epoch_are_those_of_an_epoch_and_it_is_said() -> None:
    short = replace(WORK, steps=replace(PLAN, num_samples=15 * 64))
    asked = ForecastConfig(workers="2", strategy="diloco", sync_every="8,16,64")
    found, words = rows(asked, fit(pilot(), NETWORK), short)
    assert [row.sync_every for row in found if row.strategy == "diloco"] == [8, "epoch"]
    assert words == ["an epoch has 15 steps: every 16, 64 steps is every epoch"]


def test_runs_on_processors_say_nothing_of_a_gpu() -> None:
    asked = ForecastConfig(workers="2", strategy="all_reduce", instance="m5.xlarge,g5.xlarge")
    found, _ = rows(asked, fit(pilot(), NETWORK))
    reasons = {row.instance: row.reason for row in found}
    assert not reasons["m5.xlarge"]
    assert "nothing of the GPU of g5.xlarge" in reasons["g5.xlarge"]


def test_a_machine_has_room_for_no_more_workers_than_it_has_cores() -> None:
    found, _ = rows(ForecastConfig(workers="1..8", strategy="all_reduce"), fit(pilot(), NETWORK), room=3)
    assert {row.workers: bool(row.reason) for row in found} == {1: False, 2: False, 4: True, 8: True}
    assert "room for 3" in found[-1].reason


def test_an_epoch_has_its_short_round_its_short_step_and_its_evaluations() -> None:
    costs = fit(pilot(), NETWORK)
    rounds = replace(CONFIG, strategy=StrategyConfig(strategy="diloco", sync_every=64))
    seventy = replace(PLAN, num_samples=70 * 64)
    whole = seconds_per_epoch(Work(config=rounds, steps=seventy, judged_images=0), costs)
    setting = Setting(strategy="diloco", workers=2, global_batch_size=64, steps_per_exchange=64, exchanges_moments=True)
    short = replace(setting, steps_per_exchange=6)
    assert whole == pytest.approx(64 * seconds_per_step(setting, costs) + 6 * seconds_per_step(short, costs))

    alone = replace(CONFIG, strategy=StrategyConfig(strategy="serial"), launch=replace(CONFIG.launch, workers=1))
    hundred = Work(config=alone, steps=replace(PLAN, num_samples=100), judged_images=0)
    step = seconds_per_step(Setting(strategy="serial", workers=1, global_batch_size=64), costs)
    assert seconds_per_epoch(hundred, costs) == pytest.approx(2 * step - 28 * costs.image_seconds)
    judged = replace(hundred, config=replace(alone, validation=ValidationConfig(eval_every=2)), judged_images=500)
    more = seconds_per_epoch(judged, costs) - seconds_per_epoch(hundred, costs)
    assert more == pytest.approx(500 * costs.image_seconds * (1 - costs.backward) / 2)


def test_replicas_of_the_configuration_are_those_of_the_forecast() -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, replicas=4))
    work = replace(WORK, config=config)
    found, _ = rows(ForecastConfig(workers="2,4,8", strategy="all_reduce"), fit(pilot(), NETWORK), work)
    reasons = {row.workers: row.reason for row in found}
    assert not reasons[4]
    assert "--replicas 4" in reasons[8]
    by_default, _ = rows(ForecastConfig(workers="2", strategy="all_reduce"), fit(pilot(), NETWORK))
    assert (found[1].seconds_per_epoch or 0) > (by_default[1].seconds_per_epoch or 0), "two slices each, one by one"


def test_a_machine_without_the_memory_is_none() -> None:
    costs = replace(fit(pilot(), NETWORK), memory_bytes={"all_reduce": 20 * 2**30})
    found, _ = rows(ForecastConfig(workers="2", strategy="all_reduce", instance="c5.xlarge"), costs)
    assert "8 GiB of memory" in found[-1].reason


def test_the_knee_has_the_least_cost_times_time() -> None:
    large = replace(fit(pilot(), NETWORK), image_seconds=0.02)
    found, _ = rows(ForecastConfig(workers="1..32", strategy="all_reduce"), large)
    known = [row for row in found if row.seconds is not None]
    (knee,) = [row for row in known if row.is_knee]
    assert min(row.workers * (row.seconds or 0) ** 2 for row in known) == knee.workers * (knee.seconds or 0) ** 2


def test_the_knee_is_by_what_machines_cost_and_one_worker_alone_may_be_past_it() -> None:
    asked = ForecastConfig(workers="1..8", strategy="all_reduce", instance="c5.4xlarge")
    found, _ = rows(asked, replace(fit(pilot(), NETWORK), gigaflops=150.0))
    known = [row for row in found if row.seconds is not None]
    least = min(known, key=lambda row: (row.usd or 0) * (row.seconds or 0))
    assert [row for row in known if row.is_knee] == ([] if least is known[-1] else [least])
    slow_link = replace(fit(pilot(), NETWORK), byte_seconds=1e-5)
    found, _ = rows(ForecastConfig(workers="1..8", strategy="all_reduce"), slow_link)
    assert not any(row.is_knee for row in found), "all of them are slower than one worker"


def test_a_server_costs_the_bookkeeping_of_each_step_however_rarely_it_is_asked() -> None:
    costs = replace(fit(pilot(replace(COSTS, rest_seconds=0.05)), NETWORK), spread={"1": 0.0})
    asked = ForecastConfig(workers="2", strategy="async,local_sgd", sync_every="epoch")
    found, _ = rows(asked, costs)
    assert all((row.efficiency or 0) < 1.01 for row in found if row.workers > 1)


def test_a_gpu_is_fed_by_the_processor_beside_it() -> None:
    costs = replace(fit(pilot(), NETWORK), gigaflops=80.0, decoding_seconds=0.01)
    found, words = rows(ForecastConfig(workers="2", strategy="all_reduce", instance="g5.xlarge"), costs)
    assert 180 < (found[0].images_per_second or 0) <= 200, "two cores, 100 images/s each"
    assert any("at no more than 200 images/s" in line for line in words)


def test_on_another_machine_computing_is_carried_by_a_stated_factor_and_the_link_is_its_own() -> None:
    costs = replace(fit(pilot(), NETWORK), gigaflops=80.0)
    asked = ForecastConfig(workers="2", strategy="all_reduce", instance="m5.xlarge,g5.xlarge")
    found, words = rows(asked, costs)
    assert any("m5.xlarge: computing is taken to need 0.62 times" in line for line in words)
    alone = {row.instance: row for row in found if row.strategy == "serial"}
    here, _ = rows(replace(asked, instance=""), costs)
    its, ours = alone["m5.xlarge"].seconds_per_epoch, here[0].seconds_per_epoch
    assert its is not None
    assert ours is not None
    assert its == pytest.approx(0.625 * ours, rel=0.02)
    assert (alone["m5.xlarge"].usd or 0) == pytest.approx(2 * 0.24 * (alone["m5.xlarge"].seconds or 0) / 3600)
    assert (alone["g5.xlarge"].seconds_per_epoch or 0) < its


def test_prices_of_ones_own_win_and_mistakes_are_told(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(
        "['m5.xlarge']\nusd_per_hour = 0.1\ncores = 2\nmemory_gib = 16\ngigabits_per_second = 1\ngigaflops = 100\n"
    )
    assert instances_of("m5.xlarge", str(own))[0].usd_per_hour == 0.1
    asked = ForecastConfig(workers="2", strategy="all_reduce", instance="m5.xlarge,c5.xlarge", prices=str(own))
    _, words = rows(asked, fit(pilot(), NETWORK))
    assert f"m5.xlarge: 0.1 USD an hour, by {own}" in words
    assert any("by Amazon's lists of" in line for line in words if line.startswith("c5.xlarge"))
    assert instances_of("m5.xlarge")[0] is TABLE["m5.xlarge"]
    with pytest.raises(ConfigError, match=r"m5\.xlarge"):
        instances_of("m5.xlarg")
    with pytest.raises(ConfigError, match="lower cores_per_worker"):
        TABLE["m5.xlarge"].workers_on_it(4)
    own.write_text("['x']\nusd_per_hour = 0.1\n")
    with pytest.raises(ConfigError, match="cores"):
        instances_of("x", str(own))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"workers": "0..4"}, "workers"),
        ({"workers": "4..2"}, "rise"),
        ({"strategy": "all_reduc"}, "all_reduce"),
        ({"sync_every": "0"}, "sync_every"),
        ({"deadline": "2h"}, "recommend"),
        ({"recommend": "cheapest"}, "instance"),
        ({"recommend": "fastest", "deadline": "2 parsecs"}, "90min"),
        ({"prices": "x.toml"}, "instance"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        ForecastConfig(**wrong)  # type: ignore[arg-type]


def row(strategy: str, seconds: float, *, workers: int = 4, every: int = 1, usd: float | None = None) -> Row:
    return Row(
        strategy=strategy,
        sync_every=every,
        compression="none",
        workers=workers,
        instance="",
        seconds=seconds,
        efficiency=0.5,
        usd=usd,
    )


def test_the_fastest_is_recommended_unless_a_safer_one_is_as_fast() -> None:
    asked = ForecastConfig(recommend="fastest")
    slow, fast = row("all_reduce", 100.0), row("local_sgd", 50.0, every=64)
    assert recommend([slow, fast], asked)[0] is fast
    nearly = row("all_reduce", 54.0)
    chosen, why = recommend([slow, fast, nearly], asked)
    assert chosen is nearly
    assert why.count(". ") == 1
    assert "accuracy" in why


def test_workers_that_a_forecast_cannot_tell_apart_are_not_paid_for() -> None:
    few, many = row("all_reduce", 18.9, workers=2), row("all_reduce", 17.5, workers=8)
    chosen, why = recommend([few, many], ForecastConfig(recommend="fastest"))
    assert chosen is few
    assert "fewer workers" in why
    assert recommend([few, replace(many, seconds=15.0)], ForecastConfig(recommend="fastest"))[0] is not few


def test_limits_are_kept_or_it_is_said_that_none_keeps_them() -> None:
    asked = ForecastConfig(recommend="cheapest", instance="m5.xlarge", deadline="60s", budget=3.0)
    cheap, quick = row("all_reduce", 100.0, usd=1.0), row("diloco", 50.0, usd=2.0)
    assert recommend([cheap, quick], asked)[0] is quick
    chosen, why = recommend([cheap], asked)
    assert chosen is None
    assert "1\xa0min 40" in why
    assert "1.00 USD" in why
