"""What an optimizer remembers, as tensors and plain numbers by the names of the network's parameters.

`torch.optim.Optimizer.state_dict` numbers parameters; names survive a change of order, and can be checked.
"""

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn

from sunspark.errors import ConfigError
from sunspark.optim import OptimConfig, build_optimizer

_SETTINGS: Final = {"params", "lr", "weight_decay"}


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and the like: optimizer.<parameter>.<name> -> tensor, and optimizer-group.<number>.<name> -> tensor."""
    of_parameters = {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    return of_parameters | {
        f"optimizer-group.{number}.{key}": value
        for number, group in enumerate(optimizer.param_groups)
        for key, value in _state_of(group, optimizer).items()
        if isinstance(value, Tensor)
    }


def counters_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What is counted outside of tensors, by parameter, and for each group of parameters."""
    states = {name: _plain(optimizer.state.get(parameter, {})) for name, parameter in model.named_parameters()}
    return {
        "states": {name: counters for name, counters in states.items() if counters},
        "groups": [_plain(_state_of(group, optimizer)) for group in optimizer.param_groups],
    }


def load(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], counters: Any) -> None:
    """Remember what `tensors_of` and `counters_of` gave, and nothing else."""
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        moments = {
            key: _like_parameter(value, parameter) for key, value in _below(f"optimizer.{name}.", tensors).items()
        }
        if remembered := moments | counters["states"].get(name, {}):
            optimizer.state[parameter] = remembered
    for number, group in enumerate(optimizer.param_groups):
        for key in _state_of(group, optimizer):
            del group[key]
        group.update(counters["groups"][number])
        group.update({key: value.clone() for key, value in _below(f"optimizer-group.{number}.", tensors).items()})


def check_optimizer(config: OptimConfig) -> None:
    """Take steps on a small network, with a change of process in between.

    Raises ConfigError when the optimizer cannot, or goes on otherwise than it would have: what it remembers is then
    more than checkpoints hold.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2, 2))
            optimizer = build_optimizer(model, config)
            _step(model, optimizer)
            twin = copy.deepcopy(model)
            twins_optimizer = build_optimizer(twin, config)
            load(twin, twins_optimizer, tensors_of(model, optimizer), counters_of(model, optimizer))
            _step(model, optimizer)
            _step(twin, twins_optimizer)
        except Exception as error:  # whatever the optimizers of timm and torch raise
            raise ConfigError(f"the optimizer {config.optimizer} cannot be used here: {error}") from error
    if any(not torch.equal(one, other) for one, other in zip(model.parameters(), twin.parameters(), strict=True)):
        raise ConfigError(
            f"the optimizer {config.optimizer} remembers more than checkpoints hold, and a resume would not be exact; "
            "choose another"
        )


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(0)
    optimizer.zero_grad()
    model(torch.randn(4, 2, 3, 3)).square().sum().backward()
    optimizer.step()


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if key.startswith(prefix) and "." not in key.removeprefix(prefix)
    }


def _state_of(group: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a group of parameters remembers; the rest of it is given by the configuration."""
    return {key: value for key, value in group.items() if key not in _SETTINGS | optimizer.defaults.keys()}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is None or isinstance(value, bool | int | float | str)}


def _like_parameter(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A moment has the parameter's memory layout (channels_last), as a fused step wants it; a counter is a scalar.

    Both are on the parameter's device.
    """
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
