"""Augmentation shown as a picture: some images, what training makes of each in its first epochs, what evaluation sees.

What is drawn for an epoch is what a training with the same seed, size and settings feeds its network, pixel by pixel.
Shapes: H W pixels, 3 RGB.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from sunspark import storage
from sunspark.config import refuse_other_seeds
from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.dataset import Dataset
from sunspark.data.decoder import decode
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.leaks import training_splits
from sunspark.data.lettering import LINE_HEIGHT, width_of, write_line
from sunspark.data.pixels import Pixels
from sunspark.errors import ConfigError, DatasetError, first_five, printable

NUM_EPOCHS: Final = 6
_MOST_IMAGES: Final = 8
_GAP: Final = 6
_HEADS: Final = ("as stored", *(f"epoch {epoch + 1}" for epoch in range(NUM_EPOCHS)), "evaluation")
_GROUND: Final = (253, 252, 250)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetConfig:
    """What training is shown: the same settings as those of `sunspark train`."""

    image_size: int = 128
    """Pixels of a side that the network gets."""
    seed: int = 0
    """That of the training."""

    def __post_init__(self) -> None:
        if not 8 <= self.image_size <= 1024:
            raise ConfigError(f"image_size must be 8 to 1024 pixels, got {self.image_size}; use 128 if in doubt")
        refuse_other_seeds(self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetResult:
    """Where the picture was written."""

    dataset: str
    path: str
    width: int
    height: int


def write_contact_sheet(dataset: Dataset, out: str, config: SheetConfig, augment: AugmentConfig) -> SheetResult:
    """Write the picture as a PNG file to `out`."""
    storage.refuse_other_suffix(out, ".png")
    _warn_of_enlarging(dataset, config.image_size)
    if not training_splits(dataset.split_names):
        logger.warning(
            "by their names, none of the splits (%s) is one to train on: what is shown is what a training would see",
            first_five(map(printable, dataset.split_names)) or "none",
        )
    pixels = contact_sheet(dataset, config, augment)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    storage.write_bytes_atomic(out, body.getvalue())
    return SheetResult(dataset=dataset.uri, path=out, width=pixels.shape[1], height=pixels.shape[0])


def contact_sheet(dataset: Dataset, config: SheetConfig, augment: AugmentConfig) -> Pixels:
    """A row for each of some images, of different classes: the image, its first epochs, its evaluation."""
    rows = _spread_over_classes(dataset)
    if not rows:
        raise DatasetError(f"{dataset.uri} has no image to show; ingest some")
    size = config.image_size
    row_height = size + LINE_HEIGHT + _GAP
    canvas = Image.new("RGB", (_place(len(_HEADS), size), LINE_HEIGHT + len(rows) * row_height), _GROUND)
    for column, head in enumerate(_HEADS):
        write_line(canvas, head, _place(column, size), 0, _column_width(size))
    for number, row in enumerate(rows):
        top = LINE_HEIGHT + number * row_height
        for column, view in enumerate(_views(dataset, row, config, augment)):
            canvas.paste(view, (_place(column, size), top))
        name = f"{dataset.classes[dataset.labels[row]]} ({_splits_of(dataset, row)}): {dataset.path_of(row)}"
        write_line(canvas, printable(name), _place(0, size), top + size, canvas.width - 2 * _GAP)
    return np.asarray(canvas)


def _warn_of_enlarging(dataset: Dataset, image_size: int) -> None:
    short_side = dataset.manifest["configuration"].get("short_side")
    if short_side is not None and image_size > short_side:
        logger.warning(
            "--image-size %d is above the short side at which images are stored, %d: they are enlarged; an ingest with "
            "--short-side %d keeps more of them",
            image_size, short_side, image_size,
        )  # fmt: skip


def _spread_over_classes(dataset: Dataset) -> list[int]:
    """A row of each of some classes, those with most distance between their labels: the first that is trained on."""
    trained = [dataset.rows(split) for split in training_splits(dataset.split_names)]
    rows = np.concatenate([*trained, np.arange(len(dataset))])
    labels, places_of_first = np.unique(dataset.labels[rows], return_index=True)
    first_rows = rows[places_of_first]
    places: Sequence[int] = np.linspace(0, len(labels) - 1, min(_MOST_IMAGES, len(labels))).round().astype(int).tolist()
    return [int(first_rows[place]) for place in places]


def _splits_of(dataset: Dataset, row: int) -> str:
    return first_five(split for split in dataset.split_names if row in dataset.rows(split)) or "in no split"


def _views(dataset: Dataset, row: int, config: SheetConfig, augment: AugmentConfig) -> Sequence[Image.Image]:
    block = dataset.read_block(dataset.block_of(row))
    place = row - block.first_row
    jpeg, sample_id = block.images[place], int(block.sample_ids[place])
    randoms = [KeyedRandom(config.seed, epoch, sample_id) for epoch in range(NUM_EPOCHS)]
    pixels = [training_pixels(jpeg, config.image_size, rng, augment) for rng in randoms]
    seen = evaluation_pixels(jpeg, config.image_size, augment)
    return [_whole(jpeg, config.image_size), *map(Image.fromarray, [*pixels, seen])]


def _whole(jpeg: bytes, size: int) -> Image.Image:
    """All of an image, in the middle of a square."""
    image = Image.fromarray(decode(jpeg).pixels)
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (size, size), _GROUND)
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def _place(column: int, size: int) -> int:
    return _GAP + column * (_column_width(size) + _GAP)


@functools.cache
def _column_width(size: int) -> int:
    """That of an image, or of the widest head where images are smaller."""
    return max(size, *map(width_of, _HEADS))
