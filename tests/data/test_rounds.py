"""Rounds cut every epoch into the same pieces, the last one shorter, and no step is in two."""

import pytest

from sunspark.data.order import StepPlan
from sunspark.data.rounds import Rounds, SyncEvery


@pytest.mark.parametrize(
    ("sync_every", "begins"),
    [
        (1, list(range(14))),
        (3, [0, 3, 6, 7, 10, 13]),
        (7, [0, 7]),
        (20, [0, 7]),
        ("epoch", [0, 7]),
    ],
)
def test_rounds_of_two_epochs_of_seven_steps(sync_every: SyncEvery, begins: list[int]) -> None:
    plan = StepPlan(
        dataset_id="d", split="train", seed=0, num_samples=26, global_batch_size=4, num_epochs=2, num_replicas=2
    )
    rounds = Rounds(plan=plan, sync_every=sync_every)
    assert plan.steps_per_epoch == 7
    found = [rounds.steps_of(number) for number in range(len(begins))]
    assert [steps.start for steps in found] == begins
    assert [step for steps in found for step in steps] == list(range(14))
    assert all(rounds.round_of(step) == number for number, steps in enumerate(found) for step in steps)
