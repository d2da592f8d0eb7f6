"""Small images of a dataset to look at.

Cost: blocks are read whole (about 8 MB each), one at a time and at most `MOST_BLOCKS`. A block mixes the classes, so
few of them show all classes of a large set.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sunspark.data.augment import AugmentConfig, evaluation_pixels
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset

MOST_BLOCKS: Final = 32
THUMBNAIL_SIZE: Final = 112
_QUALITY: Final = 80
_CENTRE: Final = AugmentConfig(evaluation_crop=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thumbnail:
    """The centre square of an image, small."""

    path: str
    uri: str
    """data: URI of a JPEG; empty where its block was not read."""


def rows_by_class(dataset: Dataset, per_class: int) -> dict[int, list[int]]:
    """For each label some rows to show, `per_class` at most, from the first blocks; then from those of rare classes."""
    rows_of: dict[int, list[int]] = {label: [] for label in range(len(dataset.classes))}
    first_blocks = range(min(dataset.num_blocks, MOST_BLOCKS // 2))
    last = dataset.block_rows(first_blocks[-1]).stop if first_blocks else 0
    for row, label in enumerate(dataset.labels.tolist()):
        if len(rows_of[label]) < (per_class if row < last else 1):
            rows_of[label].append(row)
    return rows_of


def thumbnails(dataset: Dataset, rows: Sequence[int]) -> dict[int, Thumbnail]:
    """By row. Those in blocks beyond the most that are read, the blocks of the first rows first, have no picture."""
    by_block: dict[int, list[int]] = {}
    for row in dict.fromkeys(rows):
        by_block.setdefault(dataset.block_of(row), []).append(row)
    pictures = {
        row: _picture(block.images[row - block.first_row])
        for number in list(by_block)[:MOST_BLOCKS]
        for block in [dataset.read_block(number)]
        for row in by_block[number]
    }
    return {row: Thumbnail(path=dataset.path_of(row), uri=pictures.get(row, "")) for row in rows}


def chosen(made: Mapping[int, Thumbnail], rows: Iterable[int]) -> tuple[Thumbnail, ...]:
    """Those of `rows` that have a picture."""
    return tuple(made[row] for row in rows if made[row].uri)


def _picture(jpeg: bytes) -> str:
    small = encode_jpeg(evaluation_pixels(jpeg, THUMBNAIL_SIZE, _CENTRE), _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
