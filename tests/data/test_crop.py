"""Laws of crops: inside the image, within their bounds, the same for ever."""

import hashlib

import pytest

from sunspark.data.augment import AugmentConfig
from sunspark.data.crop import centre_crop, random_box, random_resized_crop
from sunspark.data.keyed_random import KeyedRandom

SCALE, RATIO = AugmentConfig().crop_scale, AugmentConfig().crop_ratio


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
