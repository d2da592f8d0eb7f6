"""Laws of the registry, with timm's networks: names, heads, initial weights, frozen backbones, group norms."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from sunspark.errors import ConfigError, SetupError
from sunspark.models.initial import initial_weights
from sunspark.models.registry import ModelArgument, ModelConfig, build_model, check_forward, head_of

RESNET = ModelConfig(model="resnet18")


def build(config: ModelConfig, num_classes: int = 5, image_size: int = 32, seed: int = 0) -> nn.Module:
    return build_model(config, num_classes=num_classes, image_size=image_size, seed=seed)


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnet19", "resnet18"), ("scene_vg", "scene_vgg"), ("mobilnetv3_small_100", "mobilenetv3")]
)
def test_an_unknown_model_is_refused_with_the_nearest_names(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"no model '{name}'.*{nearest}"):
        ModelConfig(model=name)


def test_timms_weights_depend_on_the_seed_alone_and_lie_in_channels_last() -> None:
    one, two, other = build(RESNET).state_dict(), build(RESNET).state_dict(), build(RESNET, seed=1).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
    assert one["conv1.weight"].is_contiguous(memory_format=torch.channels_last)


def test_arguments_are_passed_on_and_wrong_ones_named() -> None:
    model = build(ModelConfig(model="resnet18", model_args={"drop_path_rate": 0.2}))
    assert any(type(module).__name__ == "DropPath" for module in model.modules())
    with pytest.raises(ConfigError, match="resnet18 at 32 px with no_such=1"):
        build(ModelConfig(model="resnet18", model_args={"no_such": 1}))


def test_networks_of_a_fixed_size_are_built_for_ours() -> None:
    model = build(ModelConfig(model="vit_tiny_patch16_224"), image_size=64)
    check_forward(model, 5, 64)


def test_an_image_that_is_too_small_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"does not take images of 8 px.*--image-size"):
        check_forward(build(ModelConfig(model="convnext_atto"), image_size=8), 5, 8)


TRAIN_NARROW = """
import torch
from sunspark.models.registry import ModelConfig, build_model
torch.set_num_threads(1)
for name, args in (("resnet18", {"channels": [4, 8, 12, 16]}), ("repvgg_a0", {})):
    model = build_model(ModelConfig(model=name, model_args=args), num_classes=5, image_size=32, seed=0)
    for _ in range(6):
        images = torch.rand(12, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        model(images).square().sum().backward()
        other = [torch.rand(size) for size in range(1, 3000, 37)]
print("trained")
"""


def test_narrow_strided_convolutions_train_without_writing_beyond_their_memory() -> None:
    """A process of its own, whose allocator checks what it is given back."""
    environment = {**os.environ, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    command = [sys.executable, "-c", TRAIN_NARROW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr


def test_checking_leaves_statistics_as_they_were() -> None:
    model = build(RESNET)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_forward(model, 5, 32)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "args"),
    [("scene_vgg", {"n_filters": 2, "wide_units": 8}), ("resnet18", {}), ("mobilenetv3_small_100", {})],
)
def test_weights_are_taken_over_with_a_fresh_head_where_theirs_does_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, args: dict[str, ModelArgument]
) -> None:
    theirs = build(ModelConfig(model=name, model_args=args), num_classes=7, seed=3).state_dict()
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in theirs.items()}, file)
    config = ModelConfig(model=name, model_args=args, weights=str(file))
    with caplog.at_level(logging.WARNING):
        ours = initial_weights(config, num_classes=5, image_size=32, seed=0)
    assert "another head" in caplog.text
    heads = tuple(f"{head}." for head in head_of(build(config)))
    for key, tensor in ours.items():
        if key.startswith(heads):
            assert len(tensor) == 5
        else:
            assert torch.equal(tensor, theirs[key])
    caplog.clear()
    assert torch.equal(initial_weights(config, num_classes=7, image_size=32, seed=0)[heads[0] + "bias"],
                       theirs[heads[0] + "bias"])  # fmt: skip
    assert not caplog.text


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(ConfigError, match=r"does not fit the network in \d+ tensors: bn1.bias"):
        initial_weights(ModelConfig(model="resnet18", weights=str(file)), num_classes=5, image_size=32, seed=0)
    file.write_text("no weights")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        initial_weights(ModelConfig(model="resnet18", weights=str(file)), num_classes=5, image_size=32, seed=0)
    with pytest.raises(ConfigError, match="no file of weights at"):
        initial_weights(ModelConfig(weights=str(tmp_path / "none")), num_classes=5, image_size=32, seed=0)
    with pytest.raises(ConfigError, match="there is no file of weights at"):
        initial_weights(ModelConfig(weights=str(tmp_path)), num_classes=5, image_size=32, seed=0)


def test_pretrained_weights_without_a_network_are_said_to_be_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match=r"weights of resnet18 cannot be downloaded.*--weights"):
        initial_weights(ModelConfig(model="resnet18", pretrained=True), num_classes=5, image_size=32, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "scene_vgg", "pretrained": True}, "no pretrained weights for scene_vgg"),
        ({"model": "resnet18", "pretrained": True, "weights": "w"}, "contradict each other"),
        ({"model": "resnet18", "freeze": "backbone"}, "random weights; give --pretrained or --weights"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)  # type: ignore[arg-type]


def test_a_frozen_backbone_leaves_the_head_alone_in_training() -> None:
    model = build(ModelConfig(model="resnet18", freeze="backbone", weights="somewhere"))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["fc.weight", "fc.bias"]
    assert [name for name, module in model.named_modules() if module.training] == ["fc"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100"])
def test_group_norms_take_the_place_of_batch_norms_and_samples_no_longer_see_each_other(name: str) -> None:
    model = build(ModelConfig(model=name, norm="group"), image_size=64).double().eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_group_norms_are_refused_where_there_is_no_batch_norm() -> None:
    with pytest.raises(ConfigError, match="scene_vgg has no batch norm"):
        build(ModelConfig(norm="group"))
