"""Pictures for tests, made of whole numbers: the same everywhere."""

import numpy as np

from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels


def picture(height: int, width: int) -> Pixels:
    """Slopes of each channel's own, and noise in the upper third: every colour, every kind of neighbourhood."""
    y, x = np.mgrid[0:height, 0:width]
    slopes = [np.abs((x * (3 + channel) + y * (5 - channel) + 40 * channel) % 510 - 255) for channel in range(3)]
    pixels = np.stack(slopes, axis=-1).astype(np.uint8)
    noisy = height // 3
    pixels[:noisy] = KeyedRandom(0, 0, 1).noise(noisy * width * 3).reshape(noisy, width, 3)
    return pixels
