"""Images of an evaluation to look at: the mistakes of which the model was surest, and some that it got right.

Thumbnails show what the network saw, the centre of the image, in more pixels. They are read from the dataset; where
that cannot be read, the words are shown alone.
Cost: each image is one block read from the dataset (about 8 MB), at most three dozen of them.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sunspark.bench.words import percent
from sunspark.data.augment import evaluation_pixels
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.errors import DatasetError, SunsparkError

THUMBNAIL_SIZE = 160
_QUALITY = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image with what is said of it."""

    uri: str
    """data: URI of a JPEG; empty when the image could not be read."""
    path: str
    class_name: str
    taken_for: str
    probability: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """The images of one split."""

    mistakes: tuple[Picture, ...]
    right: tuple[Picture, ...]
    problem: str
    """Why there are no images; empty when there are."""


def gallery(evaluation: dict[str, Any]) -> Gallery | None:
    """From what `evaluate` has stored; None where it kept no images."""
    mistakes, right = evaluation["mistakes"], evaluation["right"]
    if not mistakes and not right:
        return None
    try:
        thumbnails, problem = _thumbnails(evaluation, [*mistakes, *right]), ""
    except (SunsparkError, ValueError) as error:
        thumbnails, problem = {}, str(error)
    names = [str(row["name"]) for row in evaluation["per_class"]]
    return Gallery(
        mistakes=tuple(_picture(one, names, thumbnails) for one in mistakes),
        right=tuple(_picture(one, names, thumbnails) for one in right),
        problem=problem,
    )


def _thumbnails(evaluation: Mapping[str, Any], examples: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The data: URI of each example's thumbnail, by its path. Raises when the dataset is not there as it was."""
    dataset = Dataset.open(str(evaluation["dataset"]))
    if dataset.id != evaluation["dataset_id"]:
        raise DatasetError(f"{dataset.uri} is not the dataset any more that was evaluated")
    by_block: dict[int, list[dict[str, Any]]] = {}
    for example in examples:
        by_block.setdefault(dataset.block_of(example["row"]), []).append(example)
    return {
        example["path"]: _thumbnail(block.images[example["row"] - block.first_row])
        for number, wanted in sorted(by_block.items())
        for block in [dataset.read_block(number)]
        for example in wanted
    }


def _thumbnail(jpeg: bytes) -> str:
    small = encode_jpeg(evaluation_pixels(jpeg, THUMBNAIL_SIZE), _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"


def _picture(example: Mapping[str, Any], names: list[str], thumbnails: Mapping[str, str]) -> Picture:
    probability = float(example["probability"])
    return Picture(
        uri=thumbnails.get(example["path"], ""),
        path=str(example["path"]),
        class_name=names[example["label"]],
        taken_for=names[example["predicted"]],
        probability=f"over {percent(0.999)}" if probability > 0.9995 else percent(probability),
    )
