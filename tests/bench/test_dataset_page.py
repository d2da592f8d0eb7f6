"""The page of a dataset: says what is in it and what is not, needs nothing but its file, believes no name."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sunspark.bench.dataset_page import PageResult, _name_of, write_dataset_page
from sunspark.bench.dataset_samples import MOST_BLOCKS, rows_by_class, thumbnails
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Block, Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.writer import order_key, write_dataset
from sunspark.launch.ingest import ingest
from tests.bench.page import Page
from tests.data.engine import here

pytestmark = pytest.mark.timeout(60)
EVIL = "<script>alert(1)&\"'.jpg"


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (30 + number, 40, 3), np.uint8)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two classes of 6 and 9 images, three bad ones, one image in train and in test."""
    for number in range(12):
        path = tmp_path / "photos" / ("coast" if number < 4 else "forest") / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    coast = tmp_path / "photos" / "coast"
    for name, suffix in (("PNG", "png"), ("BMP", "bmp")):
        Image.fromarray(picture(99)).save(coast / f"twin.{suffix}", name)
    for name, body in {"empty.jpg": b"", "nothing.jpg": b"", EVIL: b"<html>"}.items():
        (coast / name).write_bytes(body)
    (tmp_path / "train.txt").write_text("coast/twin.png\ncoast/00.jpg\nforest/05.jpg")
    (tmp_path / "test.txt").write_text("coast/twin.bmp\nforest/06.jpg")
    lists = tuple(f"{name}={tmp_path}/{name}.txt" for name in ("train", "test"))
    config = IngestConfig(short_side=24, block_size=8, split_list=lists, max_bad_fraction=1)
    ingest(str(tmp_path / "photos"), str(tmp_path / "dataset"), config, here)
    return Dataset.open(str(tmp_path / "dataset"))


def page_of(dataset: Dataset, folder: Path) -> tuple[Page, str]:
    out = folder / "page.html"
    result = write_dataset_page(dataset, str(out))
    assert result == PageResult(dataset=dataset.uri, path=str(out), size_bytes=out.stat().st_size)
    page = Page(out.read_text())
    assert page.open == []
    return page, out.read_text()


def test_of_many_leaks_it_says_how_many_it_shows(tmp_path: Path) -> None:
    bodies = [encode_jpeg(picture(number)) for number in range(7)]
    made = [(f"{split}/{n}.jpg", 0, [split], body) for split in ("train", "test") for n, body in enumerate(bodies)]
    dataset = write_dataset(str(tmp_path / "dataset"), made, classes=("a",), split_names=("train", "test"))
    page, _ = page_of(dataset, tmp_path)
    assert "In train and in test: 7 images, 5 of them here" in page.text


@pytest.mark.parametrize(("copy_folder", "is_told"), [("forest", True), ("coast", False)])
def test_what_was_taken_out_of_training_under_another_class_is_told(
    copy_folder: str, is_told: bool, tmp_path: Path
) -> None:
    for path, number in (("coast/1.jpg", 1), ("forest/2.jpg", 2), ("coast/3.jpg", 3), (f"{copy_folder}/copy.jpg", 1)):
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / path).write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "train.txt").write_text("coast/1.jpg\nforest/2.jpg\ncoast/3.jpg")
    (tmp_path / "test.txt").write_text(f"{copy_folder}/copy.jpg")
    lists = tuple(f"{name}={tmp_path}/{name}.txt" for name in ("train", "test"))
    config = IngestConfig(short_side=24, split_list=lists, drop_leaks=True)
    ingest(str(tmp_path / "photos"), str(tmp_path / "dataset"), config, here)
    page, _ = page_of(Dataset.open(str(tmp_path / "dataset")), tmp_path)
    assert "no copy is under another class" in page.text
    assert ("class, but for what was taken out of training" in page.text) == is_told


def test_it_says_what_is_in_the_dataset(dataset: Dataset, tmp_path: Path) -> None:
    page, _ = page_of(dataset, tmp_path)
    for words in (
        "Images 14 of 17 listed",
        "Classes 2 6 to 8 images each",
        "Quarantined 3 17.65 % of the images",
        "Leaks 1 training image that is a test image too",
        "Label conflicts 0 no copy is under another class",
        "class images train test bad files coast 6 2 1 3 forest 8 1 1 0",
        "train 3 test 2",
        "an image may be in several splits. In none: 9.",
        "JPEG 12 PNG 1 BMP 1",
        "forest 8 coast 6",
        "under 64 64 to 127",
        "In train and in test: 1 image",
        "coast/twin.png coast/twin.bmp",
        "2 sniff the file is empty coast/empty.jpg",
        "an HTML page, not an image",
        "All 3 files, by path",
        "coast 6 images, 3 bad files",
        dataset.id[:16],
        "short_side 24",
    ):
        assert words in page.text, words


