"""A box of a stored JPEG, resampled to a square: where training and evaluation look.

The box is chosen before anything is decoded, from the size in the JPEG header. Decoding (simplejpeg) and resampling
(`resize.py`) run without the GIL.

Source: random resized crop is that of Inception (Szegedy et al., arXiv 1409.4842), with the procedure of
torchvision's `RandomResizedCrop`.
"""

import math
from typing import Final, NamedTuple

import simplejpeg

from sunspark.data.four_bytes import ReusedMemory
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels, copy_three_bytes
from sunspark.data.resize import Box, resize

_BOX_ATTEMPTS = 10  # torchvision's
_DCT_FACTORS = (8, 4, 2)  # libjpeg-turbo is slow at the factors between them
_DECODED: Final = ReusedMemory()
Range = tuple[float, float]


class Decoding(NamedTuple):
    """What decoding may leave out to be fast."""

    oversampling: int
    """Source pixels per output pixel that DCT scaling must leave."""
    blends_colour: bool
    """Whether colour, stored at half the size, is interpolated (libjpeg's fancy upsampling) or repeated."""


TRAINING: Final = Decoding(oversampling=2, blends_colour=False)
"""Each 0.6 of 255 away from decoding everything, on average. Colour is repeated by NVIDIA's DALI too, by default."""
EVALUATION: Final = Decoding(oversampling=4, blends_colour=True)
"""So that a network says the same as of an image that was decoded whole: 0.1 of 255."""


def random_resized_crop(shape: tuple[int, int], rng: KeyedRandom, scale: Range, ratio: Range) -> Box:
    """A crop of random area, shape and place, in whole pixels; a centred one where none fits."""
    return random_box(shape, rng, scale, ratio) or _largest_centred_crop(shape, ratio)


def random_box(shape: tuple[int, int], rng: KeyedRandom, scale: Range, ratio: Range) -> Box | None:
    """A box in whole pixels of an image of `shape` (height, width); None when ten that were drawn do not fit in.

    Its share of the area is uniform in `scale`; the logarithm of its width / height is uniform in that of `ratio`.
    """
    height, width = shape
    log_narrow, log_wide = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_BOX_ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        box_ratio = math.exp(rng.uniform(log_narrow, log_wide))
        box_width, box_height = round(math.sqrt(area * box_ratio)), round(math.sqrt(area / box_ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = rng.integer(height - box_height + 1), rng.integer(width - box_width + 1)
            return Box(top, left, box_height, box_width)
    return None


def centre_crop(shape: tuple[int, int], share: float) -> Box:
    """The centre square whose side is `share` of the shorter side, in whole pixels: between them it would blur."""
    height, width = shape
    side = max(1, round(share * min(height, width)))
    return Box(round((height - side) / 2), round((width - side) / 2), side, side)


def _largest_centred_crop(shape: tuple[int, int], ratio: Range) -> Box:
    """What is taken of a very long or very tall image, which no random crop fitted."""
    height, width = shape
    narrow, wide = ratio
    crop_width = max(1, min(width, round(height * wide)))
    crop_height = max(1, min(height, round(width / narrow)))
    return Box((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)


def shape_of(jpeg: bytes) -> tuple[int, int]:
    """Height and width, from the header alone. Raises ValueError when there is none."""
    height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
    return int(height), int(width)


def crop_and_resize(
    jpeg: bytes, shape: tuple[int, int], box: Box, out: Pixels, decoding: Decoding, *, mirror: bool = False
) -> None:
    """Decode as small as the box and `decoding` allow, then resample the box to `out`, (size, size, 3), contiguous.

    `mirror` turns left and right. Raises ValueError when `jpeg` cannot be decoded.
    """
    height, width = shape
    size = len(out)
    factor = _dct_factor(box, size * decoding.oversampling)
    decoded = _DECODED.image(-(-height // factor), -(-width // factor))
    pixels = simplejpeg.decode_jpeg(
        jpeg,
        "RGBX",
        min_height=decoded.pixels.shape[0],
        min_width=decoded.pixels.shape[1],
        fastupsample=not decoding.blends_colour,
        buffer=decoded.pixels,
    )
    assert pixels.shape == decoded.pixels.shape, "libjpeg decodes to another size than it says"
    # The last row of a scaled image may stand for fewer than `factor` rows: sizes are no measure of scale.
    if factor > 1:
        box = Box(*(number / factor for number in box))
    resized = resize(decoded, box, size)
    copy_three_bytes(resized[:, ::-1] if mirror else resized, out)


def _dct_factor(box: Box, least: int) -> int:
    """How much smaller libjpeg may decode at once, so that the box keeps `least` pixels a side: 1, 2, 4 or 8."""
    smallest_side = min(box.height, box.width)
    for factor in _DCT_FACTORS:
        if smallest_side >= factor * least:
            return factor
    return 1
