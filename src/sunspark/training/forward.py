"""From a batch of pixels to logits, in the arithmetic that was asked for.

Shapes: B batch, C channels, H W pixels, K classes.
"""

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from sunspark.data.decode_pool import Batch
from sunspark.models.registry import normalize


def beside(model: nn.Module, numbers: npt.NDArray[Any]) -> Tensor:
    """A part of a batch, on the device of `model`."""
    return torch.from_numpy(numbers).to(next(model.parameters()).device)


def images_of(batch: Batch, model: nn.Module, dtype: str) -> Tensor:
    """images_BCHW of a batch as `model` wants them, normalised; `dtype` as in TrainingConfig, resolved."""
    precision = torch.float64 if dtype == "float64" else torch.float32
    return normalize(beside(model, batch.pixels), model, precision)


def logits_of_images(model: nn.Module, images_BCHW: Tensor, dtype: str) -> Tensor:
    """logits_BK, as float32 or better."""
    with torch.autocast(images_BCHW.device.type, dtype=torch.bfloat16, enabled=dtype == "bf16"):
        logits_BK: Tensor = model(images_BCHW)
    return logits_BK if dtype == "float64" else logits_BK.float()


def logits_of(model: nn.Module, batch: Batch, dtype: str) -> Tensor:
    """logits_BK of a batch, as float32 or better, on the processor."""
    return logits_of_images(model, images_of(batch, model, dtype), dtype).cpu()
