"""Leaks: equal images are found by what is stored of them, across the splits that belong together by their names."""

from pathlib import Path

import numpy as np
import pytest

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.leaks import find_leaks, pairs_of, without_leaks
from sunspark.data.writer import write_dataset

SPLITS = ("train", "test", "odd")


def image(number: int) -> bytes:
    return encode_jpeg(np.full((16, 24, 3), 10 * number, np.uint8))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Twin images in train and test, in train alone, in test and in no split, in train and odd; one that is in both."""
    made = [
        ("a/1.jpg", 0, ["train"], image(1)),
        ("b/1 again.jpg", 1, ["test"], image(1)),
        ("a/2.jpg", 0, ["train"], image(2)),
        ("a/2 again.jpg", 0, ["train"], image(2)),
        ("a/3.jpg", 0, ["test"], image(3)),
        ("a/3 again.jpg", 0, [], image(3)),
        ("a/4.jpg", 0, ["train"], image(4)),
        ("a/4 again.jpg", 0, ["odd"], image(4)),
        ("a/5.jpg", 0, ["train", "test"], image(5)),
        ("a/6.jpg", 0, ["train", "odd"], image(6)),
        ("a/6 again.jpg", 0, ["test"], image(6)),
    ]
    return write_dataset(str(tmp_path / "dataset"), made, classes=("a", "b"), split_names=SPLITS, block_size=4)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("train", "test"), [("train", "test")]),
        (("train", "val", "test"), [("train", "val"), ("train", "test")]),
        (("Training_01", "Testing_01", "Testing_02"), [("Training_01", "Testing_01")]),
        (("Train_bal", "Test_bal", "Testing_01"), [("Train_bal", "Test_bal")]),
        (("train", "validation", "dev"), [("train", "validation"), ("train", "dev")]),
        (("train_a", "test_b"), []),
        (("mine", "yours"), []),
        ((), []),
    ],
)
def test_splits_belong_together_by_their_names(names: tuple[str, ...], pairs: list[tuple[str, str]]) -> None:
    assert pairs_of(names) == pairs


def test_equal_images_across_train_and_test_are_found(dataset: Dataset) -> None:
    (leak,) = find_leaks(dataset.index, dataset.split_names)
    assert (leak.train, leak.test, leak.images) == ("train", "test", 3)
    assert set(leak.examples) == {
        ("a/1.jpg", "b/1 again.jpg"),
        ("a/5.jpg", "a/5.jpg"),
        ("a/6.jpg", "a/6 again.jpg"),
    }


def test_of_many_leaks_some_are_named(tmp_path: Path) -> None:
    made = [(f"{split}/{number}.jpg", 0, [split], image(number)) for split in ("train", "test") for number in range(9)]
    index = write_dataset(str(tmp_path / "d"), made, classes=("a",)).index
    (leak,) = find_leaks(index, ("train", "test"))
    assert (leak.images, len(leak.examples)) == (9, 5)
    assert all(Path(one).name == Path(other).name for one, other in leak.examples)


def test_dropping_takes_them_out_of_train_and_nothing_else(dataset: Dataset) -> None:
    index, dropped = without_leaks(dataset.index, dataset.split_names)
    assert dropped == 3
    assert find_leaks(index, dataset.split_names) == ()
    before, after = (table.column("splits").to_pylist() for table in (dataset.index, index))
    paths = dataset.index.column("path").to_pylist()
    changed = {path: (a, b) for path, a, b in zip(paths, before, after, strict=True) if a != b}
    assert changed == {"a/1.jpg": (0b001, 0), "a/5.jpg": (0b011, 0b010), "a/6.jpg": (0b101, 0b100)}
    assert index.schema == dataset.index.schema
    assert index.drop_columns("splits") == dataset.index.drop_columns("splits")


def test_an_evaluation_counts_copies_of_trained_images(dataset: Dataset) -> None:
    assert dataset.num_shared("test", "train") == 3
    assert dataset.num_shared("odd", "train") == 2
    assert dataset.num_shared("odd", "test") == 1


def test_a_set_without_leaks_has_none(tmp_path: Path) -> None:
    made = [(f"{number}.jpg", 0, ["test" if number % 3 else "train"], image(number)) for number in range(12)]
    index = write_dataset(str(tmp_path / "d"), made, classes=("a",)).index
    assert find_leaks(index, ("train", "test")) == ()
    assert without_leaks(index, ("train", "test")) == (index, 0)
