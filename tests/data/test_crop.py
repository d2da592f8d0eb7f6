"""Laws of crops: inside the image, within their bounds, the same for ever."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg

from sunspark.data.augment import AugmentConfig
from sunspark.data.crop import TRAINING, centre_crop, crop_and_resize, random_box, random_resized_crop, shape_of
from sunspark.data.four_bytes import four_bytes
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.pixels import Pixels
from sunspark.data.resize import Box, resize

SCALE, RATIO = AugmentConfig().crop_scale, AugmentConfig().crop_ratio


def jpeg_of(height: int, width: int) -> bytes:
    return simplejpeg.encode_jpeg(KeyedRandom(1, height, width).noise(height * width * 3).reshape(height, width, 3))


def whole(jpeg: bytes, size: int) -> Pixels:
    """All of an image, as training sees it at that size."""
    out, shape = np.empty((size, size, 3), np.uint8), shape_of(jpeg)
    crop_and_resize(jpeg, shape, Box(0, 0, *shape), out, TRAINING)
    return out


def test_crops_lie_inside_the_image_and_keep_to_their_bounds() -> None:
    for sample_id in range(500):
        box = random_resized_crop((300, 400), KeyedRandom(0, 0, sample_id), (0.2, 0.9), (0.5, 2.0))
        assert 0 <= box.top <= 300 - box.height
        assert 0 <= box.left <= 400 - box.width
        assert 0.19 < box.height * box.width / (300 * 400) < 0.91
        assert 0.49 < box.width / box.height < 2.02


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3), (40, 4000)])
def test_odd_shapes_have_a_crop_too(height: int, width: int) -> None:
    for sample_id in range(50):
        box = random_resized_crop((height, width), KeyedRandom(0, 0, sample_id), SCALE, RATIO)
        assert 1 <= box.height <= height - box.top
        assert 1 <= box.width <= width - box.left


def test_a_box_that_cannot_fit_is_none() -> None:
    assert random_box((10, 10), KeyedRandom(0, 0, 0), (1.0, 1.0), (2.0, 2.0)) is None


def test_the_centre_is_a_square_in_the_middle() -> None:
    assert centre_crop((256, 341), 0.875) == (16, 58, 224, 224)


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(3, 5, 1), (1, 1, 1), (127, 128, 1), (128, 300, 2), (255, 255, 2), (256, 999, 4), (600, 700, 8), (1100, 1300, 8)],
)
def test_an_image_is_decoded_as_small_as_its_box_allows(height: int, width: int, factor: int) -> None:
    """The whole of it, seen at 32 x 32: 64 pixels a side are decoded at least."""
    jpeg = jpeg_of(height, width)
    shape = -(-height // factor), -(-width // factor)
    least = {"min_height": shape[0], "min_width": shape[1]} if factor > 1 else {}
    decoded = simplejpeg.decode_jpeg(jpeg, "RGBX", fastupsample=True, **least)
    assert decoded.shape[:2] == shape
    expected = resize(four_bytes(decoded), Box(0, 0, height / factor, width / factor), 32)[:, :, :3]
    assert np.array_equal(expected, whole(jpeg, 32))


@pytest.mark.parametrize("size", [16, 300, 1100])
def test_an_image_looks_the_same_whatever_was_decoded_before(size: int) -> None:
    """Small ones after large ones, those that are not kept in memory among them, and the other way round."""
    jpegs = [jpeg_of(*shape) for shape in [(40, 50), (1, 1), (1050, 1050), (300, 8), (700, 900)]]
    with ThreadPoolExecutor(1) as pool:
        alone = [ThreadPoolExecutor(1).submit(whole, jpeg, size).result() for jpeg in jpegs]
        for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 2, 4, 0]):
            for number in order:
                assert np.array_equal(pool.submit(whole, jpegs[number], size).result(), alone[number])


def test_flips_and_crops_of_a_key_are_the_same_for_ever() -> None:
    """Made when PIXELS_VERSION was 3: runs of then are resumed and verified now."""
    shapes = [(256, 341), (300, 200), (40, 4000)]
    lines = []
    for sample_id in range(300):
        rng = KeyedRandom(3, 1, sample_id)
        flip = rng.uniform() < 0.5
        top, left, height, width = map(int, random_resized_crop(shapes[sample_id % 3], rng, SCALE, RATIO))
        lines.append(f"{flip:d} {top} {left} {height} {width} {rng.integer(2**32)}")
    assert lines[:2] == ["0 18 3 191 180 3370086808", "0 88 16 177 170 1368927974"]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == "ed2b080924210b467c7171e152755c0b93188eab31088b18acaa76f8bc4243f2"
