"""Laws of random erasing: a rectangle within its bounds becomes noise, all else stays."""

import numpy as np

from sunspark.data.crop import random_box
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.random_erasing import random_erasing
from tests.data.pictures import picture

AREA, RATIO = (0.02, 0.33), (0.3, 3.3)


def test_only_a_rectangle_of_the_drawn_size_changes() -> None:
    pixels = np.full((64, 48, 3), 77, np.uint8)
    for sample_id in range(200):
        top, left, height, width = map(int, random_box((64, 48), KeyedRandom(0, 0, sample_id), AREA, RATIO) or ())
        erased = random_erasing(pixels, KeyedRandom(0, 0, sample_id), AREA, RATIO)
        changed = (erased != 77).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert (rows[0], columns[0], rows[-1], columns[-1]) == (top, left, top + height - 1, left + width - 1)
        assert changed[top : top + height, left : left + width].mean() > 0.99
        assert 0.015 < height * width / (64 * 48) < 0.35
        assert 0.2 < width / height < 5


def test_the_image_that_was_given_stays() -> None:
    pixels = picture(32, 32)
    random_erasing(pixels, KeyedRandom(0, 0, 0), AREA, RATIO)
    assert np.array_equal(pixels, picture(32, 32))


def test_erased_pixels_are_noise_of_each_sample_s_own() -> None:
    whole = [random_erasing(picture(32, 32), KeyedRandom(0, 0, key), (1.0, 1.0), (1.0, 1.0)) for key in range(2)]
    assert (whole[0] != whole[1]).mean() > 0.99
    assert 118 < whole[0].mean() < 137
    assert (np.bincount(whole[0].reshape(-1), minlength=256) > 0).all()


def test_a_rectangle_that_cannot_fit_erases_nothing() -> None:
    assert np.array_equal(
        random_erasing(picture(32, 32), KeyedRandom(0, 0, 0), (1.0, 1.0), (2.0, 2.0)), picture(32, 32)
    )
