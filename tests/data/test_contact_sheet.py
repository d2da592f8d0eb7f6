"""The picture of augmentation shows what training and evaluation see, pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.codec import encode_jpeg
from sunspark.data.contact_sheet import (
    NUM_EPOCHS,
    SheetConfig,
    SheetResult,
    contact_sheet,
    write_contact_sheet,
)
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.lettering import drawable
from sunspark.data.writer import write_dataset
from sunspark.errors import ConfigError, DatasetError
from sunspark.launch.ingest import ingest
from tests.data.engine import here

SIZE = 96
GAP = 6
TEXT = 26


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three classes, one of them without an image."""
    rng = np.random.default_rng(0)
    made = [
        (f"{name}/{number}.jpg", label, ["train"], encode_jpeg(rng.integers(0, 256, (40, 60 + number, 3), np.uint8)))
        for label, name in ((0, "a"), (2, "c"))
        for number in range(3)
    ]
    return write_dataset(str(tmp_path / "dataset"), made, classes=("a", "b", "c"), block_size=4)


def view(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = TEXT + row * (SIZE + TEXT + GAP), GAP + column * (SIZE + GAP)
    return sheet[top : top + SIZE, left : left + SIZE]


@pytest.mark.parametrize("seed", [0, 7])
def test_each_view_is_what_training_and_evaluation_see(dataset: Dataset, seed: int) -> None:
    augment = AugmentConfig(trivial_augment=True, erasing_probability=0.5)
    sheet = contact_sheet(dataset, SheetConfig(image_size=SIZE, seed=seed), augment)
    for number, label in enumerate((0, 2)):
        row = int(np.flatnonzero(dataset.labels == label)[0])
        block = dataset.read_block(dataset.block_of(row))
        jpeg = block.images[row - block.first_row]
        for epoch in range(NUM_EPOCHS):
            rng = KeyedRandom(seed, epoch, int(dataset.sample_ids[row]))
            assert np.array_equal(view(sheet, number, 1 + epoch), training_pixels(jpeg, SIZE, rng, augment))
        assert np.array_equal(view(sheet, number, 1 + NUM_EPOCHS), evaluation_pixels(jpeg, SIZE, augment))


def test_the_file_is_a_png_of_two_rows(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.png"
    result = write_contact_sheet(dataset, str(out), SheetConfig(image_size=SIZE), AugmentConfig())
    wanted = (GAP + (NUM_EPOCHS + 2) * (SIZE + GAP), TEXT + 2 * (SIZE + TEXT + GAP))
    assert result == SheetResult(dataset=dataset.uri, path=str(out), width=wanted[0], height=wanted[1])
    with Image.open(out) as image:
        assert (image.format, image.size) == ("PNG", wanted)


def test_heads_are_whole_however_small_the_images_are(dataset: Dataset) -> None:
    small, large = (contact_sheet(dataset, SheetConfig(image_size=size), AugmentConfig()) for size in (16, SIZE))
    width = small.shape[1] // (NUM_EPOCHS + 2) - GAP
    assert width < SIZE
    for sheet in (small, large):
        assert (sheet[:TEXT, -GAP:] == sheet[0, 0]).all()
    last = large[:TEXT, GAP + (NUM_EPOCHS + 1) * (SIZE + GAP) :]
    assert np.array_equal(small[:TEXT, -width - GAP :], last[:, : width + GAP])


def test_images_that_are_trained_on_are_shown_where_there_are_any(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = ("test", "train")
    made = [
        (f"{number}.jpg", 0, [splits[number % 2]], encode_jpeg(np.full((40, 60, 3), 20 * number, np.uint8)))
        for number in range(6)
    ]
    sheets = []
    for part in (made, made[1::2], made[::2]):
        there = write_dataset(
            str(tmp_path / str(len(sheets))), part, classes=("a",), split_names=splits if part is made else part[0][2]
        )
        caplog.clear()
        write_contact_sheet(there, str(tmp_path / "out.png"), SheetConfig(image_size=SIZE), AugmentConfig())
        told = "none of the splits (test) is one to train on: what is shown is what a training would see"
        assert (told in caplog.text) == (there.split_names == ("test",))
        sheets.append(contact_sheet(there, SheetConfig(image_size=SIZE), AugmentConfig()))
    assert np.array_equal(sheets[0], sheets[1])


def test_the_picture_says_of_which_split_an_image_is(tmp_path: Path) -> None:
    jpeg = encode_jpeg(np.zeros((40, 60, 3), np.uint8))
    sheets = [
        contact_sheet(
            write_dataset(str(tmp_path / split), [("1.jpg", 0, [split], jpeg)], classes=("a",), split_names=(split,)),
            SheetConfig(image_size=SIZE),
            AugmentConfig(),
        )
        for split in ("train", "test")
    ]
    name = len(sheets[0]) - TEXT - GAP
    assert np.array_equal(sheets[0][:name], sheets[1][:name])
    assert not np.array_equal(sheets[0][name:], sheets[1][name:])


def test_of_many_classes_eight_are_shown(tmp_path: Path) -> None:
    made = [(f"{number}.jpg", number, [], encode_jpeg(np.zeros((9, 9, 3), np.uint8))) for number in range(20)]
    names = [f"a class with a name that is much too long for the picture, number {number}" for number in range(20)]
    sheet = contact_sheet(
        write_dataset(str(tmp_path / "d"), made, classes=names), SheetConfig(image_size=8), AugmentConfig()
    )
    assert sheet.shape[0] == TEXT + 8 * (8 + TEXT + GAP)


def test_letters_that_no_font_here_has_are_written_as_numbers() -> None:
    assert drawable("café: 1.jpg")[0] == "café: 1.jpg"
    assert drawable("café: \U0003fff0.jpg")[0] == "café: \\U0003fff0.jpg"


@pytest.mark.parametrize(("name", "other"), [("海岸", "海洋"), ("пляж", "пляс"), ("𒀀", "𒀁")])
def test_two_names_look_different_whatever_fonts_there_are(name: str, other: str, tmp_path: Path) -> None:
    made = [("1.jpg", 0, [], encode_jpeg(np.zeros((9, 9, 3), np.uint8)))]
    sheets = [
        contact_sheet(write_dataset(str(tmp_path / one), made, classes=(one,)), SheetConfig(), AugmentConfig())
        for one in (name, other)
    ]
    assert not np.array_equal(*sheets)


def test_a_dataset_without_images_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no image to show"):
        contact_sheet(write_dataset(str(tmp_path / "d"), [], classes=("a",)), SheetConfig(), AugmentConfig())


@pytest.mark.parametrize("image_size", [4, 2000])
def test_a_size_that_is_none_is_refused(image_size: int) -> None:
    with pytest.raises(ConfigError, match=f"image_size must be 8 to 1024 pixels, got {image_size}; use"):
        SheetConfig(image_size=image_size)


@pytest.mark.parametrize(("image_size", "is_told"), [(24, False), (32, True)])
def test_a_size_above_that_of_the_stored_images_is_told(
    image_size: int, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.jpg").write_bytes(encode_jpeg(np.zeros((40, 60, 3), np.uint8)))
    made = ingest(str(tmp_path / "photos"), str(tmp_path / "dataset"), IngestConfig(short_side=24), here)
    sheet = SheetConfig(image_size=image_size)
    write_contact_sheet(Dataset.open(made.dataset), str(tmp_path / "out.png"), sheet, AugmentConfig())
    told = "--image-size 32 is above the short side at which images are stored, 24: they are enlarged"
    assert (told in caplog.text) == is_told
