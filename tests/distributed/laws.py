"""What the laws share: a small dataset, a network with its dropout on, and how far two final models are apart."""

import random
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch

from sunspark.data.augment import AugmentConfig
from sunspark.data.codec import encode_jpeg
from sunspark.data.loader import LoaderConfig
from sunspark.data.writer import write_dataset
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.records import StepRecord, read_records
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify

NUM_CLASSES = 6
NUM_IMAGES = 250
CHECKPOINT_EVERY = 40
Optimizer = Literal["sgd", "adam"]
GradientPath = Literal["auto", "network"]
PATHS: tuple[GradientPath, ...] = ("auto", "network")


def make_dataset(folder: Path, num_images: int = NUM_IMAGES) -> str:
    """Gratings in six directions with noise: a small network learns them within a few hundred steps."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:40, 0:40]

    def draw(label: int) -> bytes:
        angle = np.pi * label / NUM_CLASSES + rng.normal(0, 0.03)
        phase = (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.8, 1.0) + rng.uniform(0, 6)
        gray = 128 + 90 * np.sin(phase) + rng.normal(0, 12, x.shape)
        return encode_jpeg(np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2))

    samples = (
        (f"class{i % NUM_CLASSES}/{i}.jpg", i % NUM_CLASSES, ["train"], draw(i % NUM_CLASSES))
        for i in range(num_images)
    )
    uri = str(folder / "dataset")
    write_dataset(uri, samples, classes=[f"class{label}" for label in range(NUM_CLASSES)], block_size=64)
    return uri


def law_config(
    optimizer: Optimizer,
    *,
    workers: int,
    dtype: Literal["float32", "float64"] = "float64",
    gradient_path: GradientPath = "auto",
) -> TrainConfig:
    """scene_vgg with its dropout on, 32 px, four replicas, 304 steps (the last of each epoch smaller)."""
    optim = {
        "sgd": OptimConfig(optimizer="sgd", learning_rate=0.004, schedule="one_cycle", warmup_fraction=0.3),
        "adam": OptimConfig(optimizer="adam", learning_rate=1e-3, schedule="cosine"),
    }[optimizer]
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 4}),
        optim=optim,
        data=LoaderConfig(image_size=32, augment=AugmentConfig(flip_probability=0.0, crop_scale=(0.7, 1.0))),
        training=TrainingConfig(
            epochs=19, global_batch_size=16, replicas=4, dtype=dtype, checkpoint_every=CHECKPOINT_EVERY
        ),
        launch=LaunchConfig(launcher="local", workers=workers, device="cpu", gradient_path=gradient_path),
    )


def step_between_checkpoints(dice: random.Random, steps: range) -> int:
    """One of `steps` after which nobody comes back to where the others stand by loading a checkpoint alone."""
    return dice.choice([step for step in steps if 2 <= step % CHECKPOINT_EVERY <= CHECKPOINT_EVERY - 3])


def weights_of(run: str) -> torch.Tensor:
    """All weights of the finished model, side by side, in float64."""
    tensors = safetensors.torch.load_file(Path(run) / "model" / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def distance(run: str, other: str) -> float:
    """How far the weights of two runs are apart, relative to their length (L2)."""
    one, two = weights_of(run), weights_of(other)
    return float((one - two).norm() / two.norm())


def assert_nothing_was_lost(run: str, reference: str) -> None:
    """The law: the weights of the run that nothing happened to, and every sample of every epoch exactly once."""
    assert distance(run, reference) <= 1e-9
    verdict = verify(run)
    assert verdict.exactly_once, verdict.problems


def losses(run: str) -> list[float]:
    """The loss of every step (nats)."""
    steps = {record.step: record.loss for record in read_records(run) if isinstance(record, StepRecord)}
    return [steps[step] for step in sorted(steps)]
