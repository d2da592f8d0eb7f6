"""What makes an ingest fail, or speak up: too many bad images, images that are trained on and tested with."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.quarantine import quarantine_table
from sunspark.errors import ConfigError, DatasetError, SourceError
from sunspark.launch.ingest import IngestResult, ingest
from tests.data.engine import here


def picture(number: int) -> np.ndarray:
    """As unlike the others as it takes to be another image when it is stored."""
    return np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)


def photos(folder: Path, num_good: int, bad: dict[str, bytes]) -> Path:
    for number in range(num_good):
        path = folder / f"class {number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    for name, body in bad.items():
        (folder / "class 0" / name).write_bytes(body)
    return folder


def made(source: Path, dataset: Path, **settings: object) -> IngestResult:
    return ingest(str(source), str(dataset), IngestConfig(short_side=16, block_size=10, **settings), here)


def test_one_bad_image_of_a_hundred_is_left_out(tmp_path: Path) -> None:
    result = made(photos(tmp_path / "photos", 99, {"bad.jpg": b""}), tmp_path / "dataset")
    assert (result.listed, result.accepted, result.quarantined) == (100, 99, 1)


def test_one_of_twenty_says_which_and_how_to_leave_it_out(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 19, {"bad.jpg": b""})
    with pytest.raises(SourceError) as caught:
        made(source, tmp_path / "dataset")
    message = str(caught.value)
    assert "1 of 20 images (5 %) cannot be taken, more than the 1 % that --max-bad-fraction allows" in message
    assert "1 x sniff: the file is empty (for instance class 0/bad.jpg)" in message
    assert "or leave them out with --max-bad-fraction 0.05;" in message
    assert made(source, tmp_path / "dataset", max_bad_fraction=0.05).quarantined == 1


def test_the_ten_commonest_reasons_are_told_the_commonest_first(tmp_path: Path) -> None:
    bad = {f"text {number}.jpg": f"{number} words".encode() for number in range(30)}
    bad |= {f"empty {number}.jpg": b"" for number in range(4)} | {"zeros.jpg": bytes(10), "page.jpg": b"<html>"}
    whole = encode_jpeg(picture(0))
    bad |= {f"cut {number}.jpg": whole[: 300 + number] for number in range(3)}
    for name in ("PNG", "GIF", "BMP", "TIFF", "WEBP"):
        Image.fromarray(picture(0)).save(tmp_path / "whole", name)
        body = (tmp_path / "whole").read_bytes()
        bad |= {f"{name} {number}.jpg": body[: len(body) // 2 + number] for number in range(2)}
    bad |= {f"xml {number}.jpg": b"<?xml?>" for number in range(2)}
    source = photos(tmp_path / "photos", 10, bad)
    with pytest.raises(SourceError) as caught:
        made(source, tmp_path / "dataset")
    head, *reasons, tail = str(caught.value).splitlines()
    assert head.startswith(f"{len(bad)} of {len(bad) + 10} images (")
    assert len(reasons) == 10
    known = "JPEG, PNG, GIF, BMP, WEBP, TIFF or AVIF"
    assert reasons[0].startswith(f"  30 x sniff: not a {known}: it begins with b'0 words'")
    assert reasons[1] == "  4 x sniff: the file is empty (for instance class 0/empty 0.jpg)"
    numbers = [int(line.split()[0]) for line in reasons]
    assert numbers == sorted(numbers, reverse=True)
    assert "--quarantine` names them all" in tail
    table = quarantine_table(str(tmp_path / "dataset"))
    assert {Path(one.path).name for one in table.images} == set(bad)
    assert table.quarantined == len(bad)


def test_where_too_many_were_bad_there_is_no_dataset_and_nothing_of_one(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 19, {"bad.jpg": b""})
    with pytest.raises(SourceError):
        made(source, tmp_path / "dataset")
    with pytest.raises(DatasetError, match="is not a finished dataset"):
        Dataset.open(str(tmp_path / "dataset"))
    assert [path.name for path in (tmp_path / "dataset").rglob("*") if path.is_file()] == ["quarantine.parquet"]
    (source / "class 0" / "bad.jpg").write_bytes(encode_jpeg(picture(99)))
    assert made(source, tmp_path / "dataset").quarantined == 0
    assert quarantine_table(str(tmp_path / "dataset")).images == ()


def test_the_limit_holds_for_a_dataset_that_is_there_already_and_is_no_part_of_it(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 19, {"bad.jpg": b""})
    first = made(source, tmp_path / "dataset", max_bad_fraction=1)
    again = made(source, tmp_path / "dataset", max_bad_fraction=0.1)
    assert again.reused
    assert again.dataset_id == first.dataset_id
    with pytest.raises(SourceError, match="1 of 20 images"):
        made(source, tmp_path / "dataset")
    assert len(Dataset.open(str(tmp_path / "dataset"))) == 19


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"max_bad_fraction must be 0 to 1, got {fraction}; use 1"):
        IngestConfig(max_bad_fraction=fraction)


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A train list and a test list with one image in common, under another name, as PNG and as BMP."""
    source = photos(tmp_path / "photos", 10, {})
    for name, suffix in (("PNG", "png"), ("BMP", "bmp")):
        Image.fromarray(picture(77)).save(source / "class 0" / f"twin.{suffix}", name)
    paths = sorted(str(path.relative_to(source)) for path in source.rglob("*.jpg"))
    (tmp_path / "train.txt").write_text("\n".join([*paths[:7], "class 0/twin.png"]))
    (tmp_path / "test.txt").write_text("\n".join([*paths[7:], "class 0/twin.bmp"]))
    return source


