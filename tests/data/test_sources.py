"""Laws of sources: labels and splits come from names alone; a mistake in a source is told, not guessed."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from sunspark.data.sources import Listing, list_source
from sunspark.data.sources.lists import parse_class_list, parse_path_list
from sunspark.data.sources.splits import stratified_splits
from sunspark.errors import ConfigError, SourceError
from tests.images import sun397_partitions, sun_open


def touch(folder: Path, *paths: str) -> Path:
    """Files that are no images inside: listing must not open them."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"not an image: " + path.encode())
    return folder


def labels(listing: Listing) -> dict[str, str]:
    return {image.path: listing.classes[image.label] for image in listing.images}


def in_split(listing: Listing, split: str) -> set[str]:
    bit = 1 << listing.split_names.index(split)
    return {image.path for image in listing.images if image.splits & bit}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    names = [f"{name}/{number:02d}.jpg" for name in ("city", "coast", "forest") for number in range(10)]
    return touch(tmp_path / "folders", *names)


@pytest.fixture
def sun(tmp_path: Path) -> Path:
    """SUN397's layout, small: label order differs from the order of the names, leaf names repeat."""
    source = touch(
        tmp_path / "sun",
        *(f"c/church/outdoor/sun_{number}.jpg" for number in range(3)),
        *(f"a/abbey/sun_{number}.jpg" for number in range(3)),
        *(f"b/bakery/outdoor/sun_{number}.JPG" for number in range(3)),
        "MANIFEST.csv",
        "Train_bal.txt",
        "a/abbey/Thumbs.db",
    )
    (source / "ClassName.txt").write_bytes(b"/c/church/outdoor\r\n/a/abbey\r\n/b/bakery/outdoor\r\n\r\n")
    return source


def test_a_folder_of_class_folders(folders: Path) -> None:
    touch(
        folders,
        "coast/deeper/still/one.PNG",
        "coast/notes.txt",
        ".git/config.jpg",
        "city/.hidden.jpg",
        "README.md",
    )
    listing = list_source(str(folders))
    assert listing.classes == ("city", "coast", "forest")
    assert listing.split_names == ("train", "test")
    assert len(listing.images) == 31
    assert labels(listing)["coast/deeper/still/one.PNG"] == "coast"
    assert all(label == path.split("/")[0] for path, label in labels(listing).items())
    assert [image.path for image in listing.images] == sorted(image.path for image in listing.images)
    assert all(image.size_bytes == len(b"not an image: " + image.path.encode()) for image in listing.images)


def test_the_split_is_stratified_and_depends_on_the_seed_alone(folders: Path, tmp_path: Path) -> None:
    listing = list_source(str(folders), test_fraction=0.3)
    train, test = in_split(listing, "train"), in_split(listing, "test")
    assert not train & test
    assert len(train | test) == len(listing.images)
    assert Counter(path.split("/")[0] for path in test) == {"city": 3, "coast": 3, "forest": 3}
    folders.rename(tmp_path / "elsewhere")
    again = list_source(str(tmp_path / "elsewhere"), test_fraction=0.3)
    assert in_split(again, "test") == test
    assert again.fingerprint == listing.fingerprint
    other = list_source(str(tmp_path / "elsewhere"), test_fraction=0.3, seed=1)
    assert in_split(other, "test") != test
    assert other.fingerprint != listing.fingerprint


@pytest.mark.parametrize(
    ("num_images", "test_fraction", "num_test"),
    [
        (10, 0.2, 2),
        (10, 0.0, 0),
        (10, 0.99, 9),
        (10, 0.01, 1),
        (2, 0.2, 1),
        (1, 0.9, 0),
        (3, 0.5, 2),
        (7, 0.2, 1),
    ],
)
def test_each_class_of_two_images_has_one_on_each_side(num_images: int, test_fraction: float, num_test: int) -> None:
    splits = stratified_splits({f"a/{number}": 0 for number in range(num_images)}, test_fraction, 0)
    assert Counter(splits.values())[2] == num_test
    assert len(splits) == num_images


@pytest.mark.parametrize("test_fraction", [-0.1, 1.0, 1.5])
def test_a_fraction_that_is_none_is_refused(folders: Path, test_fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"at least 0 and below 1, got {test_fraction}"):
        list_source(str(folders), test_fraction=test_fraction)


def test_without_a_test_fraction_there_is_no_test_split(folders: Path) -> None:
    assert list_source(str(folders), test_fraction=0).split_names == ("train",)


