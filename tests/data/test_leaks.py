"""Leaks: equal images are found by what is stored of them, across the splits that belong together by their names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.leak_table import ConflictingImage, LeakedImage, leak_table
from sunspark.data.leaks import (
    LabelConflicts,
    Leak,
    contents_of,
    find_label_conflicts,
    find_leaks,
    leaks_in_words,
    pairs_of,
    training_splits,
    unpaired_splits,
    without_leaks,
)
from sunspark.data.writer import write_dataset

SPLITS = ("train", "test", "odd")


def leaks_in(index: pa.Table, split_names: Sequence[str]) -> tuple[Leak, ...]:
    return find_leaks(index, contents_of(index), split_names)


def conflicts_in(index: pa.Table) -> LabelConflicts:
    return find_label_conflicts(index, contents_of(index))


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
        (("Training_01", "Testing_02"), [("Training_01", "Testing_02")]),
        (("Training_01", "Training_02", "Testing_02", "odd"), [("Training_02", "Testing_02")]),
        (("train", "holdout", "eval"), [("train", "holdout"), ("train", "eval")]),
        (("train_a", "train_b", "holdout"), []),
        (("my_train", "my_test"), []),
        (("fit", "test"), []),
        (("train",), []),
        (("mine", "yours"), []),
        ((), []),
    ],
)
def test_splits_belong_together_by_their_names(names: tuple[str, ...], pairs: list[tuple[str, str]]) -> None:
    assert pairs_of(names) == pairs


@pytest.mark.parametrize(
    ("names", "unpaired"),
    [
        (("train", "test", "holdout"), ("holdout",)),
        (("train", "holdout"), ()),
        (("Training_01", "Testing_01", "Training_02"), ("Training_02",)),
        (("fit", "test"), ("fit", "test")),
        ((), ()),
    ],
)
def test_splits_in_which_nobody_looks_are_named(names: tuple[str, ...], unpaired: tuple[str, ...]) -> None:
    assert unpaired_splits(names) == unpaired


def test_what_was_not_looked_for_is_not_called_none() -> None:
    assert leaks_in_words([], (), ("train", "test")) == "none"
    assert leaks_in_words(["train & test: 3"], ("odd",), ("train", "test", "odd")) == (
        "train & test: 3; not looked for in odd: by name in no pair of a training split and its test"
    )
    assert leaks_in_words([], ("fit", "test"), ("fit", "test")) == (
        "not looked for: no two splits are a training split and its test by their names"
    )


def test_equal_images_across_train_and_test_are_found(dataset: Dataset) -> None:
    (leak,) = leaks_in(dataset.read_index(), dataset.split_names)
    assert (leak.train, leak.test, leak.images) == ("train", "test", 3)
    assert set(leak.examples) == {
        ("a/1.jpg", "b/1 again.jpg"),
        ("a/5.jpg", "a/5.jpg"),
        ("a/6.jpg", "a/6 again.jpg"),
    }


def test_of_many_leaks_some_are_named(tmp_path: Path) -> None:
    made = [(f"{split}/{number}.jpg", 0, [split], image(number)) for split in ("train", "test") for number in range(9)]
    index = write_dataset(str(tmp_path / "d"), made, classes=("a",)).read_index()
    (leak,) = leaks_in(index, ("train", "test"))
    assert (leak.images, len(leak.examples)) == (9, 5)
    assert all(Path(one).name == Path(other).name for one, other in leak.examples)


def test_dropping_takes_them_out_of_train_and_nothing_else(dataset: Dataset) -> None:
    index, dropped = without_leaks(dataset.read_index(), dataset.split_names)
    assert dropped == 3
    assert leaks_in(index, dataset.split_names) == ()
    before, after = (table.column("splits").to_pylist() for table in (dataset.read_index(), index))
    paths = dataset.paths.to_pylist()
    changed = {path: (a, b) for path, a, b in zip(paths, before, after, strict=True) if a != b}
    assert changed == {"a/1.jpg": (0b001, 0), "a/5.jpg": (0b011, 0b010), "a/6.jpg": (0b101, 0b100)}
    assert index.schema == dataset.read_index().schema
    assert index.drop_columns("splits") == dataset.read_index().drop_columns("splits")


def test_beside_one_training_split_alone_all_others_are_its_tests_when_dropping_too(tmp_path: Path) -> None:
    splits = ("train", "holdout")
    made = [("1.jpg", 0, splits, image(1)), ("2.jpg", 0, splits[:1], image(1)), ("3.jpg", 0, splits[:1], image(2))]
    index = write_dataset(str(tmp_path / "d"), made, classes=("a",), split_names=splits).read_index()
    (leak,) = leaks_in(index, splits)
    assert (leak.train, leak.test, leak.images) == ("train", "holdout", 2)
    without, dropped = without_leaks(index, splits)
    assert (dropped, leaks_in(without, splits)) == (2, ())


def test_an_evaluation_counts_copies_of_trained_images(dataset: Dataset) -> None:
    assert dataset.num_shared("test", "train") == 3
    assert dataset.num_shared("odd", "train") == 2
    assert dataset.num_shared("odd", "test") == 1


def test_a_set_without_leaks_has_none(tmp_path: Path) -> None:
    made = [(f"{number}.jpg", 0, ["test" if number % 3 else "train"], image(number)) for number in range(12)]
    index = write_dataset(str(tmp_path / "d"), made, classes=("a",)).read_index()
    assert leaks_in(index, ("train", "test")) == ()
    assert without_leaks(index, ("train", "test")) == (index, 0)


def test_the_table_holds_every_leak_with_paths_splits_and_classes(dataset: Dataset) -> None:
    table = leak_table(dataset)
    assert (table.dataset, table.leaked, table.conflicting) == (dataset.uri, 3, 2)
    assert table.leaks == tuple(
        LeakedImage(train="train", test="test", path=path, class_name="a", copy=copy, copy_class=copy_class)
        for path, copy, copy_class in (
            ("a/1.jpg", "b/1 again.jpg", "b"),
            ("a/5.jpg", "a/5.jpg", "a"),
            ("a/6.jpg", "a/6 again.jpg", "a"),
        )
    )
    assert table.label_conflicts == (
        ConflictingImage(path="a/1.jpg", class_name="a", copy="b/1 again.jpg", copy_class="b"),
        ConflictingImage(path="b/1 again.jpg", class_name="b", copy="a/1.jpg", copy_class="a"),
    )


def test_an_image_of_which_many_are_leaked_counts_once_for_each_pair_of_splits(tmp_path: Path) -> None:
    splits = ("Training_01", "Testing_01", "Training_02", "Testing_02")
    made = [("a.jpg", 0, splits, image(1)), ("b.jpg", 0, splits[:1], image(1)), ("c.jpg", 0, splits[3:], image(2))]
    table = leak_table(write_dataset(str(tmp_path / "d"), made, classes=("a",), split_names=splits))
    assert [(one.train, one.path, one.copy) for one in table.leaks] == [
        ("Training_01", "a.jpg", "a.jpg"),
        ("Training_01", "b.jpg", "a.jpg"),
        ("Training_02", "a.jpg", "a.jpg"),
    ]


def test_every_image_that_has_a_copy_under_another_class_is_counted(tmp_path: Path) -> None:
    """By brute force, on images of which many are equal, in three classes; what is in no split does not count."""
    rng = np.random.default_rng(0)
    splits = [[], *[["train"]] * 4] * 12
    made = [(f"{n}.jpg", int(rng.integers(3)), splits[n], image(int(rng.integers(20)))) for n in range(60)]
    dataset = write_dataset(str(tmp_path / "d"), made, classes=("a", "b", "c"))
    about = {path: (label, body) for path, label, used, body in made if used}
    wanted = {
        path
        for path, (label, body) in about.items()
        if any(other == body and another != label for another, other in about.values())
    }
    assert 0 < len(wanted) < len(made)
    table, found = leak_table(dataset), conflicts_in(dataset.read_index())
    assert found.images == table.conflicting == len(wanted)
    assert [one.path for one in table.label_conflicts] == sorted(wanted)
    for one in table.label_conflicts:
        assert about[one.path][1] == about[one.copy][1]
        assert dataset.classes[about[one.copy][0]] == one.copy_class != one.class_name
    assert len(found.examples) == 5
    assert set(found.examples) <= {(one.path, one.copy) for one in table.label_conflicts}


def test_copies_under_one_class_are_no_conflict(tmp_path: Path) -> None:
    made = [(f"{number}.jpg", number // 4, [], image(number // 2)) for number in range(8)]
    for samples in (made, []):
        dataset = write_dataset(str(tmp_path / str(len(samples))), samples, classes=("a", "b"))
        assert conflicts_in(dataset.read_index()).images == 0
        assert leak_table(dataset).label_conflicts == ()


def test_what_is_trained_on_is_told_by_the_name() -> None:
    assert training_splits(("Training_01", "test", "train", "strain", "Testing_01")) == ["Training_01", "train"]
