"""Images resampled with antialiasing, as Pillow defines it, several times faster.

Source: the convolution of `fast_image_resize`, after Pillow's `Resample.c`. It computes on whole numbers and without
the GIL, and gives the same pixels with and without AVX2, SSE4.1 or NEON. Cost on one core: a box to 224 x 224 about
0.2 ms, 512 x 384 to 341 x 256 about 0.9 ms; of both a part is two copies of the source.
"""

import math
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

from sunspark.data.pixels import Pixels

_BILINEAR: Final = ResizeAlg.convolution(FilterType.bilinear)
_BICUBIC: Final = ResizeAlg.convolution(FilterType.catmull_rom)
"""Pillow's bicubic is Catmull and Rom's: a = -0.5."""
_STRIP_PIXELS: Final = 1 << 20
"""Resampled at once, so that a large image has no copies beside it."""
_OF_THREAD: Final = threading.local()
"""A resizer has buffers, and a lock around them."""


class Box(NamedTuple):
    """A rectangle of an image, in pixels: from `top` and `left` up to `top + height` and `left + width`."""

    top: float
    left: float
    height: float
    width: float


def resize(pixels: Pixels, box: Box, size: int) -> Pixels:
    """The box of `pixels`, uint8 (H, W, 3), as (size, size, 3), bilinear, no level further than 1 from Pillow's.

    The box may end between pixels, but not outside.
    """
    pixels, box = _cut(pixels, box, size)
    return _resampled(pixels, box, size, size, _BILINEAR)


def shrink(pixels: Pixels, height: int, width: int) -> Pixels:
    """All of `pixels`, uint8 (H, W, 3), as (height, width, 3), bicubic: first each row, then each column.

    No level is further than 1 from Pillow's where Pillow takes rows first, and further than 3 where it does not.
    """
    narrow = np.empty((len(pixels), width, 3), np.uint8)
    for rows in _strips(len(pixels), pixels.shape[1]):
        strip = pixels[rows]
        narrow[rows] = _resampled(strip, _all_of(strip), len(strip), width, _BICUBIC)
    small = np.empty((height, width, 3), np.uint8)
    for columns in _strips(width, len(narrow)):
        strip = narrow[:, columns]
        small[:, columns] = _resampled(strip, _all_of(strip), height, strip.shape[1], _BICUBIC)
    return small


def _resampled(pixels: Pixels, box: Box, height: int, width: int, algorithm: ResizeAlg) -> Pixels:
    have_height, have_width = pixels.shape[:2]
    # A box that ends with the image ends a rounding error outside it.
    inside = CropBox(box.left, box.top, min(box.width, have_width - box.left), min(box.height, have_height - box.top))
    source = ImageData(have_width, have_height, PixelType.U8x3, pixels.tobytes())
    resized = ImageData(width, height, PixelType.U8x3)
    _resizer().resize(source, resized, ResizeOptions(resize_alg=algorithm, use_alpha=False, crop_box=inside))
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(height, width, 3)


def _strips(num_lines: int, line_pixels: int) -> Iterator[slice]:
    step = max(1, _STRIP_PIXELS // line_pixels)
    return (slice(start, start + step) for start in range(0, num_lines, step))


def _all_of(pixels: Pixels) -> Box:
    return Box(0, 0, *pixels.shape[:2])


def _cut(pixels: Pixels, box: Box, size: int) -> tuple[Pixels, Box]:
    """What resampling the box looks at, and the box in it: the source is copied twice, so the less the better."""
    reach = math.ceil(max(1.0, box.height / size, box.width / size)) + 1
    top, left = max(0, int(box.top) - reach), max(0, int(box.left) - reach)
    bottom, right = math.ceil(box.top + box.height) + reach, math.ceil(box.left + box.width) + reach
    return pixels[top:bottom, left:right], Box(box.top - top, box.left - left, box.height, box.width)


def _resizer() -> Resizer:
    """This thread's own."""
    resizer = getattr(_OF_THREAD, "resizer", None)
    if resizer is None:
        resizer = _OF_THREAD.resizer = Resizer()
    return resizer
