"""Networks by name: images in, logits out.

Shape legend: B batch, C channel, H W pixels, K class.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from sunspark.config import suggestion
from sunspark.errors import ConfigError
from sunspark.models import zoo
from sunspark.models.norms import to_group_norms
from sunspark.models.scene_vgg import build_scene_vgg

ModelArgument = bool | int | float | str | list[int]

SCENE_VGG: Final = "scene_vgg"
_VECTOR_CHANNELS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which network, with which arguments, starting from which weights."""

    model: str = SCENE_VGG
    """Name of the network: scene_vgg, or one of timm's, for instance resnet18."""
    model_args: dict[str, ModelArgument] = field(default_factory=dict)
    """Arguments of the network, as name=value."""
    norm: Literal["own", "group"] = "own"
    """own: the network's norms. group: group norms in the place of batch norms."""
    pretrained: bool = False
    """Start from timm's pretrained weights, with a fresh head; the driver downloads them once."""
    weights: str | None = None
    """Safetensors file to start from; a head of another size than our classes is replaced by a fresh one."""
    freeze: Literal["none", "backbone"] = "none"
    """backbone: train the head alone (a linear probe), all else as in evaluation."""

    def __post_init__(self) -> None:
        if self.model != SCENE_VGG and not zoo.is_name(self.model):
            known = [SCENE_VGG, *zoo.names()]
            raise ConfigError(f"there is no model {self.model!r}; {suggestion(self.model, known)}")
        if self.pretrained and self.weights:
            raise ConfigError(f"--pretrained and --weights {self.weights} contradict each other; leave one of them out")
        if self.pretrained and self.model == SCENE_VGG:
            raise ConfigError("there are no pretrained weights for scene_vgg; choose one of timm's models")
        if self.freeze == "backbone" and not self.has_initial_weights:
            raise ConfigError("--freeze backbone would keep random weights; give --pretrained or --weights with it")

    @property
    def is_timms(self) -> bool:
        """Whether timm can build the network as it is, by its name."""
        return self.model != SCENE_VGG and self.norm == "own"

    @property
    def has_initial_weights(self) -> bool:
        """Whether training starts from weights that the seed alone does not give."""
        return self.pretrained or self.weights is not None


def build_model(config: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """The network with weights that depend on `seed` alone: float32, channels_last, in training mode.

    Raises ConfigError when an argument is unknown or the image is too small for the network.
    """
    return _build(config, num_classes, image_size, seed, pretrained=False)


def build_pretrained(config: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """The network with timm's pretrained weights and a head that depends on `seed` alone.

    Raises SetupError when the weights cannot be had.
    """
    return _build(config, num_classes, image_size, seed, pretrained=True)


def check_forward(model: nn.Module, num_classes: int, image_size: int) -> None:
    """Send two empty images through the network. Raises ConfigError when it does not take them, or gives no logits."""
    images_BCHW = torch.zeros(2, 3, image_size, image_size).to(memory_format=torch.channels_last)
    kept = {name: tensor.clone() for name, tensor in model.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits_BK: Any = model(images_BCHW)
    except Exception as error:
        raise ConfigError(
            f"the network does not take images of {image_size} px: {error}; raise --image-size"
        ) from error
    for name, tensor in model.named_buffers():
        tensor.copy_(kept[name])
    if not isinstance(logits_BK, Tensor) or logits_BK.shape != (2, num_classes):
        got = tuple(logits_BK.shape) if isinstance(logits_BK, Tensor) else type(logits_BK).__name__
        raise ConfigError(f"the network must give one row of {num_classes} logits an image, it gives {got}")


def _mend_convolutions(model: nn.Module) -> None:
    """Compute some convolutions in the usual layout, since oneDNN writes beyond its memory in their gradient.

    Strided 1x1 convolutions of fewer channels than a vector register holds (16 with AVX-512), in channels_last:
    github.com/uxlfoundation/oneDNN/issues/6035.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and set(module.kernel_size) == {1}
            and max(module.stride) > 1
            and module.groups == 1
            and module.in_channels < _VECTOR_CHANNELS
        ):
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_in_usual_layout)


def _in_usual_layout(_: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
    return (images[0].contiguous(),)


def _build(config: ModelConfig, num_classes: int, image_size: int, seed: int, *, pretrained: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.model == SCENE_VGG:
            model = build_scene_vgg(num_classes, image_size, config.model_args)
        else:
            model = zoo.build(config.model, num_classes, image_size, config.model_args, pretrained=pretrained)
        if config.norm == "group" and not to_group_norms(model):
            raise ConfigError(f"{config.model} has no batch norm; leave --norm group out")
    if config.freeze == "backbone":
        freeze_backbone(model)
    model = model.to(memory_format=torch.channels_last)
    _mend_convolutions(model)
    return model


def head_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the modules that turn features into logits."""
    described: Any = model
    classifier = described.pretrained_cfg["classifier"]
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)


def freeze_backbone(model: nn.Module) -> None:
    """Leave the head alone in training: nothing else learns, drops activations or gathers statistics."""
    model.requires_grad_(False).eval()
    for name in head_of(model):
        model.get_submodule(name).requires_grad_(True).train()


def normalize(pixels_BHWC: Tensor, model: nn.Module, dtype: torch.dtype) -> Tensor:
    """uint8 pixels_BHWC -> images_BCHW of `dtype`, in channels_last, with the mean and deviation of the network."""
    described: Any = model
    device = pixels_BHWC.device
    mean = torch.tensor(described.pretrained_cfg["mean"], dtype=dtype, device=device) * 255
    std = torch.tensor(described.pretrained_cfg["std"], dtype=dtype, device=device) * 255
    return pixels_BHWC.to(dtype).sub_(mean).div_(std).permute(0, 3, 1, 2)
