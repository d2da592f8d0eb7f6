"""From a configuration to the state of a training and the strategy that moves it."""

import copy

import torch
from torch import nn

from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader
from sunspark.data.order import StepPlan
from sunspark.models.registry import build_model
from sunspark.optim import build_optimizer
from sunspark.training.compute import Computation
from sunspark.training.config import WorkConfig
from sunspark.training.loss import Loss
from sunspark.training.state import TrainingState
from sunspark.training.strategies.local_sgd import LocalSgd
from sunspark.training.strategies.local_steps import LocalSteps
from sunspark.training.strategies.moments import InnerMoments
from sunspark.training.strategies.strategy import Strategy
from sunspark.training.strategies.synchronous import Synchronous


def build_strategy(
    model: nn.Module, work: WorkConfig, plan: StepPlan, loader: Loader, loss: Loss
) -> tuple[TrainingState, Strategy]:
    """The state that trains `model`, and the strategy that the configuration names.

    Raises ConfigError when optimizer and strategy do not go together.
    """
    if not work.strategy.is_local:
        state = _own_state(model, work, ema_decay=work.optim.ema_decay)
        computation = _computation(state, work, plan, loss)
        return state, Synchronous(state=state, plan=plan, loader=loader, optim=work.optim, computation=computation)
    inner = _own_state(copy.deepcopy(model), work)
    rate, momentum = work.strategy.outer
    state = TrainingState(
        model,
        _plain_sgd(model, lr=rate, momentum=momentum),
        ema_decay=work.optim.ema_decay,
        moments=_moments(inner, work, plan),
    )
    computation = _computation(inner, work, plan, loss)
    every = work.strategy.steps_between_exchanges
    return state, LocalSgd(state, computation, loader, work.optim, every, outer_learning_rate=rate)


def build_network(dataset: Dataset, work: WorkConfig) -> nn.Module:
    """The network of a run, with the weights that its seed gives, on the processor."""
    model = build_model(
        work.model, num_classes=len(dataset.classes), image_size=work.data.image_size, seed=work.training.seed
    )
    return model.double() if work.training.dtype == "float64" else model


def build_local_steps(
    model: nn.Module, work: WorkConfig, plan: StepPlan, loader: Loader, loss: Loss
) -> tuple[TrainingState, LocalSteps]:
    """What a worker trains by itself where the driver keeps the parameters: its copy of `model`, and its steps."""
    state = _own_state(model, work)
    return state, LocalSteps(computation=_computation(state, work, plan, loss), loader=loader, optim=work.optim)


def build_server_state(model: nn.Module, work: WorkConfig) -> TrainingState:
    """The state that the driver keeps of `model` there; no optimizer moves it but those of the workers."""
    return TrainingState(model, _plain_sgd(model, lr=1.0), ema_decay=work.optim.ema_decay)


def check_strategy(work: WorkConfig) -> None:
    """Raise ConfigError when optimizer and strategy do not go together."""
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2, 2))
    if work.strategy.is_local and work.strategy.becomes_of_moments != "reset":
        InnerMoments(model, build_optimizer(model, work.optim), work.strategy.becomes_of_moments, 1)


def _plain_sgd(model: nn.Module, *, lr: float, momentum: float = 0.0) -> torch.optim.SGD:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=lr, momentum=momentum, nesterov=momentum > 0)


def _own_state(model: nn.Module, work: WorkConfig, ema_decay: float = 0.0) -> TrainingState:
    optimizer = build_optimizer(model, work.optim)
    return TrainingState(model, optimizer, clip_norm=work.optim.clip_norm, ema_decay=ema_decay)


def _computation(state: TrainingState, work: WorkConfig, plan: StepPlan, loss: Loss) -> Computation:
    return Computation(
        state=state,
        plan=plan,
        loss=loss,
        dtype=work.training.dtype,
        micro_batch_size=work.training.micro_batch_size,
    )


def _moments(inner: TrainingState, work: WorkConfig, plan: StepPlan) -> InnerMoments | None:
    how = work.strategy.becomes_of_moments
    return None if how == "reset" else InnerMoments(inner.model, inner.optimizer, how, plan.num_replicas)
