"""What is in a dataset, for people: counts, tables, a page, a picture; of many splits a few, the rest in the JSON."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sunspark.commands.ingest import run as run_ingest
from sunspark.commands.inspect import run
from sunspark.config import as_json
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset, Quarantined
from sunspark.data.ingest import IngestConfig
from sunspark.data.leak_table import LeakedImage, LeakTable
from sunspark.data.quarantine import QuarantineTable
from sunspark.data.writer import write_dataset
from sunspark.errors import ConfigError, DatasetError
from sunspark.launch.ingest import ingest
from tests.bench.page import Page
from tests.data.engine import here


def test_of_many_splits_forty_are_shown_and_how_many_there_are(tmp_path: Path) -> None:
    names = tuple(f"Training_{number:02d}" for number in range(1, 43))
    image = encode_jpeg(np.zeros((16, 24, 3), np.uint8))
    write_dataset(str(tmp_path / "dataset"), [("a/b.jpg", 0, names, image)], classes=("a",), split_names=names)
    text = run([str(tmp_path / "dataset")]).text
    table = text.partition("splits (40 of 42; --json has all)\n")[2]
    assert "Training_40" in table
    assert "Training_41" not in table
    assert "sizes            24x16: 1\n" in text


def test_of_many_sizes_ten_are_shown_and_how_many_more_there_are(tmp_path: Path) -> None:
    made = [
        (f"a/{number}-{copy}.jpg", 0, [], encode_jpeg(np.zeros((16, 20 + number, 3), np.uint8)))
        for number in range(12)
        for copy in range(1 + (number == 11))
    ]
    write_dataset(str(tmp_path / "dataset"), made, classes=("a",))
    (line,) = [line for line in run([str(tmp_path / "dataset")]).text.splitlines() if line.startswith("sizes")]
    assert line.split()[1:3] == ["31x16:", "2,"]
    assert line.count("x16: ") == 10
    assert line.endswith(" and 2 more")


@pytest.fixture
def leaky(tmp_path: Path) -> str:
    """One class; an image in train and in test; a bad file whose name would break a table."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    for name in ("one.jpg", "same.jpg"):
        (folder / name).write_bytes(encode_jpeg(pixels))
    (folder / "bad\nname.jpg").write_bytes(b"")
    ingest(str(tmp_path / "photos"), str(tmp_path / "dataset"), IngestConfig(short_side=24, max_bad_fraction=1), here)
    return str(tmp_path / "dataset")


def test_leaks_are_named_with_their_files(leaky: str) -> None:
    text = run([leaky]).text
    assert "leaks: exact copies across a training split and its test split" in text
    assert {"a/one.jpg", "a/same.jpg"} <= set(text.split())


def test_the_quarantine_is_a_table_of_all_bad_images(leaky: str) -> None:
    outcome = run([leaky, "--quarantine"])
    assert "quarantined  1" in outcome.text
    assert r"a/bad\nname.jpg  sniff  the file is empty" in outcome.text
    assert r"1  sniff  the file is empty  a/bad\nname.jpg" in outcome.text
    assert isinstance(outcome.result, QuarantineTable)
    assert outcome.result.images == (Quarantined(path="a/bad\nname.jpg", stage="sniff", reason="the file is empty"),)


def test_page_and_picture_are_written(leaky: str, tmp_path: Path) -> None:
    out = [str(tmp_path / "page.html"), str(tmp_path / "views.png")]
    text = run([leaky, "--html", out[0], "--augmented", out[1], "--image-size", "96", "--trivial-augment"]).text
    assert f"written: {out[0]}\nwritten: {out[1]}" in text
    assert Path(out[0]).read_text().startswith("<!DOCTYPE html>")
    with Image.open(out[1]) as picture:
        assert picture.size[0] == 6 + 8 * (96 + 6)


