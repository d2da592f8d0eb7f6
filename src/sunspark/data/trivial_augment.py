"""TrivialAugment Wide: for each image one operation of fourteen and one strength of 31, both by chance.

Source: Müller and Hutter, arXiv 2103.10158, its wide space; operations, ranges and signs are those of
torchvision's `TrivialAugmentWide`. One bound is the authors' own: solarizing begins at 256, not 255, so that
strength zero changes nothing. Shifts are in pixels whatever the size of the image, as in the paper.
Cost: one operation of `pixels.py` per image.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sunspark.data import pixels as ops
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels

NUM_STRENGTHS: Final = 31


class Operation(NamedTuple):
    """What is done with a strength from 0 (nothing) to `strongest`, or from `-strongest` where it is signed."""

    apply: Callable[[Pixels, float], Pixels]
    strongest: float
    is_signed: bool


OPERATIONS: Final[Mapping[str, Operation]] = {
    "identity": Operation(lambda pixels, _: pixels, 0.0, False),
    "shear_x": Operation(lambda pixels, slope: ops.affine(pixels, (1, slope, 0, 0, 1, 0)), 0.99, True),
    "shear_y": Operation(lambda pixels, slope: ops.affine(pixels, (1, 0, 0, slope, 1, 0)), 0.99, True),
    "translate_x": Operation(lambda pixels, shift: ops.affine(pixels, (1, 0, -int(shift), 0, 1, 0)), 32.0, True),
    "translate_y": Operation(lambda pixels, shift: ops.affine(pixels, (1, 0, 0, 0, 1, -int(shift))), 32.0, True),
    "rotate": Operation(lambda pixels, degrees: ops.rotate(pixels, degrees), 135.0, True),
    "brightness": Operation(lambda pixels, change: ops.brightness(pixels, 1 + change), 0.99, True),
    "saturation": Operation(lambda pixels, change: ops.saturation(pixels, 1 + change), 0.99, True),
    "contrast": Operation(lambda pixels, change: ops.contrast(pixels, 1 + change), 0.99, True),
    "sharpness": Operation(lambda pixels, change: ops.sharpness(pixels, 1 + change), 0.99, True),
    "posterize": Operation(lambda pixels, bits: ops.posterize(pixels, 8 - round(bits)), 6.0, False),
    "solarize": Operation(lambda pixels, depth: ops.solarize(pixels, 256 - round(depth)), 256.0, False),
    "autocontrast": Operation(lambda pixels, _: ops.autocontrast(pixels), 0.0, False),
    "equalize": Operation(lambda pixels, _: ops.equalize(pixels), 0.0, False),
}


class Draw(NamedTuple):
    """An operation by its name, and its strength."""

    name: str
    strength: float


def draw(rng: KeyedRandom) -> Draw:
    """What happens to an image: any operation, strength and sign alike."""
    name = tuple(OPERATIONS)[rng.integer(len(OPERATIONS))]
    strength = OPERATIONS[name].strongest * rng.integer(NUM_STRENGTHS) / (NUM_STRENGTHS - 1)
    is_negative = rng.integer(2) == 1 and OPERATIONS[name].is_signed
    return Draw(name, -strength if is_negative else strength)


def trivial_augment(pixels: Pixels, rng: KeyedRandom) -> Pixels:
    """`pixels`, uint8 (H, W, 3), after one operation drawn by chance."""
    name, strength = draw(rng)
    return OPERATIONS[name].apply(pixels, strength)
