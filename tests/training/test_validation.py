"""Laws of evaluations while training: when they are due and when training ends are functions of what was found."""

import pytest

from sunspark.errors import ConfigError
from sunspark.training.validation import Evaluation, ValidationConfig, best_of, end_of, is_due


def found(*shares: float) -> list[Evaluation]:
    """Evaluations every ten steps with these top-1 accuracies."""
    return [
        Evaluation(step=10 * (index + 1), samples=50, top1=share, top5=1.0, mean_per_class=share, loss=1.0)
        for index, share in enumerate(shares)
    ]


@pytest.mark.parametrize(
    ("eval_every", "evaluated", "step", "expected"),
    [
        (0, 0, 10, False),
        (1, 0, 0, False),
        (1, 0, 10, True),
        (1, 1, 10, False),
        (1, 1, 11, False),
        (1, 1, 20, True),
        (2, 0, 10, False),
        (2, 0, 20, True),
        (4, 0, 50, True),
    ],
)
def test_an_evaluation_is_due_after_its_epochs_and_at_the_end(
    eval_every: int, evaluated: int, step: int, expected: bool
) -> None:
    """Ten steps an epoch, fifty steps in all."""
    assert is_due(ValidationConfig(eval_every=eval_every), found(0.5)[:evaluated], step, 10, 50) == expected


def test_the_best_is_the_highest_and_the_earliest_of_equals() -> None:
    assert best_of([]) is None
    best = best_of(found(0.2, 0.6, 0.4, 0.6))
    assert best is not None
    assert best.step == 20


@pytest.mark.parametrize(
    ("patience", "shares", "expected"),
    [
        (0, (0.5, 0.4, 0.3, 0.2), 100),
        (1, (0.5,), 100),
        (1, (0.5, 0.6, 0.7), 100),
        (1, (0.5, 0.5), 20),
        (2, (0.5, 0.4, 0.6, 0.5), 100),
        (2, (0.5, 0.4, 0.6, 0.5, 0.6), 50),
        (2, (0.5, 0.4, 0.3, 0.9), 30),
    ],
)
def test_training_ends_after_as_many_evaluations_without_a_new_best(
    patience: int, shares: tuple[float, ...], expected: int
) -> None:
    assert end_of(ValidationConfig(eval_every=1, patience=patience), found(*shares), 100) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 2}, "patience 2 has no effect without evaluations; give --eval-every"),
        ({"eval_split": "val"}, "eval_split val has no effect"),
        ({"keep": "best"}, "keep best has no effect"),
        ({"eval_every": -1}, "eval_every must be at least 0, got -1"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ValidationConfig(**settings)  # type: ignore[arg-type]