def test_what_was_taken_out_of_training_is_named_on_the_terminal_and_on_the_page(leaky: str, tmp_path: Path) -> None:
    made, page = str(tmp_path / "dropped"), tmp_path / "page.html"
    config = IngestConfig(short_side=24, max_bad_fraction=1, drop_leaks=True)
    dropped = ingest(str(tmp_path / "photos"), made, config, here)
    assert dropped.leaks_dropped == 1
    (one,) = Dataset.open(made).rows("test")
    copy = Dataset.open(made).path_of(int(one))
    path = ({"a/one.jpg", "a/same.jpg"} - {copy}).pop()
    assert re.search(r"^leaks dropped +1$", run([made]).text, re.MULTILINE)
    outcome = run([made, "--leaks", "--html", str(page)])
    assert isinstance(outcome.result, LeakTable)
    assert outcome.result.dropped == (
        LeakedImage(train="train", test="test", path=path, class_name="a", copy=copy, copy_class="a"),
    )
    rows = outcome.text.partition("taken out of training by --drop-leaks\n")[2].splitlines()
    assert [row.split() for row in rows[:2]] == [
        ["train", "test", "path", "class", "copy", "its", "class"],
        ["train", "test", path, "a", copy, "a"],
    ]
    told = Page(page.read_text())
    assert "--drop-leaks took 1 image out of training splits, since their test splits hold the same." in told.text
    assert f"All 1, by splits and path taken out of file class equal to its class in train {path} a {copy} a test" in (
        told.text
    )
    file = next(
        value
        for _, name, value in told.attributes
        if name == "href" and "text/csv" in value and (b"copy_class" in base64.b64decode(value.partition("base64,")[2]))
    )
    assert base64.b64decode(file.partition("base64,")[2]).decode().splitlines() == [
        "train,test,path,class_name,copy,copy_class",
        f"train,test,{path},a,{copy},a",
    ]
    run([leaky, "--html", str(page)])
    assert "--drop-leaks took" not in Page(page.read_text()).text


def test_what_was_left_out_unopened_is_told_on_the_terminal_and_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", ".3.jpg", "clip.mp4", "clip2.mp4", "evil.<b>"):
        (folder / name).write_bytes(encode_jpeg(np.zeros((16, 24, 3), np.uint8)))
    made, page = str(tmp_path / "dataset"), tmp_path / "page.html"
    ingest(str(tmp_path / "photos"), made, IngestConfig(short_side=16), here)
    assert re.search(
        r"left out +\.mp4: 2, \.<b>: 1, hidden image: 1$", run([made, "--html", str(page)]).text, re.MULTILINE
    )
    assert "What was left out unopened 4 files in the source .mp4 2 .<b> 1 hidden image 1" in (
        Page(page.read_text()).text
    )
    manifest = tmp_path / "dataset" / "manifest.json"
    old = json.loads(manifest.read_text())
    del old["left_out"]
    manifest.write_text(json.dumps(old))
    assert re.search("left out +not told: ", run([made, "--html", str(page)]).text)
    assert "What was left out unopened This dataset does not tell" in Page(page.read_text()).text


@pytest.mark.parametrize("words", [["--trivial-augment"], ["--image-size", "64"], ["--seed", "3", "--html", "x.html"]])
def test_settings_of_the_picture_are_refused_without_it(leaky: str, words: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"{words[0]}.* has no effect without --augmented FILE"):
        run([leaky, *words])


