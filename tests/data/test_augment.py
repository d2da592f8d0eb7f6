"""Laws of augmentation: keyed randomness, crops inside the image, the same resampling everywhere."""

import itertools
import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.color_jitter import color_jitter
from sunspark.data.crop import random_resized_crop
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.random_erasing import random_erasing
from sunspark.data.trivial_augment import trivial_augment
from sunspark.errors import ConfigError

CHANGES: list[dict[str, object]] = [
    {"color_jitter": (0.4, 0.4, 0.4, 0.1)},
    {"trivial_augment": True},
    {"erasing_probability": 1.0},
]
ALL_ON = AugmentConfig(color_jitter=(0.4, 0.4, 0.4, 0.1), trivial_augment=True, erasing_probability=1.0)


def scene(height: int, width: int, colour: bool = True) -> npt.NDArray[np.uint8]:
    """Smooth waves, different in each channel, so that every place looks different."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / (19 + 7 * c) + c) * np.cos(y / (23 - 5 * c)) for c in range(3)]
    return np.stack(waves if colour else waves[:1] * 3, axis=-1).astype(np.uint8)


def jpeg_of(height: int, width: int) -> bytes:
    return simplejpeg.encode_jpeg(scene(height, width), quality=92, colorsubsampling="420")


def largest_difference(pixels: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> int:
    """Of two levels at the same place."""
    return int(np.abs(pixels.astype(int) - others).max())


def test_pixels_depend_on_seed_epoch_and_sample_id_and_on_nothing_else() -> None:
    jpeg = jpeg_of(256, 341)
    keys = list(itertools.product(range(2), range(3), (7, 2**64 - 1)))
    pixels = {key: training_pixels(jpeg, 32, KeyedRandom(*key)).tobytes() for key in keys}
    assert len(set(pixels.values())) == len(keys)
    random.Random(0).shuffle(keys)
    assert all(pixels[key] == training_pixels(jpeg, 32, KeyedRandom(*key)).tobytes() for key in keys)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3), (40, 4000)])
def test_odd_shapes_have_pixels_too(height: int, width: int) -> None:
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
    blended, repeated = (simplejpeg.decode_jpeg(jpeg, fastupsample=fast) for fast in (False, True))
    assert (training_pixels(jpeg, 96, KeyedRandom(0, 0, 0), config) == repeated).all()
    assert (evaluation_pixels(jpeg, 96, config) == blended).all()
    assert 0 < np.abs(blended.astype(int) - repeated).mean() < 2


def test_training_pixels_are_the_chosen_box_of_the_decoded_image_mirrored_or_not() -> None:
    jpeg, config = jpeg_of(256, 341), AugmentConfig()
    whole = Image.fromarray(simplejpeg.decode_jpeg(jpeg, fastupsample=True))
    for sample_id in range(20):
        rng = KeyedRandom(0, 0, sample_id)
        flip = rng.uniform() < 0.5
        box = random_resized_crop((256, 341), rng, config.crop_scale, config.crop_ratio)
        cut = (box.left, box.top, box.left + box.width, box.top + box.height)
        expected = np.asarray(whole.resize((96, 96), Image.Resampling.BILINEAR, cut))
        pixels = training_pixels(jpeg, 96, KeyedRandom(0, 0, sample_id), config)
        assert largest_difference(pixels, expected[:, ::-1] if flip else expected) <= 1


def test_pixels_are_the_same_in_whatever_thread_and_order() -> None:
    jpeg, keys = jpeg_of(256, 341), list(range(60))
    alone = [training_pixels(jpeg, 48, KeyedRandom(0, 0, key), ALL_ON).tobytes() for key in keys]
    shuffled = random.Random(0).sample(keys, len(keys))
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = pool.map(lambda key: training_pixels(jpeg, 48, KeyedRandom(0, 0, key), ALL_ON).tobytes(), shuffled)
        together = dict(zip(shuffled, made, strict=True))
    assert [together[key] for key in keys] == alone
    assert len(set(alone)) == len(keys)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: " ".join(change))
def test_each_augmentation_changes_training_and_never_evaluation(change: dict[str, object]) -> None:
    jpeg, config = jpeg_of(256, 341), AugmentConfig(**change)  # type: ignore[arg-type]
    keys = range(40)
    plain, changed = (
        [training_pixels(jpeg, 48, KeyedRandom(0, 0, key), each) for key in keys] for each in (AugmentConfig(), config)
    )
    assert all(pixels.shape == (48, 48, 3) and pixels.dtype == np.uint8 for pixels in changed)
    num_changed = sum(not np.array_equal(one, other) for one, other in zip(plain, changed, strict=True))
    assert num_changed > 5
    assert np.array_equal(evaluation_pixels(jpeg, 48, config), evaluation_pixels(jpeg, 48))


def test_as_many_images_are_erased_as_asked_for_and_the_others_stay() -> None:
    jpeg, config = jpeg_of(64, 64), AugmentConfig(erasing_probability=0.25, erasing_area=(0.1, 0.3))
    num_erased = 0
    for sample_id in range(400):
        plain = training_pixels(jpeg, 32, KeyedRandom(0, 0, sample_id))
        share = (plain != training_pixels(jpeg, 32, KeyedRandom(0, 0, sample_id), config)).any(axis=2).mean()
        assert share == 0 or 0.08 < share < 0.32
        num_erased += share > 0
    assert 70 < num_erased < 130


def test_the_steps_of_training_follow_one_another() -> None:
    jpeg = jpeg_of(96, 128)
    for sample_id in range(20):
        rng = KeyedRandom(0, 0, sample_id)
        flip = rng.uniform() < ALL_ON.flip_probability
        random_resized_crop((96, 128), rng, ALL_ON.crop_scale, ALL_ON.crop_ratio)
        cropped = AugmentConfig(flip_probability=float(flip))
        pixels = training_pixels(jpeg, 48, KeyedRandom(0, 0, sample_id), cropped)
        pixels = trivial_augment(color_jitter(pixels, rng, ALL_ON.color_jitter), rng)
        assert rng.uniform() < ALL_ON.erasing_probability
        pixels = random_erasing(pixels, rng, ALL_ON.erasing_area, ALL_ON.erasing_ratio)
        assert np.array_equal(training_pixels(jpeg, 48, KeyedRandom(0, 0, sample_id), ALL_ON), pixels)


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
    expected = Image.fromarray(simplejpeg.decode_jpeg(jpeg_of(256, 341))).resize(
        (128, 128), Image.Resampling.BILINEAR, box=(58, 16, 282, 240)
    )
    assert largest_difference(evaluation_pixels(jpeg_of(256, 341), 128), np.asarray(expected)) <= 1


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
        ("color_jitter", (0.1, 0.1, 0.1, 0.6)),
        ("color_jitter", (0.1, -0.1, 0.1, 0.1)),
        ("color_jitter", (0.1, 0.1, 0.1)),
        ("color_jitter", (0.1, math.inf, 0.1, 0.1)),
        ("erasing_probability", 1.1),
        ("erasing_area", (0.0, 0.3)),
        ("erasing_area", (0.3, 1.1)),
        ("erasing_ratio", (3.0, 1.0)),
        ("evaluation_crop", 0.0),
        ("evaluation_crop", 1.1),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        AugmentConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"erasing_area": (0.1, 0.2)}, {"erasing_ratio": (1.0, 1.0)}])
def test_a_setting_of_erasing_without_erasing_is_refused(change: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(change))} .* has no effect with erasing_probability 0"):
        AugmentConfig(**change)
    assert AugmentConfig(**change, erasing_probability=0.1).erasing_probability == 0.1
