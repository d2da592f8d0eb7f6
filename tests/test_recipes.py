"""Laws of `recipes/`: the command takes each of them whole, and trains with all that is in it; a guide names them all.

What is made small is the size alone: images, batch, epochs, width and depth of the network. Pretrained weights are not
downloaded: they come from a file, which a network of the same kind with random weights has filled.
"""

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from PIL import Image, ImageOps
from timm.models import get_pretrained_cfg

from sunspark.config import differences, from_dict, load
from sunspark.data.codec import encode_jpeg
from sunspark.data.scenes import draw_scene
from sunspark.data.writer import write_dataset
from sunspark.launch.config import TrainConfig
from sunspark.models.registry import ModelArgument, ModelConfig, build_model
from sunspark.run_directory import read_config
from sunspark.training.config import WorkConfig
from tests.documents import DOCS, ROOT

pytestmark = pytest.mark.timeout(300)

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)

NUM_CLASSES = 12
IMAGE_SIZE = 32
SMALLER: dict[str, dict[str, ModelArgument]] = {
    "scene_vgg": {"n_filters": 2, "wide_units": 16},
    "resnet18": {"channels": [4, 8, 12, 16]},
    "resnet50": {"channels": [4, 8, 12, 16]},
    "deit_small_patch16_224": {"embed_dim": 24, "depth": 2, "num_heads": 3},
}
"""Arguments that keep the kind of a network and lower its size, by name."""
SIZE = {
    "model.pretrained", "model.weights", "data.image_size", "training.epochs", "training.global_batch_size",
    "training.replicas", "training.dtype",
}  # fmt: skip
"""All that a test changes, and what a run settles where the recipe leaves it open."""


def sunspark(name: str, *words: object) -> Any:
    """The result of one command."""
    return importlib.import_module(f"sunspark.commands.{name}").run([str(word) for word in words]).result


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two images for training and one for the test in each of twelve classes."""
    rng = np.random.default_rng(0)
    samples = [
        (f"{number}.jpg", number % NUM_CLASSES, ["test" if number < NUM_CLASSES else "train"],
         encode_jpeg(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)))
        for number in range(3 * NUM_CLASSES)
    ]  # fmt: skip
    uri = str(tmp_path_factory.mktemp("recipes") / "dataset")
    write_dataset(uri, samples, classes=[f"class{label}" for label in range(NUM_CLASSES)])
    return uri


def smaller(model: ModelConfig) -> dict[str, ModelArgument]:
    return model.model_args | SMALLER[model.model.partition(".")[0]]


def weights_file(model: ModelConfig, folder: Path) -> Path:
    """Weights for the backbone of `model`, with a head for other classes, as those of ImageNet have."""
    other = ModelConfig(model=model.model, model_args=smaller(model))
    tensors = build_model(other, num_classes=NUM_CLASSES + 1, image_size=IMAGE_SIZE, seed=1).state_dict()
    file = folder / "weights.safetensors"
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def size_options(model: ModelConfig, folder: Path) -> list[str]:
    """The options that make a training one of seconds, on one worker."""
    words = ["--launcher", "local", "--workers", "1", "--epochs", "2", "--global-batch-size", "12"]
    words += ["--image-size", str(IMAGE_SIZE), "--model-args"]
    for name, value in smaller(model).items():
        words.append(f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}")
    if model.pretrained:
        words += ["--no-pretrained", "--weights", str(weights_file(model, folder))]
    return words


@each_recipe
def test_a_recipe_has_no_unknown_key_and_nothing_that_does_not_fit(recipe: Path) -> None:
    model = load(TrainConfig, recipe).model
    if model.pretrained:
        assert get_pretrained_cfg(model.model).has_weights, f"timm has no weights called {model.model}"


@each_recipe
def test_a_recipe_trains_with_all_that_is_in_it(recipe: Path, dataset: str, run_folder: Path, tmp_path: Path) -> None:
    asked = load(TrainConfig, recipe)
    trained = sunspark("train", dataset, run_folder, "--config", recipe, *size_options(asked.model, tmp_path))
    assert trained.finished
    assert trained.steps == 4
    assert sunspark("verify", run_folder).exactly_once
    work = from_dict(WorkConfig, read_config(str(run_folder))["work"])
    assert work.model.model_args == smaller(asked.model)
    changed = {key for key, _, _ in differences(asked.work, work) if not key.startswith("model.model_args.")}
    assert changed <= SIZE


def test_every_recipe_is_named_in_the_guide() -> None:
    guide = (DOCS / "guides" / "sun397.md").read_text()
    assert [recipe.name for recipe in RECIPES if f"`recipes/{recipe.name}`" not in guide] == []


def draw_classes(folder: Path, num_classes: int, images_per_class: int) -> None:
    """Class folders of drawn scenes: the six kinds, then the same turned, then in negative."""
    scenes = ("coast", "desert", "forest", "mountain", "city", "field")
    for label in range(num_classes):
        variation, scene = divmod(label, len(scenes))
        name = f"{scenes[scene]}_{variation}"
        (folder / name).mkdir(parents=True)
        for number in range(images_per_class):
            image = Image.open(io.BytesIO(draw_scene(scenes[scene], number))).rotate(90 * (variation % 4), expand=True)
            (ImageOps.invert(image) if variation >= 4 else image).save(folder / name / f"{number}.jpg")


@pytest.mark.laws
@pytest.mark.spark
@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_classes", [10, 40])
def test_sun_open_takes_any_folder_of_10_to_40_classes(num_classes: int, tmp_path: Path, run_folder: Path) -> None:
    images, dataset = tmp_path / "images", tmp_path / "dataset"
    draw_classes(images, num_classes, images_per_class=10)
    ingested = sunspark("ingest", images, dataset, "--short-side", 112, "--master", "local[2]")
    assert (ingested.classes, ingested.quarantined) == (num_classes, 0)
    assert ingested.splits == {"train": 8 * num_classes, "test": 2 * num_classes}
    recipe = ROOT / "recipes" / "sun_open.toml"
    assert sunspark("train", dataset, run_folder, "--config", recipe, "--master", "local[2]", "--epochs", 3).finished
    evaluated = sunspark("evaluate", run_folder)
    assert (evaluated.samples, len(evaluated.per_class)) == (2 * num_classes, num_classes)
    assert sunspark("verify", run_folder).exactly_once
