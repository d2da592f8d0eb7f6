"""Laws of the networks: the shape of 2020's scene_vgg, weights from the seed alone, dropout where it belongs."""

from collections.abc import Iterator
from typing import TypeVar

import pytest
import torch
from torch import nn

from sunspark.errors import ConfigError
from sunspark.models.registry import ModelArgument, ModelConfig, build_model, normalize
from sunspark.models.scene_vgg import SceneVGG

TINY: dict[str, ModelArgument] = {"n_filters": 2, "wide_units": 8}
Kind = TypeVar("Kind", bound=nn.Module)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(seed: int = 0, image_size: int = 32, num_classes: int = 5, **args: ModelArgument) -> nn.Module:
    config = ModelConfig(model_args=TINY | args)
    return build_model(config, num_classes=num_classes, image_size=image_size, seed=seed)


def layers(model: nn.Module, kind: type[Kind]) -> list[Kind]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_scene_vgg_is_the_network_of_2020() -> None:
    config = ModelConfig(model_args={"n_filters": 8})
    model = build_model(config, num_classes=397, image_size=128, seed=0)
    convolutions = [(c.in_channels, c.out_channels) for c in layers(model, nn.Conv2d)]
    assert convolutions == [
        (3, 8), (8, 8),
        (8, 16), (16, 16),
        (16, 32), (32, 32), (32, 32),
        (32, 64), (64, 64), (64, 64),
    ]  # fmt: skip
    assert all(c.kernel_size == (3, 3) and c.padding == (1, 1) for c in layers(model, nn.Conv2d))
    assert [(w.in_features, w.out_features) for w in layers(model, nn.Linear)] == [(4096, 4096), (4096, 397)]
    assert len(layers(model, nn.MaxPool2d)) == 4
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 18.5


def test_dropout_is_before_the_last_convolution_and_after_the_wide_layer() -> None:
    kinds = [type(m).__name__ for m in build().modules() if not list(m.children())]
    assert kinds[-10:] == [
        "ReLU", "Dropout", "Conv2d", "ReLU", "MaxPool2d",
        "Flatten", "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip
    assert kinds.count("Dropout") == 2
    assert [d.p for d in layers(build(), nn.Dropout)] == [0.4, 0.2]
    assert [d.p for d in layers(build(conv_dropout=0.1, wide_dropout=0.6), nn.Dropout)] == [0.1, 0.6]


def test_masks_differ_in_training_and_are_off_in_evaluation() -> None:
    model, images = build(seed=1), torch.rand(4, 3, 32, 32)
    assert model.training
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


@pytest.mark.parametrize(("image_size", "num_classes"), [(16, 2), (32, 5), (47, 3), (128, 1)])
def test_logits_have_one_column_per_class(image_size: int, num_classes: int) -> None:
    model = build(image_size=image_size, num_classes=num_classes)
    assert model(torch.rand(2, 3, image_size, image_size)).shape == (2, num_classes)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(11)
    one = build(seed=3).state_dict()
    torch.manual_seed(12)
    torch.rand(5)
    two, other = build(seed=3).state_dict(), build(seed=4).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["features.0.weight"], other["features.0.weight"])


def test_building_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_weights_are_float32_in_channels_last() -> None:
    model = build()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(
        c.weight.is_contiguous(memory_format=torch.channels_last) for c in model.modules() if isinstance(c, nn.Conv2d)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalize_centres_pixels_and_keeps_channels_last(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8)
    images = normalize(pixels, build(), dtype)
    assert images.shape == (2, 3, 4, 6)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(SceneVGG.pretrained_cfg[name]).double() for name in ("mean", "std"))
    expected = (pixels.double() / 255 - mean) / std
    torch.testing.assert_close(images.double(), expected.permute(0, 3, 1, 2), atol=2e-6, rtol=1e-5)


def test_an_unknown_model_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(ConfigError, match=r"no model 'scene_vg'.*scene_vgg"):
        ModelConfig(model="scene_vg")
    with pytest.raises(ConfigError, match="scene_vgg"):
        ModelConfig(model="zzz")


MISTAKES: list[tuple[dict[str, ModelArgument], int, str]] = [
    ({"filters": 3}, 32, r"no argument 'filters'; it has n_filters"),
    ({"n_filters": 0}, 32, "n_filters must be a whole number of at least 1, got 0"),
    ({"n_filters": 2.5}, 32, "n_filters must be a whole number of at least 1, got 2.5"),
    ({"n_filters": "many"}, 32, "n_filters must be a whole number .* got 'many'"),
    ({"n_filters": True}, 32, "n_filters must be a whole number .* got True"),
    ({"wide_units": -1}, 32, "wide_units must be a whole number"),
    ({"conv_dropout": 1.0}, 32, "conv_dropout must be at least 0 and below 1, got 1.0"),
    ({"wide_dropout": "much"}, 32, "wide_dropout must be at least 0 and below 1, got 'much'"),
    ({"wide_dropout": True}, 32, "wide_dropout must be at least 0 and below 1, got True"),
    ({}, 15, "image_size of at least 16, got 15"),
]


@pytest.mark.parametrize(("args", "image_size", "message"), MISTAKES)
def test_a_wrong_argument_is_refused_in_words(args: dict[str, ModelArgument], image_size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(image_size=image_size, **args)  # type: ignore[arg-type]
