"""Operations on the pixels of one image: uint8 (H, W, 3) in, the same out, never in place.

Definitions are those of Pillow's `ImageEnhance` and `ImageOps`, which torchvision uses too; the hue turns without
the 8 bits of Pillow's HSV. They are written again because Pillow holds the GIL while it blends and filters, and
builds its tables in Python: here NumPy works without the GIL, and sharpening is three times faster. Each NumPy call is
one exactly rounded IEEE operation on whole numbers or float32, so that every machine computes the same bits.
Cost at 128 x 128, one core: 0.006 ms (posterize) to 0.23 ms (hue), most about 0.1 ms (benchmarks/stages.py).

Shape legend: H W pixels, 3 RGB.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_SMOOTHING_SUM: Final = 13  # of Pillow's kernel: 5 in the middle, 1 around it


def copy_three_bytes(four: npt.NDArray[np.uint8], out: Pixels) -> None:
    """Copy the first three bytes of each pixel of `four`, uint8 (H, W, 4), to `out`, (H, W, 3), contiguous.

    NumPy is slow with rows of three. Each pixel is written as one word, whose fourth byte falls on the next pixel,
    which is written after it; behind the last one there is none, so that it is copied byte by byte. It is slow too from
    one view to another, so that what is mirrored is put in order first.
    """
    pixels = np.ascontiguousarray(four.view(np.uint32)[:, :, 0]).reshape(-1)
    words = np.ndarray(pixels.size - 1, np.uint32, out, strides=(3,))  # each begins in the one before
    words[:] = pixels[:-1]
    out[-1, -1] = four[-1, -1, :3]


def brightness(pixels: Pixels, factor: float) -> Pixels:
    """Nearer to black; factors above 1 go the other way."""
    return _blend(np.float32(0), pixels, factor)


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """Nearer to the image's mean grey; factors above 1 go the other way."""
    mean = np.asarray(Image.fromarray(pixels).convert("L")).mean()
    return _blend(np.float32(int(mean + 0.5)), pixels, factor)


def saturation(pixels: Pixels, factor: float) -> Pixels:
    """Nearer to each pixel's own grey; factors above 1 go the other way."""
    return _blend(np.asarray(Image.fromarray(pixels).convert("L").convert("RGB")), pixels, factor)


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """Nearer to what a 3 x 3 filter smooths, but for the border; factors above 1 go the other way."""
    return _blend(_smoothed(pixels), pixels, factor)


def hue(pixels: Pixels, turn: float) -> Pixels:
    """Every colour moved by `turn` around the colour wheel: 1 is once around, -0.5 and 0.5 are opposite."""
    red, green, blue = planes = np.ascontiguousarray(pixels.reshape(-1, 3).T, np.float32)
    value, low = planes.max(axis=0), planes.min(axis=0)
    chroma = value - low
    divisor = np.maximum(chroma, 1)
    sixths = np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    sixths = np.where(value == red, (green - blue) / divisor, sixths)
    sixths += np.float32(6 * turn)
    turned = np.empty_like(pixels)
    for channel, offset in enumerate((5, 3, 1)):
        place = sixths + np.float32(offset)
        place -= 6 * np.floor(place / 6)
        share = np.clip(2 - np.abs(place - 2), 0, 1)
        turned[..., channel] = (value - chroma * share + np.float32(0.5)).reshape(pixels.shape[:2])
    return turned


def posterize(pixels: Pixels, bits: int) -> Pixels:
    """Only the highest `bits` of 8 are kept."""
    return pixels & np.uint8(0xFF << (8 - bits) & 0xFF)


def solarize(pixels: Pixels, threshold: int) -> Pixels:
    """Levels of `threshold` and above are inverted; 256 inverts none."""
    return pixels ^ np.multiply(pixels >= threshold, 255, dtype=np.uint8)  # 255 - level is level ^ 255


def autocontrast(pixels: Pixels) -> Pixels:
    """Each channel stretched, so that its darkest level becomes 0 and its brightest 255."""
    tables = _unchanged()
    for table, counts in zip(tables, _histograms(pixels), strict=True):
        levels = np.flatnonzero(counts)
        low, high = int(levels[0]), int(levels[-1])
        if low < high:
            scale = 255 / (high - low)
            table[:] = np.clip(np.arange(256) * scale + -low * scale, 0, 255)
    return _looked_up(pixels, tables)


def equalize(pixels: Pixels) -> Pixels:
    """Each channel's levels spread, so that all are about equally frequent."""
    tables = _unchanged()
    for table, counts in zip(tables, _histograms(pixels), strict=True):
        step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step:
            below = np.cumsum(counts) - counts
            table[:] = np.minimum((step // 2 + below) // step, 255)
    return _looked_up(pixels, tables)


def affine(pixels: Pixels, matrix: tuple[float, float, float, float, float, float]) -> Pixels:
    """The pixel at (x, y) is taken from (a x + b y + c, d x + e y + f), the nearest one; black where none is."""
    image = Image.fromarray(pixels)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST))


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Turned counter-clockwise about the centre, nearest pixels; black where none is."""
    return np.asarray(Image.fromarray(pixels).rotate(degrees, Image.Resampling.NEAREST))


def _blend(origin: Pixels | np.float32, pixels: Pixels, factor: float) -> Pixels:
    """`factor` of the way from `origin` to `pixels`, or beyond, cut off at 0 and 255."""
    levels = pixels.astype(np.float32)
    levels -= origin
    levels *= np.float32(factor)
    levels += origin
    np.clip(levels, 0, 255, out=levels)
    return levels.astype(np.uint8)


def _smoothed(pixels: Pixels) -> Pixels:
    """Each pixel with its eight neighbours, weighted 5 to 1; the border stays."""
    height, width = pixels.shape[:2]
    smoothed = pixels.copy()
    if min(height, width) < 3:
        return smoothed
    rows = pixels.reshape(height, width * 3).astype(np.uint16)
    columns = rows[:-2] + rows[1:-1] + rows[2:]
    total = columns[:, :-6] + columns[:, 3:-3] + columns[:, 6:]
    total += 4 * rows[1:-1, 3:-3]
    total += _SMOOTHING_SUM // 2
    total //= _SMOOTHING_SUM
    smoothed[1:-1, 1:-1] = total.reshape(height - 2, width - 2, 3)
    return smoothed


def _unchanged() -> npt.NDArray[np.uint8]:
    """A table of levels for each channel that changes nothing, (3, 256)."""
    return np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def _histograms(pixels: Pixels) -> npt.NDArray[np.int64]:
    """How many pixels have each level, (3, 256)."""
    return np.array(Image.fromarray(pixels).histogram(), np.int64).reshape(3, 256)


def _looked_up(pixels: Pixels, tables: npt.NDArray[np.uint8]) -> Pixels:
    """Each channel through its table."""
    height, width = pixels.shape[:2]
    first_places = np.tile(np.array([0, 256, 512], np.uint16), width)  # a whole row: three at a time are slow
    places = pixels.reshape(height, width * 3) + first_places
    return np.take(tables.reshape(-1), places).reshape(pixels.shape)
