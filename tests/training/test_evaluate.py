"""Laws of the tally: what is counted in parts is what is counted at once."""

import numpy as np
import pytest
import torch

from sunspark.training.evaluate import sum_of, tally_of

LOGITS_BK = torch.tensor([[3.0, 1, 2, 0, -1, -2], [0, 1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4], [0, 9, 0, 0, 0, 0]])
LABELS_B = torch.tensor([0, 0, 4, 1])


def test_counts_are_per_class_and_the_loss_is_a_sum() -> None:
    tally = tally_of(LOGITS_BK, LABELS_B)
    assert tally.samples == [2, 1, 0, 0, 1, 0]
    assert tally.top1 == [1, 1, 0, 0, 0, 0]
    assert tally.top5 == [1, 1, 0, 0, 1, 0], "the label of the second image is ranked sixth"
    each = [-torch.log_softmax(row.double(), 0)[label] for row, label in zip(LOGITS_BK, LABELS_B, strict=True)]
    assert tally.loss_sum == pytest.approx(float(sum(each)), rel=1e-6)


def test_with_fewer_classes_than_five_every_label_is_among_the_first_five() -> None:
    tally = tally_of(LOGITS_BK[:, :3], torch.tensor([2, 1, 0, 0]))
    assert sum(tally.top5) == sum(tally.samples) == 4


@pytest.mark.parametrize("batch_size", [1, 7, 64, 300])
def test_batches_add_up_to_the_whole(batch_size: int) -> None:
    rng = np.random.default_rng(5)
    logits_BK = torch.from_numpy(rng.normal(size=(256, 9))).double()
    labels_B = torch.from_numpy(rng.integers(0, 9, 256))
    whole = tally_of(logits_BK, labels_B)
    starts = range(0, 256, batch_size)
    parts = sum_of([tally_of(logits_BK[s : s + batch_size], labels_B[s : s + batch_size]) for s in starts])
    assert (parts.samples, parts.top1, parts.top5) == (whole.samples, whole.top1, whole.top5)
    assert parts.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)
