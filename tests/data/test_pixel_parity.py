"""What evaluation looks at is what Pillow alone makes of the same bytes: the pixels, and what a network says of them.

Evaluation decodes at a fraction where it may, with another decoder. Neither must show.
"""

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sunspark.data.augment import AugmentConfig, evaluation_pixels
from sunspark.data.codec import encode_jpeg, to_stored_image
from sunspark.data.scenes import draw_scene
from tests.images import sun_open

CLASSES = ("coast", "forest", "city")
MOST_DIFFERENCE = 1.0
"""Mean over the pixels of an image, of 255."""
LEAST_SAME = 0.995


def by_pillow(jpeg: bytes, size: int, share: float = 0.875) -> np.ndarray:
    """Decoded whole, cropped to the centre, resized: three calls of Pillow's."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    side = round(share * min(image.size))
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    crop = image.crop((left, top, left + side, top + side))
    return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))


def differences(jpegs: Sequence[bytes], size: int) -> list[float]:
    return [float(np.abs(evaluation_pixels(jpeg, size).astype(int) - by_pillow(jpeg, size)).mean()) for jpeg in jpegs]


@functools.cache
def drawn(first: int, num_images: int, short_side: int = 256) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """Scenes as a dataset stores them, and their labels; of odd sizes and short sides that are no multiple of 8."""
    jpegs, labels = [], []
    for number in range(first, first + num_images):
        for label, name in enumerate(CLASSES):
            scene = Image.open(io.BytesIO(draw_scene(name, number))).resize((1023 - 7 * (number % 5), 767))
            stored = to_stored_image(encode_jpeg(np.asarray(scene)), short_side=short_side - 3 * (number % 3))
            jpegs.append(stored.jpeg)
            labels.append(label)
    return tuple(jpegs), tuple(labels)


@functools.cache
def real(split: str) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """A split of sun_open as a dataset stores it, and its labels."""
    source = sun_open()
    paths = [Path(line.strip("/")) for line in (source / f"{split}.txt").read_text().split()]
    classes = sorted({path.parent for path in paths})
    jpegs = tuple(to_stored_image((source / path).read_bytes(), short_side=256).jpeg for path in paths)
    return jpegs, tuple(classes.index(path.parent) for path in paths)


def features(images: Sequence[np.ndarray]) -> torch.Tensor:
    """(N, F): what fixed random filters find, pooled over a grid; the first layers of a network that nobody trained."""
    generator = torch.Generator().manual_seed(0)
    filters = torch.randn(48, 3, 5, 5, generator=generator)
    filters -= filters.mean(dim=(1, 2, 3), keepdim=True)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    found = torch.nn.functional.conv2d(x, filters, stride=2)
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.cat([found.relu(), (-found).relu()], dim=1), 3)
    colours = torch.nn.functional.adaptive_avg_pool2d(x, 4)
    return torch.cat([pooled.flatten(1), colours.flatten(1), torch.ones(len(x), 1)], dim=1).double()


def network(images: Sequence[np.ndarray], labels: Sequence[int]) -> torch.Tensor:
    """(F, K): a last layer for `features`, by ridge regression."""
    x_NF = features(images)
    y_NK = torch.nn.functional.one_hot(torch.tensor(labels)).double()
    return torch.linalg.solve(
        x_NF.T @ x_NF + 100 * torch.eye(x_NF.shape[1]).double(), x_NF.T @ (y_NK - y_NK.mean(dim=0))
    )


def top1(jpegs: Sequence[bytes], size: int, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network says of the images by evaluation's path, and by Pillow's."""
    ours = features([evaluation_pixels(jpeg, size) for jpeg in jpegs])
    theirs = features([by_pillow(jpeg, size) for jpeg in jpegs])
    return (ours @ weights).argmax(dim=1), (theirs @ weights).argmax(dim=1)


@pytest.mark.parametrize(("short_side", "size"), [(256, 224), (256, 96), (256, 48), (600, 96), (700, 33)])
def test_evaluation_sees_what_pillow_makes_of_the_same_bytes(short_side: int, size: int) -> None:
    """Decoded whole, at a half, at a quarter."""
    jpegs, _ = drawn(0, 4, short_side)
    assert max(differences(jpegs, size)) < MOST_DIFFERENCE


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (2, 500), (500, 2)])
def test_images_that_are_hardly_any_too(width: int, height: int) -> None:
    ramp = np.linspace(0, 255, width * height).reshape(height, width, 1).repeat(3, axis=2)
    assert max(differences([encode_jpeg(ramp.astype(np.uint8))], 16)) < MOST_DIFFERENCE


def test_where_nothing_is_resized_the_crop_is_the_stored_pixels() -> None:
    """256 pixels, of which evaluation takes 224: a crop between pixels would blur them."""
    noise = np.random.default_rng(0).integers(0, 256, (257, 342, 3), np.uint8)
    jpeg = to_stored_image(encode_jpeg(noise), short_side=256).jpeg
    decoded = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    top, left = (decoded.shape[0] - 224) // 2, round((decoded.shape[1] - 224) / 2)
    assert np.array_equal(evaluation_pixels(jpeg, 224), decoded[top : top + 224, left : left + 224])
    assert evaluation_pixels(jpeg, 256, AugmentConfig(evaluation_crop=1.0)).shape == (256, 256, 3)


def test_a_network_says_the_same_of_both() -> None:
    size = 48
    taught, labels = drawn(100, 30)
    weights = network([by_pillow(jpeg, size) for jpeg in taught], labels)
    jpegs, truth = drawn(0, 30)
    ours, theirs = top1(jpegs, size, weights)
    assert (theirs == torch.tensor(truth)).float().mean() > 0.6, (
        "a network that knows nothing says the same of everything"
    )
    assert (ours == theirs).float().mean() >= LEAST_SAME


@pytest.mark.timeout(400)
@pytest.mark.parametrize("size", [96, 48])
def test_on_real_images_too(size: int) -> None:
    jpegs, truth = real("Test_bal")
    assert max(differences(jpegs, size)) < MOST_DIFFERENCE
    taught, labels = real("Train_bal")
    weights = network([by_pillow(jpeg, size) for jpeg in taught], labels)
    ours, theirs = top1(jpegs, size, weights)
    assert (theirs == torch.tensor(truth)).float().mean() > 0.25
    assert (ours == theirs).float().mean() >= LEAST_SAME
