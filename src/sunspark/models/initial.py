"""The weights that training starts from, where the seed alone does not give them.

The driver makes them once, at the first start of a run, and keeps them in the run: workers need neither the file nor
a network, and a resume starts from the same ones whatever has become of their source.
"""

import logging

import safetensors
import safetensors.torch
from torch import Tensor, nn

from sunspark import storage
from sunspark.errors import ConfigError
from sunspark.models.registry import ModelConfig, build_model, build_pretrained, head_of

logger = logging.getLogger(__name__)


def initial_weights(config: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> dict[str, Tensor]:
    """The weights of `--pretrained` or `--weights`, with a fresh head where theirs does not fit.

    Raises ConfigError when the file does not fit the network, SetupError when pretrained weights cannot be had.
    """
    if config.weights is None:
        model = build_pretrained(config, num_classes=num_classes, image_size=image_size, seed=seed)
    else:
        model = build_model(config, num_classes=num_classes, image_size=image_size, seed=seed)
        _take_over(model, _read(config.weights), config.weights)
    return dict(model.state_dict())


def _read(uri: str) -> dict[str, Tensor]:
    entry = storage.entry_at(uri)
    if entry is None or not entry.is_file:
        raise ConfigError(f"there is no file of weights at {uri}; check the path")
    try:
        return safetensors.torch.load(storage.read_bytes(uri))
    except (safetensors.SafetensorError, ValueError) as error:
        raise ConfigError(f"{uri} is not a safetensors file of weights: {error}") from error


def _take_over(model: nn.Module, theirs: dict[str, Tensor], source: str) -> None:
    ours = model.state_dict()
    head = tuple(f"{name}." for name in head_of(model))
    replaced = [name for name in ours if name.startswith(head) and _differ(ours[name], theirs.get(name))]
    expected = ours.keys() - replaced
    given = {name: tensor for name, tensor in theirs.items() if not name.startswith(head) or name in expected}
    wrong = sorted(name for name in expected | given.keys() if name not in ours or _differ(ours[name], given.get(name)))
    if wrong:
        raise ConfigError(
            f"{source} does not fit the network in {len(wrong)} tensors: {', '.join(wrong[:5])}"
            f"{', ...' if len(wrong) > 5 else ''}; give the model and arguments that it was made with"
        )
    if replaced:
        logger.warning("%s has another head than this training needs: starting with a fresh one", source)
    model.load_state_dict(given, strict=False)


def _differ(ours: Tensor, theirs: Tensor | None) -> bool:
    return theirs is None or theirs.shape != ours.shape
