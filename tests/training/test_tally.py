"""Laws of the tally: it adds up the same in any order, keeps what is worth looking at, and stays small."""

import json
import math
import random

import pytest

from sunspark.training.tally import NOTHING, NUM_MISTAKES, NUM_RIGHT, Sighting, Tally, tally


def of_one(draw: random.Random, row: int) -> Tally:
    label, predicted = draw.randrange(9), draw.randrange(9)
    seen = Sighting(row=row, label=label, predicted=predicted, probability=draw.random())
    return tally(confusion={(label, predicted): 1}, top5=draw.randrange(2), loss_sum=1.0, sightings=[seen])


@pytest.mark.parametrize("seed", range(5))
def test_tallies_add_up_the_same_in_any_order_and_grouping(seed: int) -> None:
    draw = random.Random(seed)
    ones = [of_one(draw, row) for row in range(1000)]
    in_order = sum(ones, NOTHING)
    draw.shuffle(ones)
    middle = draw.randrange(1000)
    grouped = sum(ones[middle:], NOTHING) + sum(ones[:middle], NOTHING)
    assert grouped == in_order
    assert sum(grouped.confusion.values()) == 1000
    assert (len(grouped.mistakes), len(grouped.right)) == (NUM_MISTAKES, NUM_RIGHT)


def test_the_surest_mistakes_are_kept_surest_first_and_the_first_rows_that_were_right() -> None:
    total = sum((of_one(random.Random(row), row) for row in range(1000)), NOTHING)
    everything = [one for row in range(1000) for one in _sightings(of_one(random.Random(row), row))]
    wrong = sorted((one for one in everything if one.label != one.predicted), key=lambda one: -one.probability)
    assert list(total.mistakes) == wrong[:NUM_MISTAKES]
    assert list(total.right) == [one for one in everything if one.label == one.predicted][:NUM_RIGHT]


def test_it_travels_as_json_and_its_size_does_not_grow_with_the_samples() -> None:
    small, large = (sum((of_one(random.Random(row), row) for row in range(n)), NOTHING) for n in (1000, 10_000))
    sizes = [len(json.dumps(one.to_plain())) for one in (small, large)]
    assert sizes[1] < 1.1 * sizes[0]
    assert Tally.from_plain(json.loads(json.dumps(large.to_plain()))) == large


def test_of_a_model_that_diverged_nothing_is_kept_to_look_at() -> None:
    seen = Sighting(row=1, label=2, predicted=0, probability=math.nan)
    one = tally(confusion={(2, 0): 1}, top5=0, loss_sum=math.nan, sightings=[seen])
    assert (one + NOTHING).confusion == {(2, 0): 1}
    assert not one.mistakes


def _sightings(one: Tally) -> list[Sighting]:
    return [*one.mistakes, *one.right]
