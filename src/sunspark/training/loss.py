"""What is minimised: cross-entropy, with the means against overfitting that act on a whole slice.

Label smoothing: Szegedy et al., arXiv 1512.00567, section 7. Mixup: Zhang et al., arXiv 1710.09412. CutMix: Yun et
al., arXiv 1905.04899. A sample is mixed with its mirror image in the order of its slice; how much is drawn once for a
slice from torch's random numbers, which the caller has seeded.

Shapes: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from sunspark.data.decode_pool import Batch
from sunspark.errors import ConfigError
from sunspark.training.forward import beside, images_of, logits_of_images


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """What is minimised."""

    label_smoothing: float = 0.0
    """Share of a label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: every class counts alike, however many samples it has; none: every sample does."""
    mixup: float = 0.0
    """Images of a slice are blended in pairs; the share is drawn from Beta(mixup, mixup), for instance 0.2. 0: off."""
    cutmix: float = 0.0
    """A box of each image is that of another; its area is drawn from Beta(cutmix, cutmix), for instance 1. 0: off.
    With mixup, either of them with equal chances."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be at least 0 and finite, got {getattr(self, name)}; 0 is off")


@final
class Loss:
    """Sums the loss of a batch."""

    def __init__(self, config: LossConfig, samples_per_class: Sequence[int]) -> None:
        self._config = config
        self._class_weights = balanced_weights(samples_per_class) if config.class_weights == "balanced" else None

    def summed(self, model: nn.Module, batch: Batch, dtype: str) -> Tensor:
        """The sum of the losses of a batch (nats, shape ()), in float32 or better; `dtype` as in TrainingConfig."""
        images_BCHW = images_of(batch, model, dtype)
        labels_B = beside(model, batch.labels)
        images_BCHW, share = self._mix(images_BCHW)
        logits_BK = logits_of_images(model, images_BCHW, dtype)
        loss = self._cross_entropy(logits_BK, labels_B)
        if share < 1:
            loss = share * loss + (1 - share) * self._cross_entropy(logits_BK, labels_B.flip(0))
        return loss

    def _cross_entropy(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        weights_K = None if self._class_weights is None else self._class_weights.to(logits_BK)
        return nn.functional.cross_entropy(
            logits_BK, labels_B, weight=weights_K, label_smoothing=self._config.label_smoothing, reduction="sum"
        )

    def _mix(self, images_BCHW: Tensor) -> tuple[Tensor, float]:
        """The images, each mixed with that of its mirror image, and the share of its own that is left."""
        mixup, cutmix = self._config.mixup, self._config.cutmix
        if not (mixup or cutmix):
            return images_BCHW, 1.0
        cuts = bool(cutmix) and (not mixup or float(torch.rand(())) < 0.5)
        strength = torch.tensor(cutmix if cuts else mixup)
        share = float(torch.distributions.Beta(strength, strength).sample())
        others_BCHW = images_BCHW.flip(0)
        if not cuts:
            return share * images_BCHW + (1 - share) * others_BCHW, share
        height, width = images_BCHW.shape[2:]
        top, left, bottom, right = _random_box(height, width, 1 - share)
        images_BCHW[:, :, top:bottom, left:right] = others_BCHW[:, :, top:bottom, left:right]
        return images_BCHW, 1 - (bottom - top) * (right - left) / (height * width)


def balanced_weights(samples_per_class: Sequence[int]) -> Tensor:
    """A weight for each class, inverse to its number of samples; 1 in the mean over all samples. float64 (K,)."""
    counts_K = torch.tensor(samples_per_class, dtype=torch.float64)
    num_classes = int((counts_K > 0).sum())
    return torch.where(counts_K > 0, counts_K.sum() / (num_classes * counts_K.clamp(min=1)), 0.0)


def _random_box(height: int, width: int, area: float) -> tuple[int, int, int, int]:
    """A box of that share of the area anywhere, cut off at the edges: top, left, bottom, right (the paper's B)."""
    side = area**0.5
    centre_y, centre_x = int(torch.randint(height, ())), int(torch.randint(width, ()))
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    return (
        max(0, centre_y - half_height),
        max(0, centre_x - half_width),
        min(height, centre_y + half_height),
        min(width, centre_x + half_width),
    )
