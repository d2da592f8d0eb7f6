"""Which parallel strategy a run uses, and its settings."""

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

from sunspark.data.rounds import SyncEvery
from sunspark.errors import ConfigError
from sunspark.parallel.codec import Compression

InnerState = Literal["average", "reset", "keep"]

_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "auto": (),
    "serial": (),
    "all_reduce": ("compression",),
    "local_sgd": ("sync_every", "inner_state", "compression"),
    "diloco": ("sync_every", "inner_state", "outer_learning_rate", "outer_momentum", "compression"),
    "async": ("sync_every", "staleness_bound", "compression"),
    "hogwild": ("sync_every", "staleness_bound", "compression"),
}
"""What each strategy heeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyConfig:
    """How workers train one network together."""

    strategy: Literal["serial", "all_reduce", "local_sgd", "diloco", "async", "hogwild", "auto"] = "all_reduce"
    """serial: one worker. all_reduce: gradients are summed at every step (arXiv 1706.02677). local_sgd: each replica
    takes steps of its own, then parameters are averaged (arXiv 1805.09767). diloco: the same, and an outer optimizer
    steps along the average (arXiv 2311.08105). async: nobody waits for others; the driver keeps the parameters, and
    adds what each worker has changed (NIPS 2012, Downpour SGD). hogwild: the same, without a lock (arXiv 1106.5730).
    auto: one worker alone, all_reduce or diloco, by a forecast; a pilot of a minute comes first."""
    sync_every: SyncEvery | None = None
    """All but serial and all_reduce: steps from one exchange to the next, or epoch; if not given, 16."""
    inner_state: InnerState | None = None
    """local_sgd and diloco: what becomes of the optimizer's moments at an exchange; average: the mean of all replicas
    (if not given); reset: they start anew; keep: each replica goes on with its own, and all workers hold them all."""
    outer_learning_rate: float | None = None
    """diloco: learning rate of the outer optimizer, SGD with Nesterov momentum; if not given, 0.7."""
    outer_momentum: float | None = None
    """diloco: momentum of the outer optimizer; if not given, 0.9."""
    staleness_bound: int | None = None
    """async and hogwild: no update is applied after more than so many of others that it knows nothing of; who is ahead
    waits. If not given, there is no bound."""
    compression: Compression = "none"
    """How gradients or parameters travel. bf16: half the bytes. int8: a quarter of them. What encoding loses is added
    to the next exchange. Then they travel always: workers on one machine do not sum them in shared memory."""

    def __post_init__(self) -> None:
        for name in sorted({name for names in _OPTIONS.values() for name in names} - {*_OPTIONS[self.strategy]}):
            if getattr(self, name) not in (None, "none"):
                who = ", ".join(strategy for strategy, names in _OPTIONS.items() if name in names)
                raise ConfigError(
                    f"{name} {getattr(self, name)} has no effect with --strategy {self.strategy}; it is for {who}"
                )
        if isinstance(self.sync_every, int) and self.sync_every < 1:
            raise ConfigError(f"sync_every must be at least 1, or epoch, got {self.sync_every}")
        if self.staleness_bound is not None and self.staleness_bound < 0:
            raise ConfigError(
                f"staleness_bound must be at least 0, got {self.staleness_bound}; leave it out for no bound"
            )
        if self.outer_learning_rate is not None and not 0 < self.outer_learning_rate < math.inf:
            raise ConfigError(f"outer_learning_rate must be above 0 and finite, got {self.outer_learning_rate}")
        if self.outer_momentum is not None and not 0 <= self.outer_momentum < 1:
            raise ConfigError(f"outer_momentum must be at least 0 and below 1, got {self.outer_momentum}")

    def settled(self) -> Self:
        """The same with what is meant where nothing was given, of the options that the strategy heeds."""
        rate, momentum = self.outer
        meant: dict[str, Any] = {
            "sync_every": self.steps_between_exchanges,
            "inner_state": self.becomes_of_moments,
            "outer_learning_rate": rate,
            "outer_momentum": momentum,
        }
        return replace(self, **{name: meant[name] for name in _OPTIONS[self.strategy] if name in meant})

    @property
    def is_local(self) -> bool:
        """Whether replicas take steps of their own between two exchanges."""
        return self.strategy in ("local_sgd", "diloco")

    @property
    def has_server(self) -> bool:
        """Whether the driver keeps the parameters, and workers do not wait for each other."""
        return self.strategy in ("async", "hogwild")

    @property
    def steps_between_exchanges(self) -> SyncEvery:
        """1 for those that communicate at every step."""
        if not (self.is_local or self.has_server):
            return 1
        return 16 if self.sync_every is None else self.sync_every

    @property
    def becomes_of_moments(self) -> InnerState:
        """What becomes of the inner optimizer's moments."""
        return self.inner_state or "average"

    @property
    def outer(self) -> tuple[float, float]:
        """Learning rate and momentum of the outer optimizer; (1, 0) takes the average as it is."""
        if self.strategy != "diloco":
            return 1.0, 0.0
        rate, momentum = self.outer_learning_rate, self.outer_momentum
        return 0.7 if rate is None else rate, 0.9 if momentum is None else momentum
