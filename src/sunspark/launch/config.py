"""How a run is launched, and all of a training run: the configuration of `sunspark train`."""

from dataclasses import dataclass, field
from typing import Literal, Self

from sunspark.config import refuse_not_finite, refuse_unknown_fields
from sunspark.data.loader import LoaderConfig
from sunspark.errors import ConfigError
from sunspark.launch.address import refuse_every_address
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig, WorkConfig
from sunspark.training.loss import LossConfig
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.validation import ValidationConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchConfig:
    """Where and how workers are started; may change from one start of a run to the next."""

    launcher: Literal["spark", "local"] = "spark"
    """spark: as tasks of a Spark cluster. local: as processes of this machine, without Spark and Java."""
    master: str | None = None
    """Spark master, for instance local[4]; if not given, the one Spark is configured with, else local[*]."""
    workers: int = 2
    """Worker processes."""
    cores_per_worker: int = 1
    """Threads of each worker."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """cuda: each worker computes on a GPU of its own. auto: so where Spark gives each task one, or this machine, if
    all workers are here, has one for each; else as cpu."""
    start_timeout: float = 120.0
    """How long the first step waits for all workers, and the run for any worker at all (seconds)."""
    gradient_path: Literal["auto", "network"] = "auto"
    """auto: workers that are all on one machine sum gradients in memory they share, unless on GPUs; with a parameter
    server, those on its machine share memory with it. network: never."""
    host: str | None = None
    """Address of this machine that workers reach; if not given, Spark's driver address, or 127.0.0.1."""
    port: int = 0
    """Port of the coordinator; the lighthouse takes the next one. 0: any two that are free."""
    tracker: Literal["none", "tensorboard"] = "none"
    """tensorboard: the driver writes curves and results to event files in RUN/tensorboard too."""

    def __post_init__(self) -> None:
        refuse_not_finite(self)
        refuse_every_address(self.host)
        for name in ("workers", "cores_per_worker"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.start_timeout <= 0:
            raise ConfigError(f"start_timeout must be above 0 s, got {self.start_timeout}")
        if not 0 <= self.port < 65535:
            raise ConfigError(f"port must be between 0 and 65534, got {self.port}")
        if self.launcher == "local" and self.master:
            raise ConfigError(f"--master {self.master} has no effect with --launcher local; leave one of them out")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All of a training run: the sections of its work, and its launch."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: LoaderConfig = field(default_factory=LoaderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)

    def __new__(cls, **sections: object) -> Self:
        """Before the fields are filled: who writes TrainConfig(epochs=3) hears of training.epochs."""
        refuse_unknown_fields(cls, sections)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        if self.strategy.strategy == "serial" and self.launch.workers != 1:
            raise ConfigError(f"--strategy serial trains with one worker, got --workers {self.launch.workers}; give 1")

    @property
    def work(self) -> WorkConfig:
        """The part that decides what is computed."""
        return WorkConfig(
            model=self.model,
            optim=self.optim,
            data=self.data,
            training=self.training,
            loss=self.loss,
            validation=self.validation,
            strategy=self.strategy,
        )
