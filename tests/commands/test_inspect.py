"""What is in a dataset, for people: of many splits a few, the rest in the JSON."""

from pathlib import Path

import numpy as np

from sunspark.commands.inspect import run
from sunspark.data.codec import encode_jpeg
from sunspark.data.writer import write_dataset


def test_of_many_splits_five_are_shown_and_how_many_there_are(tmp_path: Path) -> None:
    names = tuple(f"Training_{number:02d}" for number in range(1, 21))
    image = encode_jpeg(np.zeros((16, 24, 3), np.uint8))
    write_dataset(str(tmp_path / "dataset"), [("a/b.jpg", 0, names, image)], classes=("a",), split_names=names)
    text = run([str(tmp_path / "dataset")]).text
    assert "splits (5 of 20; --json has all)" in text
    assert "Training_05" in text
    assert "Training_06" not in text
    assert "sizes        24x16: 1\n" in text
