"""Color jitter: brightness, contrast, saturation and hue changed by chance, in random order.

Source: Howard, arXiv 1312.5402, with the definitions of torchvision's `ColorJitter`.
Cost: the operations of `pixels.py` whose strength is not zero.
"""

from collections.abc import Callable

from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels, brightness, contrast, hue, saturation

Change = tuple[Callable[[Pixels, float], Pixels], float]
Strengths = tuple[float, float, float, float]


def color_jitter(pixels: Pixels, rng: KeyedRandom, strengths: Strengths) -> Pixels:
    """`pixels`, uint8 (H, W, 3), changed by up to the strengths of brightness, contrast, saturation and hue.

    The first three are multiplied by a factor from max(0, 1 - strength) to 1 + strength; the hue moves by up to its
    strength of a whole turn, either way. What has strength 0 draws no random number.
    """
    *of_factors, of_hue = strengths
    changes: list[Change] = [
        (operation, rng.uniform(max(0.0, 1 - strength), 1 + strength))
        for operation, strength in zip((brightness, contrast, saturation), of_factors, strict=True)
        if strength
    ]
    if of_hue:
        changes.append((hue, rng.uniform(-of_hue, of_hue)))
    for operation, amount in rng.shuffled(changes):
        pixels = operation(pixels, amount)
    return pixels
