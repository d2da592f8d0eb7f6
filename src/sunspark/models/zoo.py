"""timm's networks: by name, built for our classes and image size, with or without timm's pretrained weights.

timm is imported when one of its networks is asked for: it takes seconds, and scene_vgg needs nothing of it.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sunspark.errors import ConfigError, SetupError


def names() -> list[str]:
    """The names of all of timm's networks."""
    import timm

    return list(timm.list_models())


def is_name(name: str) -> bool:
    """Whether timm has a network of this name; `name.tag` stands for one of its pretrained weights."""
    import timm

    return ":" not in name and "/" not in name and timm.is_model(name)


def build(
    name: str, num_classes: int, image_size: int, args: Mapping[str, Any], *, pretrained: bool = False
) -> nn.Module:
    """The network with fresh weights, or with pretrained ones and a fresh head.

    Raises ConfigError when timm does not take the arguments, SetupError when the pretrained weights cannot be had.
    """
    import timm
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name, allow_unregistered=True)
    if pretrained and not (known and known.has_weights):
        raise ConfigError(f"timm has no pretrained weights for {name}; leave --pretrained out, or choose another model")
    sized = {"img_size": image_size} if known and known.fixed_input_size else {}
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **{**sized, **args})
    except Exception as error:  # timm passes on what its networks, the hub client or the network stack raise
        if pretrained and _is_of_the_network(error):
            raise SetupError(
                f"the pretrained weights of {name} cannot be downloaded: {error}; fetch them where there is a network "
                "and give the file with --weights, or point HF_HOME to a cache that holds them"
            ) from error
        what = " ".join(f"{key}={value}" for key, value in args.items()) or "no arguments"
        raise ConfigError(f"timm cannot build {name} at {image_size} px with {what}: {error}") from error


def description_for_timm(model: nn.Module, classes: list[str], image_size: int) -> dict[str, Any]:
    """The config.json with which `timm.create_model("local-dir:...", pretrained=True)` builds this network again."""
    from timm.models._hub import save_config_for_hf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        save_config_for_hf(
            model,
            str(path),
            model_config={"label_names": classes},
            data_config={"input_size": (3, image_size, image_size)},
        )
        description: dict[str, Any] = json.loads(path.read_text())
    return description


def _is_of_the_network(error: BaseException) -> bool:
    """Whether something between here and the hub failed, as far as the types of the errors tell."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    return isinstance(error, OSError | HfHubHTTPError | LocalEntryNotFoundError)
