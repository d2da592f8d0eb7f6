"""Laws of pixel operations: those of Pillow and torchvision, nothing at strength zero, the same bits everywhere."""

import hashlib
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from sunspark.data import pixels as ops
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels
from tests.data.pictures import picture

IDENTITIES: dict[str, Callable[[Pixels], Pixels]] = {
    "brightness": lambda pixels: ops.brightness(pixels, 1.0),
    "contrast": lambda pixels: ops.contrast(pixels, 1.0),
    "saturation": lambda pixels: ops.saturation(pixels, 1.0),
    "sharpness": lambda pixels: ops.sharpness(pixels, 1.0),
    "hue": lambda pixels: ops.hue(pixels, 0.0),
    "a whole turn of the hue": lambda pixels: ops.hue(pixels, 1.0),
    "posterize": lambda pixels: ops.posterize(pixels, 8),
    "solarize": lambda pixels: ops.solarize(pixels, 256),
    "affine": lambda pixels: ops.affine(pixels, (1, 0, 0, 0, 1, 0)),
    "rotate": lambda pixels: ops.rotate(pixels, 0.0),
    "half a turn twice": lambda pixels: ops.hue(ops.hue(pixels, 0.5), -0.5),
    "solarized twice": lambda pixels: ops.solarize(ops.solarize(pixels, 0), 0),
}
CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "brightness": lambda pixels: ops.brightness(pixels, 1.3),
    "contrast": lambda pixels: ops.contrast(pixels, 0.4),
    "saturation": lambda pixels: ops.saturation(pixels, 1.7),
    "sharpness": lambda pixels: ops.sharpness(pixels, 1.9),
    "hue": lambda pixels: ops.hue(pixels, 0.15),
    "posterize": lambda pixels: ops.posterize(pixels, 3),
    "solarize": lambda pixels: ops.solarize(pixels, 100),
    "autocontrast": ops.autocontrast,
    "equalize": ops.equalize,
    "affine": lambda pixels: ops.affine(pixels, (1, 0.3, -4, 0, 1, 2)),
    "rotate": lambda pixels: ops.rotate(pixels, 33.0),
}
GOLDEN = {
    "brightness": "2d16eb3785ae540f",
    "contrast": "fbc6d6e4cd4c2cf1",
    "saturation": "87819e031cbb3a99",
    "sharpness": "1ebaf40b9ea0002d",
    "hue": "d5df345b2e95d74c",
    "posterize": "298f28db31c01679",
    "solarize": "ba7e9f87ecc4d706",
    "autocontrast": "37b3a4ab1a277f9f",
    "equalize": "57d02f09d1bfda02",
    "affine": "01d378e4531c9876",
    "rotate": "d343aaa3c7fa0ab6",
}


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (31, 1000), (224, 224), (513, 300)])
@pytest.mark.parametrize("step", [1, -1])
def test_three_of_four_bytes_are_copied_and_nothing_beside_them(shape: tuple[int, int], step: int) -> None:
    height, width = shape
    four = KeyedRandom(0, height, width).noise(height * width * 4).reshape(height, width, 4)[:, ::step]
    batch = np.full((3, height, width, 3), 77, np.uint8)
    ops.copy_three_bytes(four, batch[1])
    assert np.array_equal(batch[1], four[:, :, :3])
    assert (batch[[0, 2]] == 77).all()


@pytest.mark.parametrize("name", IDENTITIES)
def test_strength_zero_changes_nothing(name: str) -> None:
    pixels = picture(60, 70)
    assert np.array_equal(IDENTITIES[name](pixels), pixels)


@pytest.mark.parametrize("name", CHANGES)
def test_an_operation_gives_new_pixels_and_leaves_those_it_was_given(name: str) -> None:
    pixels = picture(48, 64) // 2 + 50
    before = pixels.copy()
    changed = CHANGES[name](pixels)
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    assert np.array_equal(pixels, before)
    assert not np.array_equal(changed, pixels)


@pytest.mark.parametrize("name", CHANGES)
def test_an_operation_takes_no_more_memory_than_the_page_says(name: str) -> None:
    """docs/concepts/memory.md: 52 bytes a pixel, the result among them."""
    pixels = picture(256, 256)
    tracemalloc.start()
    try:
        CHANGES[name](pixels)
        assert tracemalloc.get_traced_memory()[1] <= 52 * 256**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", CHANGES)
def test_an_operation_gives_the_same_bits_everywhere_and_for_ever(name: str) -> None:
    """A run is verified by computing its pixels again, perhaps on another machine and years later."""
    digest = hashlib.sha256(np.ascontiguousarray(CHANGES[name](picture(48, 64) // 2 + 50)).tobytes()).hexdigest()
    assert digest[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 3), (5, 2)])
def test_tiny_images_keep_their_shape(name: str, shape: tuple[int, int]) -> None:
    for level in (0, 127, 255):
        assert CHANGES[name](np.full((*shape, 3), level, np.uint8)).shape == (*shape, 3)


@pytest.mark.parametrize("factor", [0.0, 0.01, 0.37, 1.0, 1.99, 4.5])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_enhancing_is_pillows(name: str, factor: float) -> None:
    """Within one level: a compiler may leave Pillow's products unrounded, which tells where a level is cut off."""
    enhancer = {"saturation": "Color"}.get(name, name.capitalize())
    expected = getattr(ImageEnhance, enhancer)(Image.fromarray(picture(60, 70))).enhance(factor)
    difference = np.abs(getattr(ops, name)(picture(60, 70), factor).astype(int) - np.asarray(expected))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize("pixels", [picture(60, 70), picture(60, 70) // 3 + 90, np.full((9, 9, 3), 7, np.uint8)])
def test_tables_are_pillows(pixels: Pixels) -> None:
    image = Image.fromarray(pixels)
    assert np.array_equal(ops.autocontrast(pixels), ImageOps.autocontrast(image))
    assert np.array_equal(ops.equalize(pixels), ImageOps.equalize(image))
    assert np.array_equal(ops.posterize(pixels, 3), ImageOps.posterize(image, 3))
    assert np.array_equal(ops.solarize(pixels, 77), ImageOps.solarize(image, 77))


@pytest.mark.parametrize("turn", [-0.5, -0.3, -0.01, 0.07, 0.25, 0.5])
def test_the_hue_turns_as_torchvision_turns_it(turn: float) -> None:
    """Within one level of its computation in floating point, which cuts off where this one rounds."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.functional")
    pixels = picture(60, 70)
    expected = functional.adjust_hue(torch.from_numpy(pixels).permute(2, 0, 1), turn).permute(1, 2, 0).numpy()
    difference = np.abs(ops.hue(pixels, turn).astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.1


def test_a_third_of_a_turn_makes_red_green_and_green_blue() -> None:
    colours = np.array([[[200, 10, 10], [10, 200, 10], [10, 10, 200], [90, 90, 90]]], np.uint8)
    assert ops.hue(colours, 1 / 3).tolist() == [[[10, 200, 10], [10, 10, 200], [200, 10, 10], [90, 90, 90]]]
