"""Optimizers and learning-rate schedules by name.

The learning rate is a pure function of the step, so it is never state and a redone step sees the same one.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from sunspark.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Optimizer and schedule."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (arXiv 1412.6980) or sgd."""
    learning_rate: float = 1e-3
    """Highest learning rate of the schedule."""
    momentum: float = 0.9
    """Momentum of sgd, or beta1 of adam."""
    weight_decay: float = 0.0
    """L2 penalty added to the gradient."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    """How the learning rate changes over the run, step by step."""
    warmup_fraction: float = 0.05
    """Share of all steps in which the learning rate rises to its highest value (one_cycle: 0.3 is usual)."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.warmup_fraction < 1:
            raise ConfigError(f"warmup_fraction must be at least 0 and below 1, got {self.warmup_fraction}")


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over `parameters`; the caller sets the learning rate before each step."""
    if config.optimizer == "adam":
        betas = (config.momentum, 0.999)
        return torch.optim.Adam(
            parameters, lr=config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate_at(config: OptimConfig, step: int, num_steps: int) -> float:
    """The learning rate of `step` (from 0) in a run of `num_steps`.

    one_cycle (arXiv 1708.07120, section 4): rises from 1/25 of the highest along a cosine, falls to 1/10,000 of it.
    """
    warmup_steps = int(config.warmup_fraction * num_steps)
    peak = config.learning_rate
    if step < warmup_steps:
        if config.schedule == "one_cycle":
            return _cosine(peak / 25, peak, (step + 1) / warmup_steps)
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    match config.schedule:
        case "constant":
            return peak
        case "cosine":
            return _cosine(peak, 0.0, progress)
        case "one_cycle":
            return _cosine(peak, peak / 1e4, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
