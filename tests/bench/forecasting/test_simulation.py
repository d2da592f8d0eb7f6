"""A simulated training takes what its parts take, and waits for whom it must."""

import math
from dataclasses import replace

import pytest

from sunspark.bench.forecasting.costs import QUORUM_SECONDS_PER_WORKER, Costs, NetworkSize
from sunspark.bench.forecasting.simulation import Failures, Setting, seconds_per_step
from sunspark.errors import ConfigError, RunError

COSTS = Costs(
    network=NetworkSize(parameters=1_000_000, moments=2_000_000),
    slice_seconds=0.01,
    image_seconds=0.002,
    optimizer_seconds=0.004,
    rest_seconds=0.001,
    crowding={"1": 1.0},
    spread={"1": 0.0},
    latency_seconds=0.0005,
    byte_seconds=1e-8,
    coding_seconds={"int8": 2e-9},
    hideable=0.0,
    backward=0.6,
    round_seconds=0.002,
    server_seconds=0.003,
    unit_seconds=0.001,
)
ALL_REDUCE = Setting(strategy="all_reduce", workers=4, global_batch_size=64)


def test_one_worker_computes_and_nothing_else() -> None:
    alone = Setting(strategy="serial", workers=1, global_batch_size=64)
    assert seconds_per_step(alone, COSTS) == pytest.approx(0.01 + 64 * 0.002 + 0.004 + 0.001)


def test_all_reduce_adds_a_ring_to_its_slice_of_the_batch() -> None:
    ring = 6 * 0.0005 + 1.5 * 4e6 * 1e-8
    own = 0.01 + 16 * 0.002 + 0.004 + 0.001 + 3 * QUORUM_SECONDS_PER_WORKER
    assert seconds_per_step(ALL_REDUCE, COSTS) == pytest.approx(own + ring)


def test_what_hides_behind_backward_is_not_waited_for() -> None:
    hidden = replace(COSTS, hideable=0.5)
    saved = 0.5 * 0.6 * (0.01 + 16 * 0.002)
    assert seconds_per_step(ALL_REDUCE, hidden) == pytest.approx(seconds_per_step(ALL_REDUCE, COSTS) - saved)


def test_replicas_beyond_the_workers_are_computed_one_after_another() -> None:
    more = replace(ALL_REDUCE, replicas=8)
    extra = 2 * (0.01 + 8 * 0.002) - (0.01 + 16 * 0.002)
    assert seconds_per_step(more, COSTS) == pytest.approx(seconds_per_step(ALL_REDUCE, COSTS) + extra)


def test_rarer_exchanges_cost_less_and_moments_more() -> None:
    rounds = Setting(strategy="local_sgd", workers=4, global_batch_size=64, steps_per_exchange=16)
    with_moments = replace(rounds, exchanges_moments=True)
    assert seconds_per_step(rounds, COSTS) < seconds_per_step(with_moments, COSTS) < seconds_per_step(ALL_REDUCE, COSTS)
    extra = 1.5 * 8e6 * 1e-8 / 16
    assert seconds_per_step(with_moments, COSTS) == pytest.approx(seconds_per_step(rounds, COSTS) + extra)


def test_who_meets_waits_for_the_slowest_and_who_does_not_loses_its_speed_alone() -> None:
    free = replace(COSTS, byte_seconds=0.0, server_seconds=0.0, unit_seconds=0.0, spread={"1": 0.05})
    together = replace(ALL_REDUCE, strategy="async", steps_per_exchange=4)
    slow = (4.0,)
    assert seconds_per_step(ALL_REDUCE, free, slowness=slow) > 2.5 * seconds_per_step(ALL_REDUCE, free)
    # Three whole workers and a quarter of one, of four.
    assert seconds_per_step(together, free) / seconds_per_step(together, free, slowness=slow) == pytest.approx(
        3.25 / 4, abs=0.04
    )


def test_a_server_that_is_busy_all_the_time_sets_the_pace() -> None:
    many = Setting(strategy="async", workers=64, global_batch_size=128, steps_per_exchange=1)
    one_push = 1e6 * 4 * 1e-8  # over the driver's link, the busiest of its resources
    assert seconds_per_step(many, COSTS) == pytest.approx(64 * one_push, rel=0.05)


