"""Laws of the tally of a batch: what is counted in parts is what is counted at once."""

import functools
import operator

import numpy as np
import pytest
import torch

from sunspark.training.evaluate import tally_of
from sunspark.training.tally import NOTHING

LOGITS_BK = torch.tensor([[3.0, 1, 2, 0, -1, -2], [0, 1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4], [0, 9, 0, 0, 0, 0]])
LABELS_B = torch.tensor([0, 0, 4, 1])


def test_what_an_image_was_taken_for_is_counted_and_the_loss_is_a_sum() -> None:
    tally = tally_of(LOGITS_BK, LABELS_B, np.array([10, 11, 12, 13]))
    assert tally.confusion == {(0, 0): 1, (0, 5): 1, (4, 0): 1, (1, 1): 1}
    assert tally.top5 == 3, "the label of the second image is ranked sixth"
    each = [-torch.log_softmax(row.double(), 0)[label] for row, label in zip(LOGITS_BK, LABELS_B, strict=True)]
    assert tally.loss_sum == pytest.approx(float(sum(each)), rel=1e-6)


def test_an_image_to_look_at_is_named_by_its_row_with_the_probability_of_what_it_was_taken_for() -> None:
    tally = tally_of(LOGITS_BK, LABELS_B, np.array([10, 11, 12, 13]))
    assert [(one.row, one.label, one.predicted) for one in tally.right] == [(10, 0, 0), (13, 1, 1)]
    assert {(one.row, one.label, one.predicted) for one in tally.mistakes} == {(11, 0, 5), (12, 4, 0)}
    wanted = float(torch.softmax(LOGITS_BK[3].double(), 0)[1])
    assert tally.right[1].probability == pytest.approx(wanted, rel=1e-6)


def test_with_fewer_classes_than_five_every_label_is_among_the_first_five() -> None:
    tally = tally_of(LOGITS_BK[:, :3], torch.tensor([2, 1, 0, 0]), np.arange(4))
    assert tally.top5 == sum(tally.confusion.values()) == 4


@pytest.mark.parametrize("batch_size", [1, 7, 64, 300])
def test_batches_add_up_to_the_whole(batch_size: int) -> None:
    rng = np.random.default_rng(5)
    logits_BK = torch.from_numpy(rng.normal(size=(256, 9))).double()
    labels_B = torch.from_numpy(rng.integers(0, 9, 256))
    rows_B = np.arange(1000, 1256)
    whole = tally_of(logits_BK, labels_B, rows_B)
    parts = [slice(start, start + batch_size) for start in range(0, 256, batch_size)]
    tallies = [tally_of(logits_BK[part], labels_B[part], rows_B[part]) for part in parts]
    total = functools.reduce(operator.add, tallies, NOTHING)
    assert (total.confusion, total.top5) == (whole.confusion, whole.top5)
    assert [one.row for one in total.mistakes] == [one.row for one in whole.mistakes]
    assert [one.row for one in total.right] == [one.row for one in whole.right]
    assert total.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)
