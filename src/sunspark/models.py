"""The model registry: networks by name, images in, logits out.

`scene_vgg` is the network of the 2020 project: 3x3 convolutions 2-2-3-3 with n, 2n, 4n, 8n filters,
2x2 max-pooling after each block, one wide layer (after VGG, arXiv 1409.1556, section 2.1).

Shape legend: B batch, C channel, H W pixels, K class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast, final

import torch
from torch import Tensor, nn

from sunspark.config import nearest
from sunspark.errors import ConfigError

ModelArgument = bool | int | float | str

PIXEL_MEAN: Final = (0.485, 0.456, 0.406)
PIXEL_STD: Final = (0.229, 0.224, 0.225)
_POOLINGS: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which network, with which arguments."""

    model: str = "scene_vgg"
    """Name of the network."""
    model_args: dict[str, ModelArgument] = field(default_factory=dict)
    """Arguments of the network, as name=value."""

    def __post_init__(self) -> None:
        if self.model not in _BUILDERS:
            close = nearest(self.model, _BUILDERS) or sorted(_BUILDERS)
            raise ConfigError(f"there is no model {self.model!r}; the nearest names are {', '.join(close)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneVGGArgs:
    """Arguments of `scene_vgg`."""

    n_filters: int = 16
    """Filters of the first block; the others have 2, 4 and 8 times as many."""
    wide_units: int = 4096
    """Units of the wide layer."""
    conv_dropout: float = 0.4
    """Share of activations dropped before the last convolution."""
    wide_dropout: float = 0.2
    """Share of activations dropped after the wide layer."""

    def __post_init__(self) -> None:
        for name in ("n_filters", "wide_units"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        for name in ("conv_dropout", "wide_dropout"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {value!r}")


@final
class SceneVGG(nn.Module):
    """images_BCHW (float) -> logits_BK."""

    def __init__(self, num_classes: int, image_size: int, args: SceneVGGArgs) -> None:
        super().__init__()
        n = args.n_filters
        self.features = nn.Sequential(
            *_block(3, n, 2),
            *_block(n, 2 * n, 2),
            *_block(2 * n, 4 * n, 3),
            *_block(4 * n, 8 * n, 3, dropout_before_last=args.conv_dropout),
        )
        side = image_size >> _POOLINGS
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(8 * n * side * side, args.wide_units),
            nn.ReLU(inplace=True),
            nn.Dropout(args.wide_dropout),
            nn.Linear(args.wide_units, num_classes),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(images_BCHW)))


def build_model(config: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """The network with weights that depend on `seed` alone: float32, channels_last, in training mode.

    Raises ConfigError when an argument is unknown or the image is too small for the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS[config.model](num_classes, image_size, config.model_args)
    return model.to(memory_format=torch.channels_last)


def normalize(pixels_BHWC: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 pixels_BHWC -> images_BCHW of `dtype`, in channels_last, with ImageNet's mean and deviation."""
    mean = torch.tensor(PIXEL_MEAN, dtype=dtype) * 255
    std = torch.tensor(PIXEL_STD, dtype=dtype) * 255
    return pixels_BHWC.to(dtype).sub_(mean).div_(std).permute(0, 3, 1, 2)


def _block(channels_in: int, channels: int, depth: int, dropout_before_last: float = 0.0) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index in range(depth):
        if dropout_before_last and index == depth - 1:
            layers.append(nn.Dropout(dropout_before_last))
        layers.append(nn.Conv2d(channels_in if index == 0 else channels, channels, 3, padding=1))
        layers.append(nn.ReLU(inplace=True))
    return [*layers, nn.MaxPool2d(2)]


def _build_scene_vgg(num_classes: int, image_size: int, args: dict[str, ModelArgument]) -> nn.Module:
    known = SceneVGGArgs.__dataclass_fields__
    for name in args:
        if name not in known:
            raise ConfigError(f"scene_vgg has no argument {name!r}; it has {', '.join(known)}")
    if image_size < 1 << _POOLINGS:
        raise ConfigError(
            f"scene_vgg halves the image {_POOLINGS} times and needs image_size of at least 16, got {image_size}"
        )
    model = SceneVGG(num_classes, image_size, SceneVGGArgs(**args))  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    nn.init.normal_(model.head[-1].weight, std=1e-3)  # type: ignore[arg-type]
    return model


_BUILDERS: Final[dict[str, Callable[[int, int, dict[str, ModelArgument]], nn.Module]]] = {
    "scene_vgg": _build_scene_vgg,
}
