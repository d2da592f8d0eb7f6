"""From a stored JPEG to the pixels a network sees: how training images vary, and what evaluation looks at.

Training: a random crop, resized; mirrored by chance; then, where they are switched on, color jitter, TrivialAugment
and random erasing, in this order. Evaluation: a centre crop, resampled alike.
Randomness is keyed by (seed, epoch, sample id) alone: a sample looks the same in an epoch whoever decodes it,
in whatever batch, before or after a resume. After decoding, everything computes on whole numbers or in single,
exactly rounded operations, so that no machine's arithmetic shows in the pixels.
Shape legend: H W pixels, 3 RGB.
"""

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from sunspark.data.color_jitter import Strengths, color_jitter
from sunspark.data.crop import (
    EVALUATION,
    TRAINING,
    Range,
    centre_crop,
    crop_and_resize,
    random_resized_crop,
    shape_of,
)
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels
from sunspark.data.random_erasing import random_erasing
from sunspark.data.trivial_augment import trivial_augment
from sunspark.errors import ConfigError

PIXELS_VERSION: Final = 3
"""Of the way from a JPEG to pixels, for one version of each library; part of what a run is.

1 resampled with Pillow, 2 interpolated colour in training and drew from Philox.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How training images vary, and what evaluation looks at."""

    crop_scale: Range = (0.35, 1.0)
    """Smallest and largest share of the image's area that a training crop covers."""
    crop_ratio: Range = (3 / 4, 4 / 3)
    """Narrowest and widest shape of a training crop (width / height)."""
    flip_probability: float = 0.5
    """Share of the training images that are mirrored left to right; 0 when left and right mean something."""
    color_jitter: Strengths = (0.0, 0.0, 0.0, 0.0)
    """Jitter, say 0.4 0.4 0.4 0.1: brightness, contrast, saturation by factors 1 - x to 1 + x, hue by turns."""
    trivial_augment: bool = False
    """TrivialAugment Wide: each image goes through one of 14 operations, in one of 31 strengths, both by chance."""
    erasing_probability: float = 0.0
    """Share of the training images in which a rectangle gives way to noise; 0.25 is usual."""
    erasing_area: Range = (0.02, 0.33)
    """Smallest and largest share of the image that is erased."""
    erasing_ratio: Range = (0.3, 3.3)
    """Narrowest and widest shape of the erased rectangle (width / height)."""
    evaluation_crop: float = 0.875
    """Side of the centre square that evaluation looks at, as a share of the image's shorter side."""

    def __post_init__(self) -> None:
        _check_share("crop_scale", self.crop_scale, "use 1 1 to crop as little as the shape allows")
        _check_ratio("crop_ratio", self.crop_ratio, "use 1 1 for square crops")
        if not 0 <= self.flip_probability <= 1:
            raise ConfigError(f"flip_probability must be between 0 and 1, got {self.flip_probability}; 0 never mirrors")
        _check_jitter(self.color_jitter)
        if not 0 <= self.erasing_probability <= 1:
            raise ConfigError(
                f"erasing_probability must be between 0 and 1, got {self.erasing_probability}; 0 never erases"
            )
        _check_share("erasing_area", self.erasing_area, "use the same number twice for one size")
        _check_ratio("erasing_ratio", self.erasing_ratio, "use 1 1 for squares")
        if not self.erasing_probability:
            _refuse_changed(self, ("erasing_area", "erasing_ratio"), "erasing_probability 0")
        if not 0 < self.evaluation_crop <= 1:
            raise ConfigError(
                f"evaluation_crop must be above 0 and at most 1, got {self.evaluation_crop}; 1 is all of it"
            )


def training_pixels(
    jpeg: bytes, size: int, rng: KeyedRandom, config: AugmentConfig | None = None, out: Pixels | None = None
) -> Pixels:
    """A random view of `jpeg`, shape (size, size, 3), 0..255; written into `out`, contiguous, where it is given.

    Raises ValueError when `jpeg` cannot be decoded.
    """
    config = config or AugmentConfig()
    out = np.empty((size, size, 3), np.uint8) if out is None else out
    shape = shape_of(jpeg)
    flip = rng.uniform() < config.flip_probability
    box = random_resized_crop(shape, rng, config.crop_scale, config.crop_ratio)
    crop_and_resize(jpeg, shape, box, out, TRAINING, mirror=flip)
    changed = _changed(out, rng, config)
    if changed is not out:
        out[:] = changed
    return out


def evaluation_pixels(jpeg: bytes, size: int, config: AugmentConfig | None = None, out: Pixels | None = None) -> Pixels:
    """The centre of `jpeg`, resized, shape (size, size, 3), 0..255; written into `out`, contiguous, where it is given.

    Raises ValueError when `jpeg` cannot be decoded.
    """
    config = config or AugmentConfig()
    out = np.empty((size, size, 3), np.uint8) if out is None else out
    shape = shape_of(jpeg)
    crop_and_resize(jpeg, shape, centre_crop(shape, config.evaluation_crop), out, EVALUATION)
    return out


def _changed(pixels: Pixels, rng: KeyedRandom, config: AugmentConfig) -> Pixels:
    """After all that is switched on; what is not draws no random number."""
    if any(config.color_jitter):
        pixels = color_jitter(pixels, rng, config.color_jitter)
    if config.trivial_augment:
        pixels = trivial_augment(pixels, rng)
    if config.erasing_probability and rng.uniform() < config.erasing_probability:
        pixels = random_erasing(pixels, rng, config.erasing_area, config.erasing_ratio)
    return pixels


def _check_share(name: str, bounds: Range, remedy: str) -> None:
    low, high = bounds
    if not 0 < low <= high <= 1:
        raise ConfigError(f"{name} must be two numbers with 0 < smallest <= largest <= 1, got {low} {high}; {remedy}")


def _check_ratio(name: str, bounds: Range, remedy: str) -> None:
    narrow, wide = bounds
    if not 0 < narrow <= wide < math.inf:
        raise ConfigError(f"{name} must be two numbers with 0 < narrowest <= widest, got {narrow} {wide}; {remedy}")


def _check_jitter(strengths: Strengths) -> None:
    fits = len(strengths) == 4 and all(0 <= strength < math.inf for strength in strengths) and strengths[3] <= 0.5
    if not fits:
        got = " ".join(map(str, strengths))
        raise ConfigError(
            "color_jitter must be four numbers, the strengths of brightness, contrast and saturation (0 or more) "
            f"and hue (0 to 0.5), got {got}; 0 leaves one as it is"
        )


def _refuse_changed(config: AugmentConfig, names: tuple[str, ...], cause: str) -> None:
    """An option without effect is a mistake, not a wish."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in names and value != field.default:
            got = " ".join(map(str, value))
            raise ConfigError(f"{field.name} {got} has no effect with {cause}; leave it out, or erase some images")
