"""What is in a dataset, for people: counts, tables, a page, a picture; of many splits a few, the rest in the JSON."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sunspark.commands.inspect import run
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Quarantined
from sunspark.data.ingest import IngestConfig
from sunspark.data.quarantine import QuarantineTable
from sunspark.data.writer import write_dataset
from sunspark.errors import ConfigError, DatasetError
from sunspark.launch.ingest import ingest
from tests.data.engine import here


def test_of_many_splits_five_are_shown_and_how_many_there_are(tmp_path: Path) -> None:
    names = tuple(f"Training_{number:02d}" for number in range(1, 21))
    image = encode_jpeg(np.zeros((16, 24, 3), np.uint8))
    write_dataset(str(tmp_path / "dataset"), [("a/b.jpg", 0, names, image)], classes=("a",), split_names=names)
    text = run([str(tmp_path / "dataset")]).text
    assert "splits (5 of 20; --json has all)" in text
    assert "Training_05" in text
    assert "Training_06" not in text
    assert "sizes        24x16: 1\n" in text


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
    text = run([leaky, "--html", out[0], "--augmented", out[1], "--image-size", "32", "--trivial-augment"]).text
    assert f"written: {out[0]}\nwritten: {out[1]}" in text
    assert Path(out[0]).read_text().startswith("<!DOCTYPE html>")
    with Image.open(out[1]) as picture:
        assert picture.size[0] == 6 + 8 * (32 + 6)


@pytest.mark.parametrize("words", [["--trivial-augment"], ["--image-size", "64"], ["--seed", "3", "--html", "x.html"]])
def test_settings_of_the_picture_are_refused_without_it(leaky: str, words: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"{words[0]}.* has no effect without --augmented FILE"):
        run([leaky, *words])


def test_where_there_is_no_dataset_nothing_is_written(tmp_path: Path) -> None:
    for words in (["--quarantine"], ["--html", str(tmp_path / "x.html")], ["--augmented", str(tmp_path / "x.png")]):
        with pytest.raises(DatasetError, match="is not a finished dataset"):
            run([str(tmp_path / "nowhere"), *words])
    assert list(tmp_path.iterdir()) == []
