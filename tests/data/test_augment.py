"""Laws of augmentation: keyed randomness, crops inside the image, the same resampling everywhere."""

import itertools
import math
import random

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

from sunspark.data.augment import (
    AugmentConfig,
    KeyedRandom,
    centre_crop,
    evaluation_pixels,
    random_resized_crop,
    training_pixels,
)
from sunspark.errors import ConfigError


def scene(height: int, width: int, colour: bool = True) -> npt.NDArray[np.uint8]:
    """Smooth waves, different in each channel, so that every place looks different."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / (19 + 7 * c) + c) * np.cos(y / (23 - 5 * c)) for c in range(3)]
    return np.stack(waves if colour else waves[:1] * 3, axis=-1).astype(np.uint8)


def jpeg_of(height: int, width: int) -> bytes:
    return simplejpeg.encode_jpeg(scene(height, width), quality=92, colorsubsampling="420")


def test_pixels_depend_on_seed_epoch_and_sample_id_and_on_nothing_else() -> None:
    jpeg = jpeg_of(256, 341)
    keys = list(itertools.product(range(2), range(3), (7, 2**64 - 1)))
    pixels = {key: training_pixels(jpeg, 32, KeyedRandom(*key)).tobytes() for key in keys}
    assert len(set(pixels.values())) == len(keys)
    random.Random(0).shuffle(keys)
    assert all(pixels[key] == training_pixels(jpeg, 32, KeyedRandom(*key)).tobytes() for key in keys)


def test_random_numbers_are_the_same_everywhere_and_for_ever() -> None:
    rng = KeyedRandom(1, 2, 3)
    assert [rng.uniform() for _ in range(2)] == [0.03291037284913134, 0.43580369905085237]
    assert rng.integer(1000) == 480
    assert rng.integer(1000) == 718


def test_random_numbers_are_uniform() -> None:
    generators = [KeyedRandom(0, 0, sample_id) for sample_id in range(4000)]
    draws = np.array([(rng.uniform(2, 4), rng.integer(4)) for rng in generators])
    assert np.histogram(draws[:, 0], bins=4, range=(2, 4))[0] == pytest.approx([1000] * 4, abs=150)
    assert np.bincount(draws[:, 1].astype(int)) == pytest.approx([1000] * 4, abs=150)


def test_crops_lie_inside_the_image_and_keep_to_their_bounds() -> None:
    config = AugmentConfig(crop_scale=(0.2, 0.9), crop_ratio=(0.5, 2.0))
    for sample_id in range(500):
        box = random_resized_crop(300, 400, KeyedRandom(0, 0, sample_id), config)
        assert 0 <= box.top <= 300 - box.height
        assert 0 <= box.left <= 400 - box.width
        assert 0.19 < box.height * box.width / (300 * 400) < 0.91
        assert 0.49 < box.width / box.height < 2.02


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3), (40, 4000)])
def test_odd_shapes_have_a_crop_too(height: int, width: int) -> None:
    for sample_id in range(50):
        box = random_resized_crop(height, width, KeyedRandom(0, 0, sample_id), AugmentConfig())
        assert 1 <= box.height <= height - box.top
        assert 1 <= box.width <= width - box.left
    assert training_pixels(jpeg_of(height, width), 8, KeyedRandom(0, 0, 0)).shape == (8, 8, 3)
    assert evaluation_pixels(jpeg_of(height, width), 8).shape == (8, 8, 3)


def test_half_of_the_images_are_mirrored_and_the_others_are_not() -> None:
    jpeg, whole = jpeg_of(64, 64), {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    never = training_pixels(jpeg, 64, KeyedRandom(0, 0, 0), AugmentConfig(**whole, flip_probability=0))
    config = AugmentConfig(**whole)
    mirrored = 0
    for sample_id in range(400):
        pixels = training_pixels(jpeg, 64, KeyedRandom(0, 0, sample_id), config)
        assert (pixels == never).all() or (pixels == never[:, ::-1]).all()
        mirrored += not (pixels == never).all()
    assert 150 < mirrored < 250


def test_the_whole_image_at_its_own_size_is_the_image() -> None:
    config = AugmentConfig(crop_scale=(1, 1), crop_ratio=(1, 1), flip_probability=0, evaluation_crop=1)
    jpeg = jpeg_of(96, 96)
    decoded = simplejpeg.decode_jpeg(jpeg)
    assert (training_pixels(jpeg, 96, KeyedRandom(0, 0, 0), config) == decoded).all()
    assert (evaluation_pixels(jpeg, 96, config) == decoded).all()


def test_training_pixels_are_the_chosen_box_of_the_decoded_image() -> None:
    jpeg, config = jpeg_of(256, 341), AugmentConfig(flip_probability=0)
    for sample_id in range(20):
        rng = KeyedRandom(0, 0, sample_id)
        rng.uniform()  # the flip is drawn first
        box = random_resized_crop(256, 341, rng, config)
        cut = (box.left, box.top, box.left + box.width, box.top + box.height)
        whole = Image.fromarray(simplejpeg.decode_jpeg(jpeg))
        expected = whole.resize((96, 96), Image.Resampling.BILINEAR, cut)
        pixels = training_pixels(jpeg, 96, KeyedRandom(0, 0, sample_id), config)
        assert (pixels == np.asarray(expected)).all()


@pytest.mark.parametrize("size", [20, 40, 64, 80, 128])
def test_scaled_decoding_of_large_images_cannot_be_seen(size: int) -> None:
    jpeg, config = jpeg_of(1021, 1367), AugmentConfig(evaluation_crop=1)
    left = (1367 - 1021) / 2
    expected = Image.fromarray(simplejpeg.decode_jpeg(jpeg)).resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, 0, left + 1021, 1021)
    )
    difference = np.abs(evaluation_pixels(jpeg, size, config).astype(int) - np.asarray(expected))
    assert difference.max() <= 6
    assert difference.mean() < 1.5  # a shift by one source pixel gives 4


def test_evaluation_looks_at_the_centre() -> None:
    box = centre_crop(256, 341, AugmentConfig())
    assert (box.top, box.left, box.height, box.width) == (16, 58.5, 224, 224)
    expected = Image.fromarray(simplejpeg.decode_jpeg(jpeg_of(256, 341))).resize(
        (128, 128), Image.Resampling.BILINEAR, box=(58.5, 16, 282.5, 240)
    )
    assert (evaluation_pixels(jpeg_of(256, 341), 128) == np.asarray(expected)).all()


def test_grey_jpegs_come_back_with_three_equal_channels() -> None:
    grey = np.ascontiguousarray(scene(80, 100, colour=False)[:, :, :1])
    pixels = evaluation_pixels(simplejpeg.encode_jpeg(grey, quality=92, colorspace="GRAY"), 32)
    assert pixels.shape == (32, 32, 3)
    assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize("jpeg", [b"", b"not a picture", jpeg_of(64, 64)[:300]])
def test_what_is_not_a_whole_jpeg_is_a_value_error(jpeg: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        evaluation_pixels(jpeg, 32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.9, 0.3)),
        ("crop_scale", (0.5, 1.5)),
        ("crop_ratio", (0.0, 1.0)),
        ("crop_ratio", (2.0, 1.0)),
        ("crop_ratio", (1.0, math.nan)),
        ("flip_probability", -0.1),
        ("evaluation_crop", 0.0),
        ("evaluation_crop", 1.1),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        AugmentConfig(**{field: value})  # type: ignore[arg-type]
