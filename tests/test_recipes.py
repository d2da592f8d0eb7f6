"""Laws of `recipes/`: the command takes each of them whole, and trains with all that is in it; a guide names them all.

What is made small is the size alone: images, batch, epochs, width and depth of the network. Pretrained weights are not
downloaded: they come from a file, which a network of the same kind with random weights has filled.
"""

import importlib
import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from PIL import Image, ImageOps
from timm.models import get_pretrained_cfg

from sunspark.command_line import words_of
from sunspark.config import differences, from_dict, load
from sunspark.data.codec import encode_jpeg
from sunspark.data.scenes import draw_scene
from sunspark.data.writer import write_dataset
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.models.registry import ModelArgument, ModelConfig, build_model, check_forward
from sunspark.optim import build_optimizer
from sunspark.run_directory import read_config
from sunspark.training.config import WorkConfig
from tests.documents import DOCS, ROOT

pytestmark = pytest.mark.timeout(300)

OF_OTHER_COMMANDS = ("compare_2020", "compare_quick", "space")
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.toml") if path.stem not in OF_OTHER_COMMANDS)
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
SETTLED = {"training.replicas", "training.dtype", "training.order"}
"""What a run settles at its first start where the recipe leaves it open."""


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


def smaller(recipe: TrainConfig, folder: Path) -> TrainConfig:
    """The same in all but size, for one worker of this machine; pretrained weights come from a file."""
    model_args = recipe.model.model_args | SMALLER[recipe.model.model.partition(".")[0]]
    weights = str(weights_file(recipe.model.model, model_args, folder)) if recipe.model.pretrained else None
    return TrainConfig(
        model=replace(recipe.model, model_args=model_args, pretrained=False, weights=weights),
        optim=recipe.optim,
        data=replace(recipe.data, image_size=IMAGE_SIZE),
        training=replace(recipe.training, epochs=2, global_batch_size=12),
        loss=recipe.loss,
        validation=recipe.validation,
        launch=LaunchConfig(launcher="local", workers=1),
    )


def weights_file(model: str, model_args: dict[str, ModelArgument], folder: Path) -> Path:
    """Weights for the backbone, and a head for other classes, as those of ImageNet have."""
    other = ModelConfig(model=model, model_args=model_args)
    tensors = build_model(other, num_classes=NUM_CLASSES + 1, image_size=IMAGE_SIZE, seed=1).state_dict()
    file = folder / "weights.safetensors"
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


@each_recipe
def test_a_recipe_has_no_unknown_key_and_its_network_takes_its_images(recipe: Path) -> None:
    config = load(TrainConfig, recipe)
    if config.model.pretrained:
        assert get_pretrained_cfg(config.model.model).has_weights, f"timm has no weights called {config.model.model}"
    model = build_model(config.model, num_classes=NUM_CLASSES, image_size=config.data.image_size, seed=0)
    check_forward(model, NUM_CLASSES, config.data.image_size)
    build_optimizer(model, config.optim)


def train_small(recipe: Path, dataset: str, run: Path, folder: Path) -> None:
    asked = load(TrainConfig, recipe)
    small = smaller(asked, folder)
    trained = sunspark("train", dataset, run, "--config", recipe, *words_of(small, asked))
    assert trained.finished
    assert trained.steps == 4
    assert sunspark("verify", run).exactly_once
    work = from_dict(WorkConfig, read_config(str(run))["work"])
    assert {key for key, _, _ in differences(small.work, work)} <= SETTLED


def test_one_drawn_recipe_trains_with_all_that_is_in_it(
    dataset: str, run_folder: Path, tmp_path: Path, dice: random.Random
) -> None:
    recipe = dice.choice(RECIPES)
    print(recipe)
    train_small(recipe, dataset, run_folder, tmp_path)


@pytest.mark.laws
@each_recipe
def test_a_recipe_trains_with_all_that_is_in_it(recipe: Path, dataset: str, run_folder: Path, tmp_path: Path) -> None:
    train_small(recipe, dataset, run_folder, tmp_path)


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
