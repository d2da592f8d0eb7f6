"""Finding images: every one once, in an order that stays; and reading one, with what can be said when that fails."""

import os
from pathlib import Path

import pytest

from sunspark.data.image_files import failures_named, find_images, read_image
from sunspark.data.image_format import DecodeError
from sunspark.errors import ConfigError, SourceError, StorageError, WorkerError
from tests.deep_folder import deep_folder

FILES = ("b/2.JPG", "b/deeper/still/1.png", "a.jpg", "b/notes.txt", "b/.hidden.jpg", ".thumbs/1.jpg", "__MACOSX/1.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(FILES):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x" * number)
    return tmp_path / "images"


def found(*places: object) -> list[str]:
    return [image.path for image in find_images([str(place) for place in places])]


def test_a_folder_is_searched_to_its_depth_by_name(folder: Path) -> None:
    assert found(folder) == [f"{folder}/{name}" for name in ("a.jpg", "b/2.JPG", "b/deeper/still/1.png")]
    assert found(f"{folder}/") == found(folder)


def test_a_path_stays_as_it_was_given_and_the_uri_means_the_same_everywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = list(find_images(["b", "a.jpg", f"file://{folder}/b/deeper"]))
    assert [image.path for image in images] == [
        "b/2.JPG",
        "b/deeper/still/1.png",
        "a.jpg",
        f"file://{folder}/b/deeper/still/1.png",
    ]
    assert [image.uri for image in images[:3]] == [f"{folder}/{image.path}" for image in images[:3]]
    assert [image.size_bytes for image in images] == [0, 1, 2, 1]


def test_a_file_that_is_named_needs_no_suffix(folder: Path) -> None:
    assert found(folder / "b" / "notes.txt") == [f"{folder}/b/notes.txt"]


def test_links_in_a_circle_are_not_followed(folder: Path) -> None:
    (folder / "b" / "up").symlink_to(folder)
    (folder / "c").symlink_to(folder / "b")
    assert found(folder) == [f"{folder}/{name}" for name in ("a.jpg", "b/2.JPG", "b/deeper/still/1.png")]


def test_a_folder_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    with deep_folder(tmp_path) as path:
        assert found(tmp_path) == [f"{tmp_path}/{path}"]


def test_what_is_not_decoded_is_found_if_it_is_named_like_an_image(tmp_path: Path) -> None:
    for name in ("1.heic", "2.HEIF", "3.avif", "4.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert found(tmp_path) == [f"{tmp_path}/{name}" for name in ("1.heic", "2.HEIF", "3.avif")]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nothing/here.jpg", r"there is nothing at .*nothing/here\.jpg; check the path"),
        ("empty", r"empty holds no images: no file in it ends in \.jpg, "),
        ("pipe.jpg", r"pipe\.jpg is no file \(a pipe"),
    ],
)
def test_a_wrong_place_is_told_before_the_first_image(folder: Path, place: str, message: str) -> None:
    (folder / "empty" / "below").mkdir(parents=True)
    os.mkfifo(folder / "pipe.jpg")
    with pytest.raises(SourceError, match=message):
        find_images([str(folder / "a.jpg"), str(folder / place)])


def test_no_place_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no image is named; give image files"):
        find_images([])


def test_a_file_that_is_gone_is_the_images_fault_and_trouble_with_storage_is_not(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="there is no such file") as caught:
        read_image(str(tmp_path / "gone.jpg"))
    assert caught.value.stage == "read"
    with pytest.raises(StorageError):
        read_image(str(tmp_path))


def test_what_nobody_expected_of_an_image_names_it() -> None:
    words = r"^a/odd\.png cannot be decoded: unexpected ValueError: too odd; take it out$"
    with pytest.raises(WorkerError, match=words), failures_named("a/odd.png"):
        raise ValueError("too odd\nand more")
    with pytest.raises(DecodeError, match=r"^size: too large$"), failures_named("a/odd.png"):
        raise DecodeError("size", "too large")
