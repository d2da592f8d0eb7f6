"""Laws of a worker's part of a step: spread over workers the sums are the same, and forward commits nothing."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.data.writer import write_dataset
from sunspark.models.registry import ModelConfig, build_model
from sunspark.optim import OptimConfig, build_optimizer
from sunspark.training.compute import Computation, parts_of
from sunspark.training.loss import Loss, LossConfig
from sunspark.training.state import TrainingState

MIXED = LossConfig(label_smoothing=0.1, class_weights="balanced", mixup=0.2, cutmix=1.0)
Make = Callable[..., Computation]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rng = np.random.default_rng(0)
    samples = (
        (f"{i}.jpg", i % 3, ["train"], encode_jpeg(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)))
        for i in range(23)
    )
    uri = str(tmp_path_factory.mktemp("compute") / "dataset")
    write_dataset(uri, samples, classes=["a", "b", "c"], block_size=8)
    return Dataset.open(uri)


def plan_of(dataset: Dataset) -> StepPlan:
    """Steps of 22 and of one sample."""
    return StepPlan(
        dataset_id=dataset.id,
        split="train",
        seed=0,
        num_samples=23,
        global_batch_size=22,
        num_epochs=1,
        num_replicas=4,
    )


def computation(dataset: Dataset, micro_batch_size: int = 0) -> Computation:
    model = build_model(
        ModelConfig(model="resnet18", model_args={"drop_path_rate": 0.2}), num_classes=3, image_size=32, seed=1
    ).double()
    return Computation(
        state=TrainingState(model, build_optimizer(model, OptimConfig())),
        plan=plan_of(dataset),
        loss=Loss(MIXED, (8, 8, 7)),
        dtype="float64",
        micro_batch_size=micro_batch_size,
    )


def run(
    computation: Computation, dataset: Dataset, folder: Path, step: int, replicas: range
) -> dict[str, torch.Tensor]:
    """What the replicas leave: gradients and staged statistics."""
    loader = Loader(dataset, computation.plan, LoaderConfig(image_size=32, cache_directory=str(folder)), num_threads=1)
    try:
        batches = loader.take(step, replicas)
    finally:
        loader.close()
    num_samples = computation.plan.num_samples_of(step)
    evidence, loss_sum = computation.run(step, replicas, batches, num_samples, lambda _: contextlib.nullcontext())
    state = computation.state
    left = {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}
    assert state.statistics.staged.grad is not None
    sums = {"loss": torch.tensor(loss_sum, dtype=torch.float64), "samples": torch.tensor(float(evidence.samples))}
    return left | sums | {"staged": state.statistics.staged.grad}


@pytest.mark.parametrize("micro_batch_size", [0, 3])
def test_replicas_leave_the_same_sums_however_they_are_spread(
    dataset: Dataset, tmp_path: Path, micro_batch_size: int
) -> None:
    alone = run(computation(dataset, micro_batch_size), dataset, tmp_path, 0, range(4))
    parts = [
        run(computation(dataset, micro_batch_size), dataset, tmp_path, 0, replicas)
        for replicas in (range(2), range(2, 3), range(3, 4))
    ]
    for name, expected in alone.items():
        total = sum(part[name] for part in parts)
        assert isinstance(total, torch.Tensor)
        torch.testing.assert_close(total, expected.to(total.dtype), rtol=1e-10, atol=1e-12)


def test_forward_leaves_what_is_committed_alone_until_the_step_is_applied(dataset: Dataset, tmp_path: Path) -> None:
    one = computation(dataset)
    before = one.state.snapshot().body
    left = run(one, dataset, tmp_path, 0, range(4))
    assert one.state.snapshot().body == before
    one.state.statistics.commit()
    committed = torch.cat([t.flatten() for t in one.state.statistics.committed.values() if t.is_floating_point()])
    torch.testing.assert_close(committed, left["staged"])
    counters = [t for t in one.state.statistics.committed.values() if not t.is_floating_point()]
    assert {int(counter) for counter in counters} == {1}


def test_a_step_of_one_sample_uses_running_statistics_and_moves_none(dataset: Dataset, tmp_path: Path) -> None:
    one = computation(dataset)
    committed = torch.cat([t.flatten() for t in one.state.statistics.committed.values() if t.is_floating_point()])
    left = run(one, dataset, tmp_path, 1, range(4))
    assert float(left["samples"]) == 1
    torch.testing.assert_close(left["staged"], committed)
    assert all(gradient.isfinite().all() for gradient in left.values())


def test_a_network_without_batch_norm_stages_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    state = TrainingState(model, build_optimizer(model, OptimConfig()))
    assert len([*state.staged(), *state.trained()]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("num_samples", "most", "expected"),
    [
        (0, 4, []),
        (7, 0, [7]),
        (8, 4, [4, 4]),
        (9, 4, [3, 3, 3]),
        (1, 4, [1]),
        (3, 2, [3]),
        (5, 2, [3, 2]),
    ],
)
def test_parts_are_even_and_none_is_of_one_sample(num_samples: int, most: int, expected: list[int]) -> None:
    parts = parts_of(num_samples, most)
    assert [len(part) for part in parts] == expected
    assert [index for part in parts for index in part] == list(range(num_samples))


@pytest.mark.parametrize("micro_batch_size", [0, 3])
def test_gradients_are_said_to_become_final_once_before_the_last_backward_pass(
    dataset: Dataset, tmp_path: Path, micro_batch_size: int
) -> None:
    one = computation(dataset, micro_batch_size)
    loader = Loader(dataset, one.plan, LoaderConfig(image_size=32, cache_directory=str(tmp_path)), num_threads=1)
    passes: list[str] = []
    told: list[int] = []

    def phase(name: str) -> contextlib.AbstractContextManager[None]:
        passes.append(name)
        return contextlib.nullcontext()

    try:
        batches = loader.take(0, range(4))
        empty = loader.take(one.plan.num_steps - 1, range(3, 4))
    finally:
        loader.close()
    one.run(0, range(4), batches, 22, phase, lambda: told.append(passes.count("backward")))
    assert told == [passes.count("backward")]
    assert told[0] >= (8 if micro_batch_size else 4)
    assert len(empty[0]) == 0
    one.run(one.plan.num_steps - 1, range(3, 4), empty, 1, phase, lambda: told.append(-1))
    assert len(told) == 1, "who has no samples has no backward pass"
