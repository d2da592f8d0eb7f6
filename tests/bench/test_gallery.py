"""Laws of the gallery: each image beside what is said of it, from the dataset that was evaluated or not at all."""

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sunspark.bench.gallery import THUMBNAIL_SIZE, Gallery, gallery
from sunspark.data.augment import evaluation_pixels
from sunspark.data.dataset import Dataset

pytestmark = pytest.mark.timeout(120)


def evaluation(dataset: str, rows: list[int]) -> dict[str, Any]:
    opened = Dataset.open(dataset)
    examples = [
        {"path": opened.path_of(row), "row": row, "label": int(opened.labels[row]), "predicted": 0, "probability": 0.75}
        for row in rows
    ]
    per_class = [{"name": name, "samples": 1, "correct": 0} for name in opened.classes]
    return {"dataset": dataset, "dataset_id": opened.id, "per_class": per_class, "mistakes": examples, "right": []}


def shown(evaluated: dict[str, Any]) -> Gallery:
    made = gallery(evaluated)
    assert made is not None
    return made


def test_every_image_is_the_one_that_is_spoken_of(law_dataset: str) -> None:
    opened, rows = Dataset.open(law_dataset), [3, 200, 64, 63, 249]
    made = shown(evaluation(law_dataset, rows))
    assert not made.problem
    for row, picture in zip(rows, made.mistakes, strict=True):
        block = opened.read_block(opened.block_of(row))
        wanted = evaluation_pixels(block.images[row - block.first_row], THUMBNAIL_SIZE)
        image = Image.open(io.BytesIO(base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
        assert np.abs(np.asarray(image).astype(int) - wanted.astype(int)).mean() < 6
        assert picture.path == opened.path_of(row)
        assert picture.class_name == opened.classes[opened.labels[row]]
        assert (picture.taken_for, picture.probability) == (opened.classes[0], "75.0\u00a0%")


def test_a_dataset_that_has_gone_leaves_the_words_and_the_reason(law_dataset: str, tmp_path: Path) -> None:
    made = shown(evaluation(law_dataset, [3]) | {"dataset": str(tmp_path / "gone")})
    assert "is not a finished dataset" in made.problem
    assert [picture.uri for picture in made.mistakes] == [""]
    assert made.mistakes[0].class_name


def test_images_of_another_dataset_at_the_same_place_are_not_shown(law_dataset: str) -> None:
    made = shown(evaluation(law_dataset, [3]) | {"dataset_id": "another"})
    assert "is not the dataset any more that was evaluated" in made.problem
    assert [picture.uri for picture in made.mistakes] == [""]


def test_a_block_that_is_damaged_is_a_reason_and_no_crash(law_dataset: str, tmp_path: Path) -> None:
    copy = shutil.copytree(law_dataset, tmp_path / "copy")
    for block in (copy / "data").iterdir():
        block.write_bytes(bytes(block.stat().st_size))
    assert "is not whole" in shown(evaluation(law_dataset, [3]) | {"dataset": str(copy)}).problem


def test_an_evaluation_that_kept_no_images_has_no_gallery() -> None:
    assert gallery({"per_class": [], "mistakes": [], "right": []}) is None
