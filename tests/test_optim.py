"""Laws of optimizers and schedules: the learning rate is a function of the step, known beforehand."""

import pytest
from torch import nn

from sunspark.errors import ConfigError
from sunspark.optim import OptimConfig, build_optimizer, learning_rate_at

# (schedule, warmup_fraction, num_steps) -> {step: learning rate}, for a highest rate of 1
TABLE: list[tuple[str, float, int, dict[int, float]]] = [
    ("constant", 0.0, 10, {0: 1.0, 5: 1.0, 9: 1.0}),
    ("constant", 0.4, 10, {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 9: 1.0}),
    ("cosine", 0.0, 4, {0: 1.0, 1: 0.8535533905932737, 2: 0.5, 3: 0.14644660940672627}),
    ("cosine", 0.5, 8, {0: 0.25, 3: 1.0, 4: 1.0, 6: 0.5, 7: 0.14644660940672627}),
    ("one_cycle", 0.5, 8, {1: 0.52, 3: 1.0, 4: 1.0, 6: 0.50005}),
    ("constant", 0.9, 1, {0: 1.0}),
    ("cosine", 0.05, 1, {0: 1.0}),
    ("one_cycle", 0.3, 1, {0: 1.0}),
]


def config_of(schedule: str, warmup_fraction: float, learning_rate: float = 1.0) -> OptimConfig:
    return OptimConfig(
        schedule=schedule,  # type: ignore[arg-type]
        warmup_fraction=warmup_fraction,
        learning_rate=learning_rate,
    )


@pytest.mark.parametrize(("schedule", "warmup_fraction", "num_steps", "expected"), TABLE)
def test_schedules_are_these_tables(
    schedule: str, warmup_fraction: float, num_steps: int, expected: dict[int, float]
) -> None:
    config = config_of(schedule, warmup_fraction)
    got = {step: learning_rate_at(config, step, num_steps) for step in expected}
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.05, 0.3, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100])
def test_the_rate_rises_to_its_highest_and_never_rises_again(
    schedule: str, warmup_fraction: float, num_steps: int
) -> None:
    config = config_of(schedule, warmup_fraction, learning_rate=0.3)
    rates = [learning_rate_at(config, step, num_steps) for step in range(num_steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.3)
    assert min(rates) > 0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_one_cycle_goes_from_a_twentyfifth_to_a_ten_thousandth() -> None:
    config = config_of("one_cycle", 0.3, learning_rate=2.0)
    rates = [learning_rate_at(config, step, 10_000) for step in range(10_000)]
    assert rates[0] == pytest.approx(2.0 / 25, rel=1e-3)
    assert rates[2999] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(2.0 / 1e4, rel=1e-2)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_configuration_reaches_the_optimizer(optimizer: str) -> None:
    config = OptimConfig(optimizer=optimizer, learning_rate=0.5, momentum=0.7, weight_decay=0.01)  # type: ignore[arg-type]
    (group,) = build_optimizer(nn.Linear(2, 2, bias=False), config).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.01)
    assert group["betas"] == (0.7, 0.999) if optimizer == "adam" else group["momentum"] == 0.7


MISTAKES: list[tuple[dict[str, float], str]] = [
    ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, got nan"),
    ({"learning_rate": float("inf")}, "learning_rate must be above 0 and finite, got inf"),
    ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
    ({"weight_decay": -0.1}, "weight_decay must be at least 0 and finite, got -0.1"),
    ({"weight_decay": float("nan")}, "weight_decay must be at least 0 and finite, got nan"),
    ({"warmup_fraction": 1.0}, "warmup_fraction must be at least 0 and below 1, got 1.0"),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimConfig(**settings)  # type: ignore[arg-type]
