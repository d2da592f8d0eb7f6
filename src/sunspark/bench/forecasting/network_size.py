"""How large what travels is: the parameters of a network, and what its optimizer remembers of each."""

import torch
from torch import nn

from sunspark.bench.forecasting.costs import NetworkSize
from sunspark.data.dataset import Dataset
from sunspark.optim import build_optimizer
from sunspark.training.config import WorkConfig
from sunspark.training.strategies.build import build_network


def network_size(dataset: Dataset, work: WorkConfig) -> NetworkSize:
    """Of the network that `work` trains on `dataset`. Raises ConfigError when there is no such network."""
    network = build_network(dataset, work)
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return NetworkSize(parameters=parameters, moments=parameters * _moments_per_parameter(work))


def _moments_per_parameter(work: WorkConfig) -> int:
    """What the optimizer keeps of one parameter once it has taken a step: tensors of the parameter's shape."""
    probe = nn.Linear(2, 2)
    optimizer = build_optimizer(probe, work.optim)
    for parameter in probe.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state[probe.weight]
    return sum(isinstance(value, torch.Tensor) and value.shape == probe.weight.shape for value in state.values())