def test_where_there_is_no_dataset_nothing_is_written(tmp_path: Path) -> None:
    for words in (["--quarantine"], ["--html", str(tmp_path / "x.html")], ["--augmented", str(tmp_path / "x.png")]):
        with pytest.raises(DatasetError, match="is not a finished dataset"):
            run([str(tmp_path / "nowhere"), *words])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (("fit", "test"), "not looked for: no two splits are a training split and its test by their names"),
        (("train", "holdout"), "train & holdout: 1"),
        (("train", "test", "odd"), "train & test: 1; not looked for in odd: by name in no pair of a training split"),
    ],
)
def test_leaks_are_called_none_only_where_they_were_looked_for(
    splits: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    image = encode_jpeg(np.zeros((16, 24, 3), np.uint8))
    made = [("a/b.jpg", 0, splits, image)]
    dataset = write_dataset(str(tmp_path / "dataset"), made, classes=("a",), split_names=splits).uri
    assert re.search(rf"^leaks +{told}", run([dataset]).text, re.MULTILINE)
    page = tmp_path / "page.html"
    table = run([dataset, "--leaks", "--html", str(page)]).text
    assert ("not looked for" in table) == ("not looked for" in told)
    assert ("not looked for" in page.read_text()) == ("not looked for" in told)
    assert "no training image is a test image" not in page.read_text()


def test_ingest_says_where_it_looked_for_no_leaks(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.jpg").write_bytes(encode_jpeg(np.zeros((16, 24, 3), np.uint8)))
    (tmp_path / "list.txt").write_text("a/1.jpg")
    lists = [word for name in ("fit", "test") for word in ("--split-list", f"{name}={tmp_path}/list.txt")]
    made = run_ingest([str(tmp_path / "photos"), str(tmp_path / "dataset"), *lists, "--launcher", "local"])
    assert re.search("^leaks +not looked for: no two splits", made.text, re.MULTILINE)
    assert json.loads(json.dumps(as_json(made.result)))["unpaired_splits"] == ["fit", "test"]
    assert "unpaired" not in made.text


@pytest.fixture
def contradictory(tmp_path: Path) -> str:
    """Ten images in train, each with a copy under another class in test; the name of that has 10,000 letters."""
    jpegs = [encode_jpeg(np.full((16, 24, 3), 20 * number, np.uint8)) for number in range(10)]
    made = [
        (f"{'ab'[label]}/{number:02d}\n.jpg", label, [split], jpeg)
        for number, jpeg in enumerate(jpegs)
        for label, split in enumerate(("train", "test"))
    ]
    return write_dataset(str(tmp_path / "contradictory"), made, classes=("coast", "f" * 10_000)).uri


def test_all_leaks_and_all_copies_under_two_classes_are_a_table(contradictory: str) -> None:
    outcome = run([contradictory, "--leaks"])
    assert isinstance(outcome.result, LeakTable)
    assert (outcome.result.leaked, outcome.result.conflicting) == (10, 20)
    assert "leaked         10\nconflicting    20\n" in outcome.text
    lines = [line.split() for line in outcome.text.splitlines()]
    clipped = "f" * 59 + "…"
    assert [line for line in lines if line[:2] == ["train", "test"]][1:] == [
        ["train", "test", rf"a/{number:02d}\n.jpg", "coast", rf"b/{number:02d}\n.jpg", clipped] for number in range(10)
    ]
    assert [r"b/03\n.jpg", clipped, r"a/03\n.jpg", "coast"] in lines


def test_a_dataset_without_copies_has_an_empty_table(tmp_path: Path) -> None:
    image = encode_jpeg(np.zeros((16, 24, 3), np.uint8))
    write_dataset(str(tmp_path / "dataset"), [("a/b.jpg", 0, ["train"], image)], classes=("a",))
    text = run([str(tmp_path / "dataset"), "--leaks"]).text
    assert text.splitlines() == [
        f"dataset        {tmp_path}/dataset",
        "leaked         0",
        "conflicting    0",
        "leaks dropped  0",
    ]
    with pytest.raises(ConfigError, match="--quarantine and --leaks are two tables; give one"):
        run([str(tmp_path / "dataset"), "--leaks", "--quarantine"])


def test_copies_under_two_classes_are_told_with_a_few_of_them(contradictory: str) -> None:
    outcome = run([contradictory])
    told = outcome.text.partition("20 images have an exact copy under another class (--leaks has all)\n")[2]
    assert len(told.splitlines()) == 1 + 5
    assert json.loads(json.dumps(as_json(outcome.result)))["label_conflicts"]["images"] == 20


def test_classes_stand_in_a_table_with_sums_and_long_names_are_cut(contradictory: str, leaky: str) -> None:
    table = run([contradictory]).text.partition("\nclasses\n")[2].splitlines()[:4]
    name = "f" * 59 + "…"
    assert [line.split() for line in table] == [
        ["class", "images", "train", "test"],
        ["coast", "10", "10", "0"],
        [name, "10", "0", "10"],
        ["all", "20", "10", "10"],
    ]
    assert len({len(line) for line in table}) == 1, "numbers stand below each other"
    assert "class  images  train  test  bad\na           2      1     1    1\nall         2      1     1    1" in (
        run([leaky]).text
    )
