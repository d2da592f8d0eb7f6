"""The finished model as a folder: weights as safetensors, and a description.

That says how to build the network, and how images are brought to the form in which it saw them.
"""

import safetensors.torch
from torch import nn

from sunspark import run_directory, storage
from sunspark.config import from_dict, to_dict
from sunspark.data.codec import DEFAULT_JPEG_QUALITY, DEFAULT_SHORT_SIDE
from sunspark.data.dataset import Dataset
from sunspark.errors import RunError
from sunspark.models import zoo
from sunspark.models.registry import ModelConfig, build_model
from sunspark.training.config import WorkConfig


def export_model(run: str, work: WorkConfig, dataset: Dataset, model: nn.Module) -> None:
    """Write RUN/model: model.safetensors and config.json, the latter last.

    Of timm's networks config.json is also what timm reads: `timm.create_model("local-dir:RUN/model", pretrained=True)`.
    """
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    storage.write_bytes_atomic(run_directory.model_weights_file(run), safetensors.torch.save(tensors))
    classes, image_size = list(dataset.classes), work.data.image_size
    ingested = dataset.manifest["configuration"]  # without these keys where the images were stored as they came
    description = {
        "model": to_dict(work.model),
        "image_size": image_size,
        "short_side": ingested.get("short_side", DEFAULT_SHORT_SIDE),
        "jpeg_quality": ingested.get("jpeg_quality", DEFAULT_JPEG_QUALITY),
        "dtype": work.training.dtype,
        "classes": classes,
        "dataset_id": dataset.id,
    }
    if work.model.is_timms:
        description = zoo.description_for_timm(model, classes, image_size) | description
    storage.write_json_atomic(run_directory.model_description_file(run), description)


def load_model(run: str) -> tuple[nn.Module, dict[str, object]]:
    """The network of a finished run in evaluation mode, and its description. Raises RunError when there is none."""
    if not storage.exists(run_directory.model_description_file(run)):
        raise RunError(f"{run} holds no finished model; run `sunspark train` on it to its end")
    description = storage.read_json(run_directory.model_description_file(run))
    model = build_model(
        from_dict(ModelConfig, description["model"]),
        num_classes=len(description["classes"]),
        image_size=description["image_size"],
        seed=0,
    )
    if description["dtype"] == "float64":
        model = model.double()
    model.load_state_dict(safetensors.torch.load(storage.read_bytes(run_directory.model_weights_file(run))))
    return model.eval(), description
