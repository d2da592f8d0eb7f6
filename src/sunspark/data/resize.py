"""A box of an image, resampled to a square: antialiased bilinear, as Pillow defines it, several times faster.

Source: the convolution of `fast_image_resize`, after Pillow's `Resample.c`. It computes on whole numbers and without
the GIL, and gives the same pixels with and without AVX2, SSE4.1 or NEON; no level is further than 1 from Pillow's.
Cost at 224 x 224, one core: about 0.2 ms, of which two copies of the box.
"""

import math
import threading
from typing import Final, NamedTuple

import numpy as np
from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

from sunspark.data.pixels import Pixels

_BILINEAR: Final = ResizeAlg.convolution(FilterType.bilinear)
_OF_THREAD: Final = threading.local()
"""A resizer has buffers, and a lock around them."""


class Box(NamedTuple):
    """A rectangle of an image, in pixels: from `top` and `left` up to `top + height` and `left + width`."""

    top: float
    left: float
    height: float
    width: float


def resize(pixels: Pixels, box: Box, size: int) -> Pixels:
    """The box of `pixels`, uint8 (H, W, 3), as (size, size, 3); the box may end between pixels, but not outside."""
    pixels, box = _cut(pixels, box, size)
    height, width = pixels.shape[:2]
    # A box that ends with the image ends a rounding error outside it.
    inside = CropBox(box.left, box.top, min(box.width, width - box.left), min(box.height, height - box.top))
    source = ImageData(width, height, PixelType.U8x3, pixels.tobytes())
    resized = ImageData(size, size, PixelType.U8x3)
    options = ResizeOptions(resize_alg=_BILINEAR, use_alpha=False, crop_box=inside)
    _resizer().resize(source, resized, options)
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(size, size, 3)


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
