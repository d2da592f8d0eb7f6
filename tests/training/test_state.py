"""Laws of the training state: as bytes it is the same state, bit for bit, and goes on as if nothing had been."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.loader import LoaderConfig
from sunspark.data.writer import write_dataset
from sunspark.errors import RunError
from sunspark.models.registry import ModelConfig, build_model
from sunspark.optim import OptimConfig, build_optimizer
from sunspark.parallel.ledger import Evidence
from sunspark.training.config import WorkConfig
from sunspark.training.export import export_model, load_model
from sunspark.training.state import TrainingState
from sunspark.training.state_file import metadata_of, read, write
from sunspark.training.validation import Evaluation

_JPEG = encode_jpeg(np.zeros((8, 8, 3), np.uint8))

OPTIMIZERS = {
    "adam": OptimConfig(optimizer="adam", weight_decay=0.01),
    "sgd": OptimConfig(optimizer="sgd", learning_rate=0.1),
    "plain sgd": OptimConfig(optimizer="sgd", learning_rate=0.1, momentum=0.0),
}


class WithBuffers(nn.Module):
    """A network whose state is more than its parameters, and of which a part is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.frozen(self.head(self.norm(self.convolution(images)).mean(dim=(2, 3))))
        return out


def scene_vgg(n_filters: int = 2) -> nn.Module:
    config = ModelConfig(model_args={"n_filters": n_filters, "wide_units": 8, "conv_dropout": 0.0, "wide_dropout": 0.0})
    return build_model(config, num_classes=3, image_size=16, seed=1)


def with_buffers() -> nn.Module:
    torch.manual_seed(3)
    return WithBuffers().to(memory_format=torch.channels_last)


MODELS: dict[str, Callable[[], nn.Module]] = {"scene_vgg": scene_vgg, "with_buffers": with_buffers}


def state_of(model: nn.Module, optimizer: str = "adam", dtype: torch.dtype = torch.float32) -> TrainingState:
    model = model.to(dtype)
    return TrainingState(model, build_optimizer(model, OPTIMIZERS[optimizer]))