def lists(source: Path) -> tuple[str, ...]:
    return tuple(f"{name}={source.parent}/{name}.txt" for name in ("train", "test"))


def test_copies_across_train_and_test_are_reported(
    leaky: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = made(leaky, tmp_path / "dataset", split_list=lists(leaky))
    assert (result.leaks, result.leaks_dropped) == ({"train & test": 1}, 0)
    assert (result.splits["train"], result.splits["test"]) == (8, 4)
    assert "train & test share images, as exact copies, 1 of the first" in caplog.text
    assert "--drop-leaks" in caplog.text
    caplog.clear()
    assert made(leaky, tmp_path / "dataset", split_list=lists(leaky)).leaks == result.leaks
    assert "train & test share images" in caplog.text


def test_leaks_are_dropped_from_train_and_the_id_says_so(
    leaky: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = made(leaky, tmp_path / "kept", split_list=lists(leaky))
    caplog.clear()
    dropped = made(leaky, tmp_path / "dropped", split_list=lists(leaky), drop_leaks=True)
    assert (dropped.leaks, dropped.leaks_dropped) == ({}, 1)
    assert "share images" not in caplog.text
    assert (dropped.splits["train"], dropped.splits["test"]) == (7, 4)
    assert (dropped.accepted, dropped.quarantined) == (12, 0)
    assert dropped.dataset_id != kept.dataset_id
    dataset = Dataset.open(str(tmp_path / "dropped"))
    in_train = {dataset.path_of(int(row)) for row in dataset.rows("train")}
    assert "class 0/twin.png" not in in_train
    assert len(in_train) == 7


def test_where_there_is_nothing_to_drop_the_dataset_is_the_same(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 10, {})
    plain = made(source, tmp_path / "plain")
    careful = made(source, tmp_path / "careful", drop_leaks=True)
    assert careful.dataset_id == plain.dataset_id
    assert made(source, tmp_path / "plain", drop_leaks=True).reused


def test_a_dataset_with_leaks_is_not_taken_for_one_without_nor_the_reverse(leaky: Path, tmp_path: Path) -> None:
    made(leaky, tmp_path / "kept", split_list=lists(leaky))
    with pytest.raises(DatasetError, match=r"without --drop-leaks: its split train has 1 images of test"):
        made(leaky, tmp_path / "kept", split_list=lists(leaky), drop_leaks=True)
    first = made(leaky, tmp_path / "dropped", split_list=lists(leaky), drop_leaks=True)
    again = made(leaky, tmp_path / "dropped", split_list=lists(leaky), drop_leaks=True)
    assert again.reused
    assert again.dataset_id == first.dataset_id
    with pytest.raises(DatasetError, match="--drop-leaks took 1 images out of its training splits"):
        made(leaky, tmp_path / "dropped", split_list=lists(leaky))


def test_to_drop_leaks_where_no_split_is_the_test_of_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--drop-leaks has no effect: of the splits train no two"):
        made(photos(tmp_path / "photos", 4, {}), tmp_path / "dataset", drop_leaks=True, test_fraction=0)


@pytest.mark.parametrize("name", ["index.parquet", "quarantine.parquet", ".precious.tmp"])
def test_a_file_of_somebody_elses_is_not_overwritten(name: str, tmp_path: Path) -> None:
    """A name that ours have, too, makes it none of ours."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / name).write_text("mine")
    with pytest.raises(DatasetError, match=rf"is not empty and not a dataset \(it holds {re.escape(name)}\)"):
        made(photos(tmp_path / "photos", 4, {}), tmp_path / "dataset")
    assert (tmp_path / "dataset" / name).read_text() == "mine"
