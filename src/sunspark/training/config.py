"""What is trained, for how long, in which arithmetic."""

from dataclasses import dataclass, field
from typing import Literal

from sunspark.data.dataset import Dataset
from sunspark.data.loader import LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.data.window_order import split_blocks
from sunspark.errors import ConfigError
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.training.loss import LossConfig
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.validation import ValidationConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """The training itself."""

    split: str = "train"
    """Split of the dataset that is trained on."""
    epochs: int = 10
    """Passes over the split."""
    global_batch_size: int = 64
    """Samples per step, over all workers."""
    replicas: int = 0
    """Slices that a step is cut into, whoever computes them; 0 for as many as workers are asked for."""
    seed: int = 0
    """Seed of weights, order, augmentation and dropout."""
    order: Literal["auto", "global", "window"] = "auto"
    """How an epoch is mixed: all samples, or blocks of them and then windows of 1,024 blocks, for sets that fit into no
    memory and no cache; auto is global up to ten million samples; settled at the first start."""
    micro_batch_size: int = 0
    """Most samples of a slice that are computed at once; a larger one is computed in parts, to save memory. 0: any."""
    dtype: Literal["auto", "float32", "float64", "bf16"] = "auto"
    """Arithmetic: bf16 is autocast over float32 weights; auto takes it where the driver's processor has it,
    whatever the workers' have, or the GPU with --device cuda or --launcher local; settled at the first start."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        for name in ("epochs", "global_batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batch_size < 0 or self.micro_batch_size == 1:
            raise ConfigError(f"micro_batch_size must be 0 or at least 2, got {self.micro_batch_size}")
        if self.replicas < 0:
            raise ConfigError(f"replicas must be at least 0, got {self.replicas}; 0 for one a worker")
        if self.replicas > self.global_batch_size:
            raise ConfigError(
                f"replicas must be at most global_batch_size ({self.global_batch_size}), got {self.replicas}: "
                "the others would have no samples; 0 for one a worker"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be 0 to 2**63 - 1, got {self.seed}; use 0 if in doubt")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkConfig:
    """Everything that decides what a worker computes; how it is launched is not part of it."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: LoaderConfig = field(default_factory=LoaderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)


def plan_of(dataset: Dataset, work: WorkConfig) -> StepPlan:
    """The order of all samples of a run."""
    training = work.training
    rows = dataset.rows(training.split)
    return StepPlan(
        dataset_id=dataset.id,
        split=training.split,
        seed=training.seed,
        num_samples=len(rows),
        global_batch_size=training.global_batch_size,
        num_epochs=training.epochs,
        num_replicas=training.replicas,
        # runs of before there was a choice say `auto`
        blocks=split_blocks(dataset.first_rows, rows) if training.order == "window" else None,
    )
