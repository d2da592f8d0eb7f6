"""Pictures for tests, made of whole numbers: the same everywhere."""

from typing import Final

import numpy as np

from sunspark.data.pixels import Pixels

_KEY: Final = 0x9CCAF43BD84E6C3211F9F493A458B936


def picture(height: int, width: int) -> Pixels:
    """Slopes of each channel's own, and noise in the upper third: every colour, every kind of neighbourhood."""
    y, x = np.mgrid[0:height, 0:width]
    slopes = [np.abs((x * (3 + channel) + y * (5 - channel) + 40 * channel) % 510 - 255) for channel in range(3)]
    pixels = np.stack(slopes, axis=-1).astype(np.uint8)
    noisy = height // 3
    words = np.random.Philox(key=_KEY).random_raw(-(-noisy * width * 3 // 8)).astype("<u8", copy=False)
    pixels[:noisy] = words.view(np.uint8)[: noisy * width * 3].reshape(noisy, width, 3)
    return pixels
