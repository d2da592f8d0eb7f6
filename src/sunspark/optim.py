"""Optimizers and learning-rate schedules by name.

The learning rate is a pure function of the step, so it is never state and a redone step sees the same one.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn

from sunspark.config import suggestion
from sunspark.errors import ConfigError

_OWN: Final = ("adam", "adamw", "nesterov", "sgd")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Optimizer and schedule."""

    optimizer: str = "adam"
    """adam (arXiv 1412.6980), adamw (arXiv 1711.05101), sgd, nesterov (sgd with that momentum), or one of timm's."""
    learning_rate: float = 1e-3
    """Highest learning rate of the schedule."""
    momentum: float = 0.9
    """Momentum of sgd and nesterov, or beta1 of adam and adamw; timm's take what they know of it."""
    weight_decay: float = 0.0
    """Decay of all weights but norms and biases: an L2 penalty in the gradient; adamw's is apart from the gradient."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    """How the learning rate changes over the run, step by step."""
    warmup_fraction: float = 0.05
    """Share of all steps in which the learning rate rises to its highest value (one_cycle: 0.3 is usual)."""
    clip_norm: float = 0.0
    """Largest L2 norm of a step's gradient over all parameters; a longer one is scaled down. 0 clips nothing."""
    ema_decay: float = 0.0
    """Decay a step of an exponential moving average of the weights, which is then the model that is evaluated and
    kept, for instance 0.999; 0 keeps none."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")
        for name in ("momentum", "warmup_fraction", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        for name in ("weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if self.optimizer == "nesterov" and not self.momentum:
            raise ConfigError("nesterov needs a momentum above 0; use sgd for none")
        if not self.is_torchs:
            _check_name(self.optimizer)

    @property
    def is_torchs(self) -> bool:
        """Whether it is one of torch's, which need no further check."""
        return self.optimizer in _OWN


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over what is trained of `model`; the caller sets the learning rate before each step.

    Vectors (biases, scales and shifts of norms) and what the network names itself are not decayed.
    """
    groups = _groups(model, config.weight_decay)
    momentum, rate = config.momentum, config.learning_rate
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=(momentum, 0.999), fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
        case "nesterov":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=True, fused=True)
    from timm.optim import create_optimizer_v2

    return create_optimizer_v2(groups, opt=config.optimizer, lr=rate, momentum=momentum, weight_decay=0.0)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    name_exempt: Any = getattr(model, "no_weight_decay", set)
    exempt = set(name_exempt())
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [p for name, p in trained if p.ndim > 1 and name not in exempt]
    others = [p for name, p in trained if p.ndim <= 1 or name in exempt]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _check_name(name: str) -> None:
    from timm.optim import get_optimizer_info, list_optimizers

    known = [str(one) for one in list_optimizers()]
    if name not in known:
        raise ConfigError(f"there is no optimizer {name!r}; {suggestion(name, [*_OWN, *known])}")
    if get_optimizer_info(name).second_order:
        raise ConfigError(
            f"the optimizer {name} needs second derivatives, which workers do not compute; choose another"
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