def test_sun397_labels_follow_the_class_list_and_names_are_whole_paths(sun: Path) -> None:
    listing = list_source(str(sun))
    assert listing.classes == ("church/outdoor", "abbey", "bakery/outdoor")
    assert len(listing.images) == 9
    assert labels(listing)["a/abbey/sun_0.jpg"] == "abbey"
    assert labels(listing)["b/bakery/outdoor/sun_2.JPG"] == "bakery/outdoor"
    assert listing.split_names == ("train", "test")
    assert listing.test_fraction == 0.2


def test_partition_lists_beside_the_class_list_are_splits(sun: Path) -> None:
    (sun / "Training_01.txt").write_text("/a/abbey/sun_0.jpg\n/c/church/outdoor/sun_1.jpg\n")
    (sun / "Testing_01.txt").write_bytes(b"/a/abbey/sun_1.jpg\r\n")
    (sun / "Training_02.txt").write_text("a/abbey/sun_1.jpg\n./a/abbey/sun_0.jpg")
    listing = list_source(str(sun))
    assert listing.split_names == ("Training_01", "Testing_01", "Training_02")
    assert in_split(listing, "Training_01") == {"a/abbey/sun_0.jpg", "c/church/outdoor/sun_1.jpg"}
    assert in_split(listing, "Testing_01") == {"a/abbey/sun_1.jpg"}
    assert in_split(listing, "Training_02") == {"a/abbey/sun_0.jpg", "a/abbey/sun_1.jpg"}
    assert sum(image.splits == 0 for image in listing.images) == 6
    assert listing.test_fraction is None