def train(state: TrainingState, steps: int, image_size: int = 16) -> None:
    for step in range(state.step, state.step + steps):
        dtype = next(state.model.parameters()).dtype
        images = torch.randn(4, 3, image_size, image_size, generator=torch.Generator().manual_seed(step)).to(dtype)
        state.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(step)
        state.statistics.begin_step()
        state.statistics.begin_slice(len(images))
        loss = state.model(images).square().sum()
        state.statistics.end_slice(1.0)
        loss.backward()
        evidence = Evidence(samples=4, sample_sum=step - 2**60, pixel_sum=step)
        state.apply(1e-3 * (step + 1), quorum_id=1 + step // 3, evidences=[evidence])


def assert_same(one: TrainingState, two: TrainingState) -> None:
    assert (one.step, one.ledger.lines, one.ledger.lineage) == (two.step, two.ledger.lines, two.ledger.lineage)
    for name, tensor in one.model.state_dict().items():
        other = two.model.state_dict()[name]
        assert torch.equal(tensor, other)
        assert (tensor.dtype, tensor.stride()) == (other.dtype, other.stride())
    for parameter, twin in zip(one.model.parameters(), two.model.parameters(), strict=True):
        mine, its = one.optimizer.state.get(parameter, {}), two.optimizer.state.get(twin, {})
        for key, value in mine.items():
            assert torch.equal(value, its[key]) if isinstance(value, torch.Tensor) else value == its.get(key)
            if isinstance(value, torch.Tensor):
                assert (value.dtype, value.stride()) == (its[key].dtype, its[key].stride())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("steps", [0, 5])
def test_a_state_survives_its_bytes_and_goes_on_bit_for_bit(
    model: str, optimizer: str, dtype: torch.dtype, steps: int
) -> None:
    original = state_of(MODELS[model](), optimizer, dtype)
    train(original, steps)
    restored = state_of(MODELS[model](), optimizer, dtype)
    train(restored, 2)  # what it was before does not matter
    restored.load(original.snapshot().body, "a snapshot")
    assert_same(original, restored)
    train(original, 4)
    train(restored, 4)
    assert_same(original, restored)


def test_the_same_state_has_the_same_bytes_wherever_it_came_from() -> None:
    """Peers that recover from several sources put parts of different processes together."""
    original, restored = state_of(scene_vgg()), state_of(scene_vgg())
    train(original, 3)
    restored.load(original.snapshot().body, "a snapshot")
    assert restored.snapshot() == original.snapshot()
    train(original, 2)
    train(restored, 2)
    assert restored.snapshot() == original.snapshot()


def test_tensors_of_every_kind_and_layout_are_written_as_safetensors_reads_them() -> None:
    numbers = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    tensors = {f"of {dtype}": numbers.to(dtype) for dtype in dtypes} | {
        "channels last": numbers.float().contiguous(memory_format=torch.channels_last),
        "transposed": numbers[0, 0].T,
        "expanded": torch.ones(1, dtype=torch.float16).expand(3),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
    }
    read_back = safetensors.torch.load(bytes(write(tensors, {})))
    assert read_back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read_back[name].dtype == tensor.dtype, name
        assert torch.equal(read_back[name], tensor), name


def test_a_snapshot_does_not_change_with_its_state() -> None:
    state = state_of(scene_vgg())
    train(state, 1)
    snapshot = state.snapshot()
    body = bytes(snapshot.body)
    train(state, 1)
    assert snapshot.body == body
    assert metadata_of(body, "")["step"] == str(snapshot.step) == "1"


def test_a_snapshot_waits_for_the_end_of_a_step() -> None:
    state = state_of(scene_vgg())
    snapshots: list[int] = []
    thread = threading.Thread(target=lambda: snapshots.append(state.snapshot().step))
    with state.lock:
        thread.start()
        thread.join(0.2)
        assert not snapshots
        train(state, 1)
    thread.join(10)
    assert snapshots == [1]


def test_the_ledger_can_be_read_without_the_network() -> None:
    state = state_of(scene_vgg())
    train(state, 4)
    ledger = read(state.snapshot().body, "a snapshot").ledger
    assert (ledger.lines, ledger.lineage) == (state.ledger.lines, state.ledger.lineage)


@pytest.mark.parametrize("others", [lambda: scene_vgg(n_filters=3), with_buffers], ids=["width", "kind"])
def test_the_state_of_another_network_is_refused_and_changes_nothing(others: Callable[[], nn.Module]) -> None:
    other, state, untouched = state_of(others()), state_of(scene_vgg()), state_of(scene_vgg())
    for one in (other, state, untouched):
        train(one, 2)
    with pytest.raises(RunError, match="the other holds another network"):
        state.load(other.snapshot().body, "the other")
    assert_same(untouched, state)


def test_the_state_of_another_optimizer_is_refused() -> None:
    other, state = state_of(scene_vgg(), "sgd"), state_of(scene_vgg(), "adam")
    train(other, 2)
    with pytest.raises(RunError, match="optimizer"):
        state.load(other.snapshot().body, "the other")


def _torn(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _torn_header(body: bytes) -> bytes:
    return body[:20]


def _empty(_: bytes) -> bytes:
    return b""


def _text(_: bytes) -> bytes:
    return b"this is no checkpoint, whatever its name says"


def _json_that_is_no_header(_: bytes) -> bytes:
    return (2).to_bytes(8, "little") + b"[]"


def saved(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> bytes:
    return bytes(write(tensors, {key: value for key, value in metadata.items() if key != "digest"}))


def _plain_safetensors(_: bytes) -> bytes:
    return safetensors.torch.save({"weight": torch.ones(2)})


def _another_format(_: bytes) -> bytes:
    return saved({"weight": torch.ones(2)}, {"format": "sunspark-state-9"})


def _without_ledger(body: bytes) -> bytes:
    tensors = safetensors.torch.load(body)
    del tensors["ledger"]
    return saved(tensors, metadata_of(body, ""))


def _another_step(body: bytes) -> bytes:
    return saved(safetensors.torch.load(body), metadata_of(body, "") | {"step": "7"})


def _tampered_line(body: bytes) -> bytes:
    tensors = safetensors.torch.load(body)
    tensors["ledger"][0, 3] += 1
    return saved(tensors, metadata_of(body, ""))


def _no_lineage(body: bytes) -> bytes:
    return saved(safetensors.torch.load(body), {"format": metadata_of(body, "")["format"]})


@pytest.mark.parametrize(
    "damage",
    [
        _torn, _torn_header, _empty, _text, _json_that_is_no_header, _plain_safetensors, _another_format,
        _without_ledger, _another_step, _tampered_line, _no_lineage,
    ],
)  # fmt: skip
def test_bytes_that_are_no_whole_state_are_refused_by_name_and_change_nothing(
    damage: Callable[[bytes], bytes],
) -> None:
    state, untouched = state_of(scene_vgg()), state_of(scene_vgg())
    train(state, 2)
    train(untouched, 2)
    with pytest.raises(RunError, match="the file in question"):
        state.load(damage(bytes(state.snapshot().body)), "the file in question")
    assert_same(untouched, state)


def test_the_header_tells_step_and_lineage_without_the_tensors() -> None:
    state = state_of(scene_vgg())
    train(state, 3)
    body = state.snapshot().body
    size = int.from_bytes(body[:8], "little")
    told = metadata_of(body[: 8 + size], "")
    assert (told["step"], told["lineage"]) == ("3", state.ledger.lineage)
    assert metadata_of(body, "")["lineage"] == state.ledger.lineage


# --- averages, clipping, optimizers of timm, networks of timm --------------------------------------------------------


def test_a_gradient_is_clipped_to_its_norm_and_not_where_it_lies() -> None:
    model = nn.Linear(2, 1, bias=False)
    state = TrainingState(model, torch.optim.SGD(model.parameters(), lr=0.0), clip_norm=1.0)
    before, shared = model.weight.detach().clone(), torch.tensor([[3.0, 4.0]])
    model.weight.grad = shared
    norm = state.gradient_norm()
    assert norm == pytest.approx(5.0)
    state.apply(1.0, 0, [Evidence(samples=1, sample_sum=0, pixel_sum=0)], norm)
    torch.testing.assert_close(before - model.weight.detach(), torch.tensor([[0.6, 0.8]]))
    assert torch.equal(shared, torch.tensor([[3.0, 4.0]]))  # other workers read it too


def test_the_average_follows_the_weights_and_survives_its_bytes() -> None:
    def new() -> TrainingState:
        model = with_buffers()
        return TrainingState(model, build_optimizer(model, OPTIMIZERS["sgd"]), ema_decay=0.75)

    state = new()
    expected = {name: t.clone() for name, t in state.model.state_dict().items() if t.is_floating_point()}
    for _ in range(3):
        train(state, 1)
        now = state.model.state_dict()
        expected = {name: 0.75 * average + 0.25 * now[name] for name, average in expected.items()}
    for name, average in expected.items():
        torch.testing.assert_close(state.judged_model.state_dict()[name], average)
    restored = new()
    restored.load(state.snapshot().body, "a snapshot")
    train(restored, 2)
    train(state, 2)
    assert restored.snapshot() == state.snapshot()
    with pytest.raises(RunError, match="holds an average"):
        state_of(with_buffers(), "sgd").load(state.snapshot().body, "it")


@pytest.mark.parametrize("optimizer", ["lamb", "lion", "nadamw", "rmsproptf"])
def test_timms_optimizers_survive_their_bytes_too(optimizer: str) -> None:
    def new() -> TrainingState:
        model = scene_vgg()
        return TrainingState(model, build_optimizer(model, OptimConfig(optimizer=optimizer, weight_decay=0.01)))

    original, restored = new(), new()
    train(original, 3)
    train(restored, 1)
    restored.load(original.snapshot().body, "a snapshot")
    train(original, 2)
    train(restored, 2)
    assert restored.snapshot() == original.snapshot()


def test_evaluations_are_part_of_the_history() -> None:
    state, other = state_of(scene_vgg()), state_of(scene_vgg())
    train(state, 1)
    train(other, 1)
    assert state.lineage == other.lineage
    state.add_evaluation(Evaluation(step=1, samples=9, top1=1 / 3, top5=1.0, mean_per_class=0.3, loss=1.1))
    assert state.lineage != other.lineage
    other.load(state.snapshot().body, "a snapshot")
    assert (other.lineage, other.evaluations) == (state.lineage, state.evaluations)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_small_100", "convnext_atto", "vit_tiny_patch16_224", "scene_vgg"]
)
def test_each_kind_of_network_trains_resumes_and_is_read_by_timm(tmp_path: Path, name: str) -> None:
    def new() -> TrainingState:
        model = build_model(ModelConfig(model=name), num_classes=3, image_size=64, seed=0)
        return TrainingState(model, build_optimizer(model, OptimConfig()))

    state, resumed = new(), new()
    train(state, 2, image_size=64)
    resumed.load(state.snapshot().body, "a checkpoint")
    train(state, 1, image_size=64)
    train(resumed, 1, image_size=64)
    assert resumed.snapshot() == state.snapshot()

    write_dataset(str(tmp_path / "data"), [("a.jpg", 0, ["train"], _JPEG)], classes=["a", "b", "c"], block_size=4)
    work = WorkConfig(model=ModelConfig(model=name), data=LoaderConfig(image_size=64))
    export_model(str(tmp_path / "run"), work, Dataset.open(str(tmp_path / "data")), state.model)
    images = torch.randn(2, 3, 64, 64)
    ours, _ = load_model(str(tmp_path / "run"))
    expected = state.model.eval()(images)
    torch.testing.assert_close(ours(images), expected)
    if name != "scene_vgg":
        import timm

        theirs = timm.create_model(f"local-dir:{tmp_path}/run/model", pretrained=True).eval()
        torch.testing.assert_close(theirs(images), expected)
