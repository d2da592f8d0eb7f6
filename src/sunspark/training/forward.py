"""From a batch of pixels to logits and loss, in the arithmetic that was asked for.

Shapes: B batch, C channels, H W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from sunspark.data.decode_pool import Batch
from sunspark.models import normalize


def logits_of(model: nn.Module, batch: Batch, dtype: str) -> Tensor:
    """logits_BK of a batch, as float32 or better; `dtype` as in TrainingConfig, resolved."""
    images_BCHW = normalize(torch.from_numpy(batch.pixels), torch.float64 if dtype == "float64" else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
        logits_BK: Tensor = model(images_BCHW)
    return logits_BK if dtype == "float64" else logits_BK.float()


def summed_loss(model: nn.Module, batch: Batch, dtype: str) -> Tensor:
    """The sum of the cross-entropies of a batch (nats, shape ()), in float32 or better."""
    logits_BK = logits_of(model, batch, dtype)
    return nn.functional.cross_entropy(logits_BK, torch.from_numpy(batch.labels), reduction="sum")