def test_the_pictures_are_those_of_the_dataset(dataset: Dataset, tmp_path: Path) -> None:
    page, _ = page_of(dataset, tmp_path)
    shown = {value for tag, name, value in page.attributes if (tag, name) == ("img", "title")}
    assert shown == set(dataset.paths.to_pylist())
    uris = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(uris) == 14 + 2
    assert all(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")).startswith(b"\xff\xd8") for uri in uris)


def test_it_loads_nothing_and_believes_no_name(dataset: Dataset, tmp_path: Path) -> None:
    page, html = page_of(dataset, tmp_path)
    loads = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert loads
    assert all(value.startswith("data:") for value in loads)
    assert "<script" not in html
    assert EVIL in page.text
    assert not re.search(r"url\(|@import|https?:", html)


def test_a_set_without_blemish_says_so(tmp_path: Path) -> None:
    made = [(f"{number}.jpg", 0, ["train" if number else "test"], encode_jpeg(picture(number))) for number in range(4)]
    page, _ = page_of(write_dataset(str(tmp_path / "d"), made, classes=("a",)), tmp_path)
    for words in (
        "Quarantined 0 none was bad",
        "Nothing: every image",
        "Nothing: every file among the images is named like one",
        "No image of a training split is an exact copy",
    ):
        assert words in page.text, words


def test_an_empty_dataset_has_a_page(tmp_path: Path) -> None:
    page, _ = page_of(write_dataset(str(tmp_path / "d"), [], classes=("a",)), tmp_path)
    assert "Images 0 of 0 listed" in page.text


def test_of_a_large_set_few_blocks_are_read_and_rare_classes_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 blocks; of the last class there is one image, in the last block."""
    paths = sorted(map(str, range(400)), key=lambda path: order_key(0, path))
    jpeg = encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    made = [(path, 3 if path == paths[-1] else int(path) % 3, [], jpeg) for path in paths]
    dataset = write_dataset(str(tmp_path / "d"), made, classes="abcd", block_size=2)
    rows_of = rows_by_class(dataset, 3)
    assert [len(rows_of[label]) for label in range(4)] == [3, 3, 3, 1]
    assert rows_of[3] == [399]
    read: list[int] = []
    plainly = Dataset.read_block

    def counted(self: Dataset, block: int) -> Block:
        read.append(block)
        return plainly(self, block)

    monkeypatch.setattr(Dataset, "read_block", counted)
    small = thumbnails(dataset, range(400))
    assert len(read) == len(set(read)) == MOST_BLOCKS
    assert sum(bool(one.uri) for one in small.values()) == 2 * MOST_BLOCKS


def test_copies_under_two_classes_stand_side_by_side(tmp_path: Path) -> None:
    both = [("a", 0), ("b", 1)]
    made = [(f"{name}/{n}.jpg", label, ["train"], encode_jpeg(picture(n))) for name, label in both for n in (1, 2)]
    dataset = write_dataset(str(tmp_path / "d"), made[:-1], classes=("coast", "forest"))
    page, _ = page_of(dataset, tmp_path)
    assert "Label conflicts 2 exact copies under another class" in page.text
    assert "2 images have an exact copy under another class" in page.text
    assert "a/1.jpg b/1.jpg coast forest" in page.text or "b/1.jpg a/1.jpg forest coast" in page.text
    assert f"sunspark inspect {dataset.uri} --leaks names all" in page.text


def test_copies_within_a_split_are_counted(tmp_path: Path) -> None:
    made = [(f"{n}.jpg", 0, ["train"], encode_jpeg(picture(n // 3))) for n in range(6)]
    page, _ = page_of(write_dataset(str(tmp_path / "d"), made, classes=("a",)), tmp_path)
    assert "Exact copies within a split, but for one of each: train 4." in page.text
    page, _ = page_of(write_dataset(str(tmp_path / "e"), made[::3], classes=("a",)), tmp_path)
    assert "within a split" not in page.text


def test_a_line_may_end_before_the_suffix_of_a_file(dataset: Dataset, tmp_path: Path) -> None:
    assert "coast/<wbr>twin<wbr>.png" in page_of(dataset, tmp_path)[1]


@pytest.mark.parametrize(("num_classes", "most_bytes"), [(397, 2_000_000), (10_000, 4_000_000)])
def test_of_many_classes_all_are_counted_and_the_first_are_shown(
    num_classes: int, most_bytes: int, tmp_path: Path
) -> None:
    jpeg = encode_jpeg(picture(0))
    names = [f"class {number:05d}" for number in range(num_classes)]
    made = [
        (f"{name}/{n}.jpg", label, ["train" if n else "test"], jpeg)
        for label, name in enumerate(names)
        for n in range(3 if label < 5 else 1)
    ]
    page, html = page_of(write_dataset(str(tmp_path / "d"), made, classes=names), tmp_path)
    assert "class images train test class 00000 3 2 1 class 00001 3 2 1" in page.text
    rows = set(re.findall(r"<tr>(<td>class .*?)</tr>", html))
    assert rows >= {f"<td>class {label:05d}</td><td>1</td><td>0</td><td>1</td>" for label in range(5, num_classes)}
    assert f"Images of the first 100 classes. The table above has the numbers of all {num_classes:,}." in page.text
    assert 100 <= sum(tag == "img" and name == "src" for tag, name, _ in page.attributes) <= 300
    assert len(html) < most_bytes


def test_a_name_of_ten_thousand_letters_is_cut_on_the_page_and_whole_in_its_file(tmp_path: Path) -> None:
    name = "x" * 10_000
    made = [(f"{number}.jpg", 0, ["train"], encode_jpeg(picture(number))) for number in range(2)]
    page, _ = page_of(write_dataset(str(tmp_path / "d"), made, classes=(name,)), tmp_path)
    assert "x" * 59 + "…" in page.text
    assert "x" * 60 not in page.text
    files = [value for tag, key, value in page.attributes if (tag, key) == ("a", "href")]
    assert any(name in base64.b64decode(file.partition("base64,")[2]).decode() for file in files)


def test_the_name_of_a_set_in_a_store_is_without_its_options() -> None:
    assert _name_of("s3://bucket/sets/sun?endpoint_override=minio:9000&scheme=http") == "sets/sun"
    assert _name_of("/data") == "data"
