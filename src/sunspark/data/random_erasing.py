"""Random erasing: a rectangle of the image gives way to noise, so that no part of it is relied upon alone.

Source: Zhong et al., arXiv 1708.04896, filled with noise as there (RE-R); the
rectangle is drawn by the procedure of torchvision's `RandomErasing`.
Cost: one copy of the image and the random words of the rectangle.
"""

from sunspark.data.crop import Range, random_box
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels


def random_erasing(pixels: Pixels, rng: KeyedRandom, area: Range, ratio: Range) -> Pixels:
    """`pixels`, uint8 (H, W, 3), with a rectangle of noise; as it was when no rectangle drawn fits into it.

    `area` bounds its share of the image, `ratio` its width / height.
    """
    box = random_box((pixels.shape[0], pixels.shape[1]), rng, area, ratio)
    if box is None:
        return pixels
    top, left, height, width = map(int, box)
    erased = pixels.copy()
    erased[top : top + height, left : left + width] = rng.noise(height * width * 3).reshape(height, width, 3)
    return erased
