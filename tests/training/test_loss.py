"""Laws of the loss: without extras it is the cross-entropy; the extras do what their papers say."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sunspark.data.decode_pool import Batch
from sunspark.errors import ConfigError
from sunspark.training.forward import images_of
from sunspark.training.loss import Loss, LossConfig, balanced_weights

NUM_CLASSES = 3


class Linear(nn.Module):
    """Keeps the images that it was given."""

    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(3 * 8 * 8, NUM_CLASSES).double()
        self.seen = torch.empty(0)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.seen = images_BCHW.clone()
        logits_BK: Tensor = self.linear(images_BCHW.flatten(1))
        return logits_BK


def batch_of(size: int = 6) -> Batch:
    rng = np.random.default_rng(size)
    return Batch(
        sample_ids=np.arange(size, dtype=np.uint64),
        labels=rng.integers(0, NUM_CLASSES, size),
        pixels=rng.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8),
    )


def summed(config: LossConfig, batch: Batch) -> tuple[float, Linear]:
    """The loss by a network that has always the same weights; torch's random numbers go on as they were."""
    with torch.random.fork_rng(devices=[]):
        model = Linear()
    return float(Loss(config, (1, 1, 1)).summed(model, batch, "float64").detach()), model


def test_without_extras_it_is_the_sum_of_cross_entropies_and_adds_up() -> None:
    batch = batch_of()
    whole, model = summed(LossConfig(), batch)
    logits = model(images_of(batch, model, "float64"))
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="sum")
    assert whole == pytest.approx(float(expected.detach()))
    halves = [
        Batch(sample_ids=batch.sample_ids[part], labels=batch.labels[part], pixels=batch.pixels[part])
        for part in (slice(0, 2), slice(2, 6))
    ]
    assert sum(summed(LossConfig(), half)[0] for half in halves) == pytest.approx(whole)


def test_smoothing_spreads_a_share_of_the_label() -> None:
    batch = batch_of()
    smooth, model = summed(LossConfig(label_smoothing=0.3), batch)
    log_shares = model(images_of(batch, model, "float64")).log_softmax(1)
    targets = torch.full((len(batch), NUM_CLASSES), 0.1, dtype=torch.float64)
    targets[torch.arange(len(batch)), torch.from_numpy(batch.labels)] += 0.7
    assert smooth == pytest.approx(float(-(targets * log_shares).sum().detach()))


@pytest.mark.parametrize("counts", [(10, 10, 10), (1, 5, 94), (0, 3, 3)])
def test_balanced_weights_count_every_class_alike_and_leave_the_scale(counts: tuple[int, ...]) -> None:
    weights = balanced_weights(counts)
    totals = [float(weight) * count for weight, count in zip(weights, counts, strict=True) if count]
    assert totals == pytest.approx([sum(counts) / len(totals)] * len(totals))


def test_mixup_blends_images_and_labels_in_the_same_share() -> None:
    batch = batch_of()
    plain = images_of(batch, Linear(), "float64")
    torch.manual_seed(4)
    mixed, model = summed(LossConfig(mixup=0.4), batch)
    ratio = ((model.seen - plain.flip(0)) / (plain - plain.flip(0))).nanmedian()
    torch.testing.assert_close(model.seen, ratio * plain + (1 - ratio) * plain.flip(0))
    assert 0 < float(ratio) < 1
    logits, labels = model(model.seen), torch.from_numpy(batch.labels)
    own, other = (nn.functional.cross_entropy(logits, y, reduction="sum") for y in (labels, labels.flip(0)))
    assert mixed == pytest.approx(float((ratio * own + (1 - ratio) * other).detach()))


def test_cutmix_takes_a_box_and_the_labels_share_its_area() -> None:
    batch = batch_of()
    plain = images_of(batch, Linear(), "float64")
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, model = summed(LossConfig(cutmix=1.0), batch)
        foreign = (model.seen != plain)[0].any(dim=0)
        share = 1 - float(foreign.double().mean())
        rows, columns = foreign.any(dim=1), foreign.any(dim=0)
        assert int(foreign.sum()) == int(rows.sum()) * int(columns.sum())  # one box
        assert torch.equal(model.seen[0][:, foreign], plain.flip(0)[0][:, foreign])
        logits, labels = model(model.seen), torch.from_numpy(batch.labels)
        own, other = (nn.functional.cross_entropy(logits, y, reduction="sum") for y in (labels, labels.flip(0)))
        assert mixed == pytest.approx(float((share * own + (1 - share) * other).detach()))


def test_mixing_is_a_function_of_torchs_seed() -> None:
    config = LossConfig(mixup=0.2, cutmix=1.0)

    def losses() -> list[float]:
        torch.manual_seed(9)
        return [summed(config, batch_of())[0] for _ in range(5)]

    assert losses() == losses()
    assert len(set(losses())) == 5


@pytest.mark.parametrize("settings", [{"label_smoothing": 1.0}, {"mixup": -0.1}, {"cutmix": float("inf")}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        LossConfig(**settings)  # type: ignore[arg-type]
