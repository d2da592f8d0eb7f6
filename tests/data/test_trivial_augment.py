"""Laws of TrivialAugment: torchvision's space, drawn evenly; each operation torchvision's."""

from collections import Counter

import numpy as np
import pytest

from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.trivial_augment import NUM_STRENGTHS, OPERATIONS, draw, trivial_augment
from tests.data.pictures import picture

THEIR_NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}
WITHOUT_STRENGTH = ("autocontrast", "equalize")


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in WITHOUT_STRENGTH])
def test_strength_zero_changes_nothing(name: str) -> None:
    assert np.array_equal(OPERATIONS[name].apply(picture(48, 48), 0.0), picture(48, 48))


def test_all_operations_strengths_and_signs_are_drawn_alike() -> None:
    draws = [draw(KeyedRandom(0, 0, sample_id)) for sample_id in range(14_000)]
    counts = Counter(name for name, _ in draws)
    assert set(counts) == set(OPERATIONS)
    assert all(850 < count < 1150 for count in counts.values())
    for name, operation in OPERATIONS.items():
        strengths = [strength for drawn, strength in draws if drawn == name]
        steps = range(-NUM_STRENGTHS + 1 if operation.is_signed else 0, NUM_STRENGTHS)
        space = {operation.strongest * step / (NUM_STRENGTHS - 1) for step in steps}
        assert set(strengths) == space
        if operation.is_signed:
            assert np.mean(np.array(strengths) < 0) == pytest.approx(15 / 31, abs=0.07)


def test_what_is_drawn_is_done() -> None:
    for sample_id in range(40):
        name, strength = draw(KeyedRandom(1, 2, sample_id))
        pixels = trivial_augment(picture(32, 32), KeyedRandom(1, 2, sample_id))
        assert np.array_equal(pixels, OPERATIONS[name].apply(picture(32, 32), strength))


def test_the_space_is_torchvisions() -> None:
    """But for solarizing, which begins at 256 as in the paper's code: at 255, strength zero blackens what is white."""
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    space = autoaugment.TrivialAugmentWide()._augmentation_space(NUM_STRENGTHS)
    assert [THEIR_NAMES[name] for name in OPERATIONS] == list(space)
    for name, operation in OPERATIONS.items():
        magnitudes, is_signed = space[THEIR_NAMES[name]]
        magnitudes = magnitudes.double().reshape(-1)
        assert operation.is_signed == is_signed
        if name == "posterize":
            magnitudes = 8 - magnitudes
        if name == "solarize":
            magnitudes = (255 - magnitudes) * 256 / 255
        assert magnitudes[-1].item() == pytest.approx(operation.strongest)
        if len(magnitudes) > 1 and name != "posterize":
            ours = [operation.strongest * step / (NUM_STRENGTHS - 1) for step in range(NUM_STRENGTHS)]
            assert magnitudes.tolist() == pytest.approx(ours, abs=1e-4)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name: str) -> None:
    """Where a level is blended within one, elsewhere exactly; geometry on all but a thousandth of the pixels."""
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    from PIL import Image
    from torchvision.transforms import InterpolationMode

    operation, pixels = OPERATIONS[name], picture(64, 80)
    for step in range(-NUM_STRENGTHS + 1 if operation.is_signed else 0, NUM_STRENGTHS):
        strength = operation.strongest * step / (NUM_STRENGTHS - 1)
        theirs = {"posterize": 8 - round(strength), "solarize": 256 - round(strength)}.get(name, strength)
        expected = autoaugment._apply_op(
            Image.fromarray(pixels), THEIR_NAMES[name], theirs, InterpolationMode.NEAREST, None
        )
        difference = np.abs(operation.apply(pixels, strength).astype(int) - np.asarray(expected))
        assert np.mean(difference > 1) < 0.001
        if name in ("brightness", "saturation", "contrast", "sharpness"):
            assert difference.max() <= 1
