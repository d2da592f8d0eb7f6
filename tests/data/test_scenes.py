"""Laws of the sample scenes: drawn the same every time, decodable, and not told apart by their colours."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sunspark.data.decoder import decode
from sunspark.data.scenes import draw_scene, draw_scenes
from sunspark.data.sources import list_source
from sunspark.errors import ConfigError, SourceError

CLASSES = ("city", "coast", "desert", "field", "forest", "mountain")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    result = draw_scenes(str(folder))
    assert (result.directory, result.classes, result.images) == (str(folder), 6, 600)
    return folder


def test_the_folder_is_a_source_of_six_classes_with_a_hundred_images_each(scenes: Path) -> None:
    listing = list_source(str(scenes))
    assert listing.classes == CLASSES
    assert np.bincount([image.label for image in listing.images]).tolist() == [100] * 6


def test_all_are_jpegs_of_varied_sizes(scenes: Path) -> None:
    pictures = [decode(path.read_bytes()) for path in scenes.rglob("*.jpg")]
    assert {picture.source_format for picture in pictures} == {"JPEG"}
    sizes = {(picture.source_width, picture.source_height) for picture in pictures}
    assert len(sizes) > 100
    assert min(min(size) for size in sizes) >= 96
    assert any(width < height for width, height in sizes)
    assert all(picture.pixels.std() > 4 for picture in pictures)


def histogram(path: Path) -> np.ndarray:
    """Share of the pixels in each of 8x8x8 colours: (512,)."""
    pixels = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).astype(int) // 32
    codes = (pixels[..., 0] * 8 + pixels[..., 1]) * 8 + pixels[..., 2]
    return np.bincount(codes.ravel(), minlength=512) / codes.size


def test_colours_alone_do_not_tell_the_class(scenes: Path) -> None:
    paths = sorted(scenes.rglob("*.jpg"))
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    histograms = np.stack([histogram(path) for path in paths])
    for fold in range(5):  # every fold, so that no lucky split decides
        is_test = np.arange(len(paths)) % 5 == fold
        for power in (1, 2):
            distances = (np.abs(histograms[is_test][:, None] - histograms[~is_test][None]) ** power).sum(axis=2)
            accuracy = (labels[~is_test][distances.argmin(axis=1)] == labels[is_test]).mean()
            assert 1 / 6 < accuracy < 0.7


def test_the_same_seed_draws_the_same_bytes(scenes: Path, tmp_path: Path) -> None:
    draw_scenes(str(tmp_path), num_classes=6, images_per_class=3)
    drawn = sorted(tmp_path.rglob("*.jpg"))
    assert len(drawn) == 18
    for path in drawn:
        assert path.read_bytes() == (scenes / path.relative_to(tmp_path)).read_bytes()
    assert draw_scene("coast", 0, seed=1) != draw_scene("coast", 0, seed=0) != draw_scene("coast", 1, seed=0)


def test_drawing_again_changes_nothing_and_other_files_are_respected(tmp_path: Path) -> None:
    for _ in range(2):
        draw_scenes(str(tmp_path), num_classes=2, images_per_class=2)
    assert len(list(tmp_path.rglob("*.*"))) == 4
    with pytest.raises(SourceError, match=r"holds other files \(.*scene_00001\.jpg.*choose an empty directory"):
        draw_scenes(str(tmp_path), num_classes=2, images_per_class=1)


@pytest.mark.parametrize("num_classes", [1, 7, 0])
def test_more_classes_than_can_be_drawn_are_refused(tmp_path: Path, num_classes: int) -> None:
    with pytest.raises(ConfigError, match=f"num_classes must be 2 to 6, got {num_classes}; the scenes are coast"):
        draw_scenes(str(tmp_path), num_classes=num_classes)
    with pytest.raises(ConfigError, match="images_per_class must be at least 1, got 0"):
        draw_scenes(str(tmp_path), images_per_class=0)
