"""From a stored JPEG to the pixels a network sees: random resized crop and flip, or a centre crop.

Randomness is keyed by (seed, epoch, sample id) alone: a sample looks the same in an epoch whoever decodes it,
in whatever batch, before or after a resume. The crop is chosen before anything is decoded, from the size in
the JPEG header; decoding (simplejpeg) and resampling (Pillow) run without the GIL.

Source: random resized crop is that of Inception (Szegedy et al., arXiv 1409.4842), with the procedure of
torchvision's `RandomResizedCrop`. Training and evaluation resample alike: antialiased bilinear.
Shape legend: H W pixels, 3 RGB.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from sunspark.errors import ConfigError

Pixels = npt.NDArray[np.uint8]

_CROP_ATTEMPTS = 10  # torchvision's
_DCT_FACTORS = (8, 4, 2)  # libjpeg-turbo is slow at the factors between them
_OVERSAMPLING = 2  # source pixels per output pixel that DCT scaling must leave, so that it cannot be seen


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How training images vary, and what evaluation looks at."""

    crop_scale: tuple[float, float] = (0.35, 1.0)
    """Smallest and largest share of the image's area that a training crop covers."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Narrowest and widest shape of a training crop (width / height)."""
    flip_probability: float = 0.5
    """Share of the training images that are mirrored left to right; 0 when left and right mean something."""
    evaluation_crop: float = 0.875
    """Side of the centre square that evaluation looks at, as a share of the image's shorter side."""

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"crop_scale must be two numbers with 0 < smallest <= largest <= 1, got {low} {high}; "
                "use 1 1 to crop as little as the shape allows"
            )
        narrow, wide = self.crop_ratio
        if not 0 < narrow <= wide < math.inf:
            raise ConfigError(
                f"crop_ratio must be two numbers with 0 < narrowest <= widest, got {narrow} {wide}; "
                "use 1 1 for square crops"
            )
        if not 0 <= self.flip_probability <= 1:
            raise ConfigError(f"flip_probability must be between 0 and 1, got {self.flip_probability}; 0 never mirrors")
        if not 0 < self.evaluation_crop <= 1:
            raise ConfigError(
                f"evaluation_crop must be above 0 and at most 1, got {self.evaluation_crop}; 1 is all of it"
            )


class CropBox(NamedTuple):
    """A rectangle of an image, in pixels: from `top` and `left` up to `top + height` and `left + width`."""

    top: float
    left: float
    height: float
    width: float


@final
class KeyedRandom:
    """Random numbers that depend on (seed, epoch, sample id) and on nothing else.

    Built on Philox's raw words, which NumPy keeps for ever, not on its distributions, which it may change.
    """

    def __init__(self, seed: int, epoch: int, sample_id: int) -> None:
        text = f"sunspark augment {int(seed)} {int(epoch)} {int(sample_id)}"
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._bits = np.random.Philox(key=int.from_bytes(key, "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """The next number, uniform in [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def integer(self, limit: int) -> int:
        """The next whole number, uniform in 0..limit-1."""
        return int(self._bits.random_raw()) * limit >> 64


def training_pixels(jpeg: bytes, size: int, rng: KeyedRandom, config: AugmentConfig | None = None) -> Pixels:
    """A random crop of `jpeg`, resized and perhaps mirrored, shape (size, size, 3), 0..255.

    Raises ValueError when `jpeg` cannot be decoded.
    """
    config = config or AugmentConfig()
    height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
    flip = rng.uniform() < config.flip_probability
    image = _crop_and_resize(jpeg, (height, width), random_resized_crop(height, width, rng, config), size)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def evaluation_pixels(jpeg: bytes, size: int, config: AugmentConfig | None = None) -> Pixels:
    """The centre of `jpeg`, resized, shape (size, size, 3), 0..255.

    Raises ValueError when `jpeg` cannot be decoded.
    """
    config = config or AugmentConfig()
    height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
    return np.asarray(_crop_and_resize(jpeg, (height, width), centre_crop(height, width, config), size))


def random_resized_crop(height: int, width: int, rng: KeyedRandom, config: AugmentConfig) -> CropBox:
    """A crop of random area, shape and place, in whole pixels of an image of `height` x `width`."""
    log_narrow, log_wide = (math.log(ratio) for ratio in config.crop_ratio)
    for _ in range(_CROP_ATTEMPTS):
        area = height * width * rng.uniform(*config.crop_scale)
        ratio = math.exp(rng.uniform(log_narrow, log_wide))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = rng.integer(height - crop_height + 1), rng.integer(width - crop_width + 1)
            return CropBox(top, left, crop_height, crop_width)
    return _largest_centred_crop(height, width, config)


def centre_crop(height: int, width: int, config: AugmentConfig) -> CropBox:
    """The centre square that evaluation looks at."""
    side = config.evaluation_crop * min(height, width)
    return CropBox((height - side) / 2, (width - side) / 2, side, side)


def _largest_centred_crop(height: int, width: int, config: AugmentConfig) -> CropBox:
    """What is taken of a very long or very tall image, which no random crop fitted."""
    narrow, wide = config.crop_ratio
    crop_width = max(1, min(width, round(height * wide)))
    crop_height = max(1, min(height, round(width / narrow)))
    return CropBox((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)


def _crop_and_resize(jpeg: bytes, shape: tuple[int, int], box: CropBox, size: int) -> Image.Image:
    """Decode as small as the box allows, then resample the box to `size` x `size`."""
    height, width = shape
    factor = _dct_factor(box, size)
    if factor == 1:
        decoded = simplejpeg.decode_jpeg(jpeg)
    else:
        decoded = simplejpeg.decode_jpeg(jpeg, min_height=-(-height // factor), min_width=-(-width // factor))
    # The last row of a scaled image may stand for fewer than `factor` rows: sizes are no measure of scale.
    left, top = box.left / factor, box.top / factor
    region = (left, top, left + box.width / factor, top + box.height / factor)
    return Image.fromarray(decoded).resize((size, size), Image.Resampling.BILINEAR, box=region)


def _dct_factor(box: CropBox, size: int) -> int:
    """How much smaller libjpeg may decode at once: 1, 2, 4 or 8."""
    smallest_side = min(box.height, box.width)
    return next((factor for factor in _DCT_FACTORS if smallest_side >= factor * _OVERSAMPLING * size), 1)