def test_named_lists_work_for_both_layouts_and_repeat(sun: Path, folders: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("/city/00.jpg\n/coast/01.jpg\n")
    two.write_text("city/00.jpg\n")
    listing = list_source(str(folders), split_lists=(f"mine={one}", f"yours={two}"))
    assert listing.split_names == ("mine", "yours")
    assert in_split(listing, "mine") == {"city/00.jpg", "coast/01.jpg"}
    assert in_split(listing, "yours") == {"city/00.jpg"}
    (sun / "Training_01.txt").write_text("/a/abbey/sun_0.jpg\n")
    two.write_text("a/abbey/sun_2.jpg\n")
    assert list_source(str(sun), split_lists=(f"two={two}",)).split_names == ("Training_01", "two")


def test_images_that_lists_leave_out_are_told(
    folders: Path, sun: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "te.txt").write_text("city/00.jpg\n")
    (tmp_path / "tr.txt").write_text("city/01.jpg\ncoast/00.jpg\n")
    list_source(str(folders), split_lists=(f"test={tmp_path}/te.txt",))
    assert re.search(r"29 images of .* are in no split, for instance city/01\.jpg; list those to train", caplog.text)
    caplog.clear()
    list_source(str(folders), split_lists=(f"test={tmp_path}/te.txt", f"train={tmp_path}/tr.txt"))
    assert re.search(r"27 images of .* are in no split, for instance city/02\.jpg\n", caplog.text)
    caplog.clear()
    (sun / "Training_01.txt").write_text("/a/abbey/sun_0.jpg\n")
    list_source(str(sun))
    assert "in no split" not in caplog.text


def test_lists_are_read_whatever_their_encoding_and_line_ends() -> None:
    assert parse_path_list("/a/caf\xe9.jpg\r\n\r\n  b/x.jpg \r".encode("latin-1")) == [
        "a/café.jpg",
        "b/x.jpg",
    ]
    assert parse_path_list("\ufeff/a/café.jpg\n./b/x.jpg".encode()) == ["a/café.jpg", "b/x.jpg"]
    assert parse_path_list(b"\n \n/\n") == []


def test_a_list_that_names_missing_files_says_which_and_how_many(folders: Path, tmp_path: Path) -> None:
    split_list = tmp_path / "list.txt"
    split_list.write_text("".join(f"/coast/missing_{number}.jpg\n" for number in range(7)) + "/coast/00.jpg\n")
    with pytest.raises(SourceError) as caught:
        list_source(str(folders), split_lists=(f"train={split_list}",))
    message = str(caught.value)
    assert "7 of the 8 files in the split list" in message
    assert ": /coast/missing_0.jpg (line 1), /coast/missing_1.jpg (line 2)" in message
    assert "coast/missing_4.jpg (line 5) and 2 more" in message
    assert "missing_5" not in message
    assert str(split_list) in message
    assert "take these lines out of the list" in message


def test_mistakes_in_split_lists_are_told(folders: Path, sun: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    good = tmp_path / "good.txt"
    good.write_text("city/00.jpg\n")
    for entries, error, match in (
        ((f"train={empty}",), SourceError, "is empty; it needs one path a line"),
        ((f"train={tmp_path}/none.txt",), SourceError, r"none\.txt does not exist; check its path"),
        ((str(good),), ConfigError, "given as NAME=FILE, got"),
        ((f"../up={good}",), ConfigError, r"a split cannot be named '\.\./up': .*; give it another name"),
        (("train=",), ConfigError, "given as NAME=FILE, got 'train='"),
        ((f"a={good}", f"a={good}"), ConfigError, "two lists for the split 'a'"),
    ):
        with pytest.raises(error, match=match):
            list_source(str(folders), split_lists=entries)
    with pytest.raises(ConfigError, match=r"test_fraction 0\.2 has no effect: the splits come from lists \(a\)"):
        list_source(str(folders), split_lists=(f"a={good}",), test_fraction=0.2)
    (sun / "Training_01.txt").write_text("/a/abbey/sun_0.jpg\n")
    with pytest.raises(ConfigError, match="two lists for the split 'Training_01'"):
        list_source(str(sun), split_lists=(f"Training_01={good}",))


def test_sources_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "texts", "a/readme.txt", "b/readme.txt")
    for name, match in (
        ("missing", "missing does not exist; give the folder that holds the images"),
        ("empty", r"holds no images \(0 other files\); it needs one folder per class"),
        ("texts", r"holds no images \(2 other files\)"),
    ):
        with pytest.raises(SourceError, match=match):
            list_source(str(tmp_path / name))
    touch(tmp_path, "images.tar", "images.rar")
    with pytest.raises(SourceError, match=r"images\.tar is no archive: it begins with 'not an i'; get it again, or"):
        list_source(str(tmp_path / "images.tar"))
    with pytest.raises(SourceError, match=r"is a file of no known kind; give a folder, a \.tar, \.tar\.gz"):
        list_source(str(tmp_path / "images.rar"))


def test_classes_without_images_are_refused(folders: Path, sun: Path) -> None:
    (folders / "desert").mkdir()
    touch(folders, "field/notes.txt")
    with pytest.raises(SourceError, match=r"2 of the 5 classes of .* have no images \(desert, field\); add images"):
        list_source(str(folders))
    with (sun / "ClassName.txt").open("a") as file:
        file.write("/z/zoo\n")
    with pytest.raises(SourceError, match=r"1 of the 4 classes of .* have no images \(zoo\)"):
        list_source(str(sun))


def test_images_of_no_class_are_refused(folders: Path, sun: Path) -> None:
    touch(folders, "loose.jpg")
    with pytest.raises(SourceError, match=r"1 image outside of any class folder \(loose\.jpg\)"):
        list_source(str(folders))
    touch(sun, "z/zoo/sun_0.jpg", "loose.jpg")
    with pytest.raises(SourceError, match=r"2 images lie in no class that ClassName\.txt of .* names"):
        list_source(str(sun))


def test_sun397_without_its_class_list_is_recognised(sun: Path) -> None:
    """Taken as class folders it would have the classes a, b and c."""
    (sun / "ClassName.txt").unlink()
    with pytest.raises(SourceError, match=r"looks like SUN397 \(folders a, b, c\) but has no ClassName\.txt"):
        list_source(str(sun))


def test_mistakes_in_the_class_list_are_told() -> None:
    with pytest.raises(SourceError, match="names the class 'abbey' twice"):
        parse_class_list(b"/a/abbey\n/a/abbey\n")
    with pytest.raises(SourceError, match="names the class 'abbey' twice"):
        parse_class_list(b"/a/abbey\n/b/bar\nabbey\n")
    with pytest.raises(SourceError, match="names no class"):
        parse_class_list(b"\n")


@pytest.mark.laws
def test_the_whole_of_sun397s_lists_is_understood(tmp_path: Path) -> None:
    """All ten partitions: 397 classes in order, 19,850 images in each half of each, 50 of every class."""
    lists = sun397_partitions()
    classes = parse_class_list((lists / "ClassName.txt").read_bytes())
    assert len(classes) == 397
    assert next(iter(classes.items())) == ("a/abbey", "abbey")
    assert classes["b/bow_window/indoor"] == "bow_window/indoor"
    assert len(set(classes.values())) == 397
    source = tmp_path / "SUN397"
    source.mkdir()
    paths: set[str] = set()
    for name in sorted(path.name for path in lists.iterdir()):
        body = (lists / name).read_bytes()
        (source / name).write_bytes(body)
        paths |= set() if name == "ClassName.txt" else set(parse_path_list(body))
    for directory in {path.rpartition("/")[0] for path in paths}:
        (source / directory).mkdir(parents=True)
    for path in paths:
        (source / path).touch()
    listing = list_source(str(source))
    assert listing.classes == tuple(classes.values())
    assert listing.split_names == tuple(
        f"{half}_{number:02d}" for number in range(1, 11) for half in ("Training", "Testing")
    )
    assert len(listing.images) == len(paths)
    for number, split in enumerate(listing.split_names):
        of_class = Counter(image.label for image in listing.images if image.splits >> number & 1)
        assert of_class == dict.fromkeys(range(397), 50), split
    for number in range(0, 20, 2):
        assert not any(image.splits >> number & 3 == 3 for image in listing.images)


def test_sun_open_is_listed_in_full() -> None:
    source = sun_open()
    listing = list_source(str(source), split_lists=(f"Test_bal={source}/Test_bal.txt",))
    assert len(listing.images) == 3003
    assert list(listing.classes) == [line[3:] for line in (source / "ClassName.txt").read_text().split()]
    assert len(listing.split_names) == 21
    of_class = Counter(image.label for image in listing.images if image.splits >> 20)
    assert of_class == dict.fromkeys(range(15), 50)


def test_official_lists_beside_a_part_of_the_images_say_what_is_missing(tmp_path: Path) -> None:
    source = tmp_path / "part"
    source.mkdir()
    for path in sun_open().iterdir():
        (source / path.name).symlink_to(path)
    official = sun397_partitions() / "Training_01.txt"
    (source / "Training_01.txt").unlink()
    (source / "Training_01.txt").write_bytes(official.read_bytes())
    with pytest.raises(SourceError, match=r"of the 19,850 files in the split list .*a/abbey/sun_.* and 19,\d\d\d more"):
        list_source(str(source))


def test_what_is_no_file_is_not_listed(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(folders / "coast" / "pipe.jpg")
    assert len(list_source(str(folders)).images) == 30
    assert "left out, because no files (pipes, sockets, devices): coast/pipe.jpg" in caplog.text


def test_a_link_to_what_is_listed_already_is_not_followed(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = list_source(str(folders))
    for name, target in {"coast/loop": "coast", "coast/up": ".", "city/above": ".."}.items():
        (folders / name).symlink_to(folders / target)
    assert list_source(str(folders)) == plain
    assert caplog.text.count("it is not followed") == 3
    (folders / "a").symlink_to(folders / "forest")
    with pytest.raises(SourceError, match=r"1 of the 4 classes .* have no images \(a\)"):
        list_source(str(folders))


def test_a_link_to_a_folder_elsewhere_is_followed(folders: Path, tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "1.jpg", "deeper/2.jpg")
    (folders / "desert").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folders)
    listing = list_source(str(folders))
    assert {path for path, name in labels(listing).items() if name == "desert"} == {
        "desert/1.jpg",
        "desert/deeper/2.jpg",
    }
    assert len(listing.images) == 32


def test_folders_of_splits_with_classes_in_them_are_splits(tmp_path: Path) -> None:
    for name in ("train/coast/1.jpg", "train/forest/old/2.jpg", "Val/coast/3.jpg", "test/forest/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"an image")
    listing = list_source(str(tmp_path))
    assert (listing.classes, listing.split_names) == (("coast", "forest"), ("train", "validation", "test"))
    told = {image.path: (image.label, image.splits) for image in listing.images}
    assert told == {
        "train/coast/1.jpg": (0, 1), "train/forest/old/2.jpg": (1, 1), "Val/coast/3.jpg": (0, 2),
        "test/forest/4.jpg": (1, 4),
    }  # fmt: skip


@pytest.mark.parametrize("other", ["bus/1.jpg", "train/1.jpg", "ferry/harbour/1.jpg"])
def test_folders_that_are_named_like_splits_are_classes_where_others_are_beside_them(
    other: str, tmp_path: Path
) -> None:
    for name in ("train/steam/1.jpg", "test/rig/1.jpg", other):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"an image")
    assert set(list_source(str(tmp_path)).classes) == {"train", "test", other.partition("/")[0]}
