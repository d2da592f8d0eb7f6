"""What an optimizer remembers, as tensors and plain numbers by the names of the network's parameters.

`torch.optim.Optimizer.state_dict` numbers parameters; names survive a change of order, and can be checked.
"""

from typing import Any

import torch
from torch import Tensor, nn

_SETTINGS = {"params", "lr", "weight_decay"}


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and the like: optimizer.<parameter>.<name> -> tensor."""
    return {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def counters_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What is counted outside of tensors, by parameter, and for each group of parameters."""
    states = {
        name: plain
        for name, parameter in model.named_parameters()
        if (plain := _plain(optimizer.state.get(parameter, {}), set()))
    }
    return {"states": states, "groups": [_plain(group, _settings(optimizer)) for group in optimizer.param_groups]}


def load(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], counters: Any) -> None:
    """Remember what `tensors_of` and `counters_of` gave, and nothing else."""
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        moments: dict[str, Any] = {
            key.removeprefix(prefix): _like_parameter(value, parameter)
            for key, value in tensors.items()
            if key.startswith(prefix) and "." not in key.removeprefix(prefix)
        }
        if remembered := moments | counters["states"].get(name, {}):
            optimizer.state[parameter] = remembered
    for group, values in zip(optimizer.param_groups, counters["groups"], strict=True):
        for key in _plain(group, _settings(optimizer)):
            del group[key]
        group.update(values)


def _settings(optimizer: torch.optim.Optimizer) -> set[str]:
    """Entries of a group that the configuration gives, and that are no state."""
    return _SETTINGS | optimizer.defaults.keys()


def _plain(values: dict[str, Any], but: set[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in values.items()
        if key not in but and (value is None or isinstance(value, bool | int | float | str))
    }


def _like_parameter(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A moment has the parameter's memory layout (channels_last), as a fused step wants it; a counter is a scalar."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
