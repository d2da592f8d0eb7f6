"""scene_vgg, the network of the 2020 project.

3x3 convolutions 2-2-3-3 with n, 2n, 4n, 8n filters, 2x2 max-pooling after each block, one wide layer
(after VGG, arXiv 1409.1556, section 2.1).

Shape legend: B batch, C channel, H W pixels, K class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast, final

from torch import Tensor, nn

from sunspark.errors import ConfigError

_POOLINGS: Final = 4


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

    pretrained_cfg: ClassVar = {
        "classifier": "head.4",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    """What timm says of its networks, under timm's names."""

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


def build_scene_vgg(num_classes: int, image_size: int, args: Mapping[str, Any]) -> nn.Module:
    """The network with fresh weights. Raises ConfigError when an argument or the size of the image is wrong."""
    known = SceneVGGArgs.__dataclass_fields__
    for name in args:
        if name not in known:
            raise ConfigError(f"scene_vgg has no argument {name!r}; it has {', '.join(known)}")
    if image_size < 1 << _POOLINGS:
        raise ConfigError(
            f"scene_vgg halves the image {_POOLINGS} times and needs image_size of at least 16, got {image_size}"
        )
    model = SceneVGG(num_classes, image_size, SceneVGGArgs(**args))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    nn.init.normal_(model.head[-1].weight, std=1e-3)  # type: ignore[arg-type]
    return model


def _block(channels_in: int, channels: int, depth: int, dropout_before_last: float = 0.0) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index in range(depth):
        if dropout_before_last and index == depth - 1:
            layers.append(nn.Dropout(dropout_before_last))
        layers.append(nn.Conv2d(channels_in if index == 0 else channels, channels, 3, padding=1))
        layers.append(nn.ReLU(inplace=True))
    return [*layers, nn.MaxPool2d(2)]
