"""Images of four bytes a pixel, as an array and as the resampler takes them, in the same memory, which is used again.

Cost: the bytes of the largest image, 4 MiB at most, a thread. Making the image of Pillow takes 4 microseconds under the
GIL; so those of up to 256 sizes are kept, and then all let go.
"""

import threading
from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
from cykooz_resizer.rust_lib import PilImageWrapper
from PIL import Image

FourBytePixels = npt.NDArray[np.uint8]
"""uint8 (H, W, 4): red, green, blue, and a byte that says nothing."""

_MOST_KEPT_BYTES: Final = 4 * 2**20
_MOST_SIZES: Final = 256


class FourBytes(NamedTuple):
    """One image, twice the same memory."""

    pixels: FourBytePixels
    for_resampler: PilImageWrapper
    """An image of Pillow, as the resampler takes it."""


@final
class ReusedMemory(threading.local):
    """Memory for one image at a time; each thread has its own."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)
        self._images: dict[tuple[int, int], FourBytes] = {}

    def image(self, height: int, width: int) -> FourBytes:
        """An image of that size, whose pixels say nothing yet; this thread's next one is written over it."""
        return self._images.get((height, width)) or self._made(height, width)

    def _made(self, height: int, width: int) -> FourBytes:
        size_bytes = height * width * 4
        if size_bytes > _MOST_KEPT_BYTES:
            return four_bytes(np.empty((height, width, 4), np.uint8))
        if size_bytes > len(self._memory):
            self._memory = np.empty(size_bytes, np.uint8)
            self._images.clear()  # they lie in the memory of before
        if len(self._images) == _MOST_SIZES:
            self._images.clear()
        image = self._images[height, width] = four_bytes(self._memory[:size_bytes].reshape(height, width, 4))
        return image


def four_bytes(pixels: FourBytePixels) -> FourBytes:
    """The image of these pixels, contiguous. CMYK is Pillow's mode of four bytes that are resampled each by itself."""
    height, width = pixels.shape[:2]
    image = Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK", 0, 1)
    return FourBytes(pixels, PilImageWrapper(image))