def test_workers_that_share_cores_slow_each_other_down_only_while_they_compute() -> None:
    crowded = replace(COSTS, crowding={"1": 1.0, "4": 4.0}, byte_seconds=0.0, server_seconds=0.0, unit_seconds=0.0)
    busy = Setting(strategy="async", workers=4, global_batch_size=64, steps_per_exchange=8)
    assert seconds_per_step(busy, crowded) == pytest.approx(
        4 * seconds_per_step(busy, replace(crowded, crowding={"1": 1.0})), rel=0.1
    )
    waiting = replace(crowded, unit_seconds=100.0)
    assert seconds_per_step(busy, waiting) == pytest.approx(
        seconds_per_step(busy, replace(waiting, crowding={"1": 1.0})), rel=0.02
    )


@pytest.mark.parametrize("strategy", ["serial", "all_reduce", "diloco", "async"])
def test_failures_cost_time_and_the_more_the_oftener(strategy: str) -> None:
    workers, every = (1 if strategy == "serial" else 16), (16 if strategy in ("diloco", "async") else 1)
    setting = Setting(strategy=strategy, workers=workers, global_batch_size=64, steps_per_exchange=every)
    times = [
        seconds_per_step(
            setting, replace(COSTS, spread={"1": 0.05}), failures=Failures(per_worker_hour=rate), num_exchanges=400
        )
        for rate in (1e-9, 20, 200)
    ]
    calm = seconds_per_step(setting, replace(COSTS, spread={"1": 0.05}), num_exchanges=400)
    assert times[0] == pytest.approx(calm), "the noise is the same"
    assert times == sorted(times)
    assert times[2] > 1.1 * calm


def test_a_death_costs_one_worker_its_step_and_its_absence() -> None:
    """A renewal process: a step of T seconds is repeated until no death falls into it."""
    alone, rate = Setting(strategy="serial", workers=1, global_batch_size=64), 600.0
    failures = Failures(per_worker_hour=rate, notice_seconds=0.0, return_seconds=5.0)
    step = seconds_per_step(alone, COSTS)
    hazard = rate / 3600
    expected = (math.exp(hazard * step) - 1) * (1 / hazard + 5.0)
    measured = seconds_per_step(alone, COSTS, failures=failures, num_exchanges=40_000)
    assert measured == pytest.approx(expected, rel=0.05)


def test_workers_that_die_faster_than_they_compute_are_refused() -> None:
    for strategy in ("all_reduce", "async"):
        slow = Setting(strategy=strategy, workers=2, global_batch_size=64, steps_per_exchange=64)
        with pytest.raises(RunError, match="do not come to an exchange"):
            seconds_per_step(slow, COSTS, failures=Failures(per_worker_hour=1e6))
    with pytest.raises(ConfigError, match="per_worker_hour"):
        Failures(per_worker_hour=0.0)


def test_the_same_simulation_gives_the_same_time() -> None:
    noisy = replace(COSTS, spread={"1": 0.2})
    for strategy in ("all_reduce", "diloco", "async"):
        setting = Setting(strategy=strategy, workers=5, global_batch_size=64)
        assert seconds_per_step(setting, noisy) == seconds_per_step(setting, noisy)
        assert seconds_per_step(setting, noisy, seed=1) != seconds_per_step(setting, noisy)


def test_noise_makes_the_slowest_slower_the_more_workers_there_are() -> None:
    noisy = replace(COSTS, spread={"1": 0.2})
    extra = [
        seconds_per_step(replace(ALL_REDUCE, workers=workers, global_batch_size=2 * workers), noisy)
        - seconds_per_step(replace(ALL_REDUCE, workers=workers, global_batch_size=2 * workers), COSTS)
        for workers in (2, 16, 256)
    ]
    assert extra == sorted(extra)
    assert math.isclose(extra[0], 0.014 * 0.2 * 0.56, rel_tol=0.5)  # the expectation of the larger of two


def test_what_no_run_has_told_is_refused() -> None:
    for setting, what in (
        (ALL_REDUCE, "exchange"),
        (replace(ALL_REDUCE, strategy="diloco"), "rounds"),
        (replace(ALL_REDUCE, strategy="async"), "server"),
        (replace(ALL_REDUCE, compression="bf16"), "bf16"),
    ):
        costs = (
            COSTS
            if setting.compression == "bf16"
            else replace(COSTS, latency_seconds=None, byte_seconds=None, round_seconds=None, server_seconds=None)
        )
        with pytest.raises(RunError, match=what):
            seconds_per_step(setting, costs)
