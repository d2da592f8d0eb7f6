"""The report of a search: how trials ended, what is not known yet, and lines that can be told apart."""

import itertools

import pytest

from sunspark.bench.trials import LEAST_TRIALS, Trial, Trials
from sunspark.bench.tune_charts import best_so_far, parallel, while_they_trained
from sunspark.bench.tune_report import ended_early, sections_of_search, unknown_importance


def trial(number: int, *top1s: float, state: str = "complete") -> Trial:
    return Trial(
        number=number,
        state=state,
        top1=top1s[-1] if top1s else None,
        values={"optim.learning_rate": 10.0**-number, "optim.optimizer": ("adam", "sgd")[number % 2]},
        curve=list(enumerate(top1s, start=1)),
        reason="" if top1s else "no memory",
        seconds=1.0,
    )


TRIALS = [trial(0, 0.2, 0.3, 0.4), trial(1, 0.5, 0.6, 0.7), trial(2, 0.1, state="pruned")]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (TRIALS[2], "ended after epoch 1: 10.0 %, place 3 of 3"),
        (trial(3, 0.3, 0.65, state="pruned"), "ended after epoch 2: 65.0 %; place 2 of 4 after epoch 1 with 30.0 %"),
        (
            trial(3, 0.6, 0.6, 0.6, 0.6, state="pruned"),
            "ended after epoch 4: 60.0 %; place 2 of 3 after epoch 3 with 60.0 %",
        ),
        (trial(3, state="pruned"), "ended early"),
    ],
)
def test_a_trial_that_was_ended_early_tells_where_it_fell_behind(one: Trial, said: str) -> None:
    assert ended_early(one, [*TRIALS[:3], one] if one.number == 3 else TRIALS).replace("\u00a0", " ") == said


def test_trials_begun_later_do_not_count_for_the_place_of_an_earlier_one() -> None:
    assert ended_early(TRIALS[2], [*TRIALS, trial(3, 0.9), trial(4, 0.9)]).endswith("place 3 of 3")


def test_how_each_trial_ended_is_in_the_table() -> None:
    found = Trials(trials=[*TRIALS, trial(3, state="failed")], importance={})
    outcomes = {one.number: outcome for one, outcome in sections_of_search(found)["trials"]}
    assert outcomes == {0: "", 1: "", 2: ended_early(TRIALS[2], TRIALS), 3: "failed: no memory"}


def test_it_is_said_why_importance_is_not_known() -> None:
    assert f"once {LEAST_TRIALS} trials have come to their end; 2 have" in unknown_importance(
        Trials(trials=TRIALS, importance={})
    )
    many = [trial(number, 0.5) for number in range(LEAST_TRIALS)]
    assert "do not tell which key matters" in unknown_importance(Trials(trials=many, importance={}))
    assert unknown_importance(Trials(trials=many, importance={"x": 1.0})) == ""


def test_each_trial_has_a_dot_at_its_last_evaluation_and_those_ended_early_a_dashed_line() -> None:
    chart = while_they_trained(TRIALS)
    assert chart is not None
    assert sorted(dot.label for dot in chart.dots) == ["0", "1", "2"]
    assert [shape.style for shape in chart.shapes] == ["line tone-1 dashed", "line tone-3", "line tone-5"]


def test_the_best_so_far_rises_in_steps_and_heeds_only_trials_that_came_to_their_end() -> None:
    chart = best_so_far([trial(0, 0.2), trial(1, 0.9, state="pruned"), trial(2, 0.4)])
    assert chart is not None
    points = [tuple(map(float, point.split())) for point in chart.shapes[0].path[1:].split("L")]
    assert all(x == next_x or y == next_y for (x, y), (next_x, next_y) in itertools.pairwise(points))
    dots = {dot.label: dot for dot in chart.dots}
    assert points[-1][1] == pytest.approx(1000 * (1 - dots["2"].y), abs=0.1)


def test_the_ends_of_parallel_axes_are_named_and_no_line_lies_on_the_frame() -> None:
    chart = parallel(TRIALS, ["optim.learning_rate", "optim.optimizer"])
    assert chart is not None
    assert sorted(label.text.replace("\u00a0", " ") for label in chart.labels) == sorted(
        ["0.01", "1", "adam", "sgd", "10.0 %", "70.0 %"]
    )
    for shape in chart.shapes:
        for point in shape.path[1:].split("L"):
            assert all(20 < float(number) < 980 for number in point.split())
    assert all(0 < label.y < 1 for label in chart.labels)
