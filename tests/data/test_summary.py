"""What is in a dataset: everything is counted, also by class; bad files as far as their folders tell the class."""

from pathlib import Path

import numpy as np

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.summary import ClassCount, DatasetSummary, summarize
from sunspark.launch.ingest import ingest
from tests.data.engine import here


def summary_of(folder: Path, files: dict[str, bytes], **options: object) -> DatasetSummary:
    for path, body in files.items():
        (folder / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / path).write_bytes(body)
    config = IngestConfig(short_side=16, max_bad_fraction=1, **options)  # type: ignore[arg-type]
    return summarize(Dataset.open(ingest(str(folder / "photos"), str(folder / "dataset"), config, here).dataset))


def jpeg(number: int) -> bytes:
    return encode_jpeg(np.full((16, 24, 3), 20 * number, np.uint8))


def test_images_and_bad_files_are_counted_by_class(tmp_path: Path) -> None:
    files = {f"coast/{number}.jpg": jpeg(number) for number in range(3)}
    files |= {"coast/deep/3.jpg": jpeg(3), "coast/deep/bad.jpg": b"", "coast/bad.jpg": b"", "moor/bad.jpg": b""}
    summary = summary_of(tmp_path, files, test_fraction=0.5)
    assert (summary.images, summary.quarantined, summary.listed) == (4, 3, 7)
    coast, moor = summary.class_counts
    assert (coast.name, coast.images, coast.quarantined) == ("coast", 4, 2)
    assert {split: sum(one.splits[split] for one in summary.class_counts) for split in summary.splits} == summary.splits
    assert moor == ClassCount(name="moor", images=0, splits={"train": 0, "test": 0}, quarantined=1)


def test_images_that_no_list_names_are_counted(tmp_path: Path) -> None:
    for name, body in (("train", "a/0.jpg\na/1.jpg"), ("test", "a/1.jpg")):
        (tmp_path / f"{name}.txt").write_text(body)
    lists = tuple(f"{name}={tmp_path}/{name}.txt" for name in ("train", "test"))
    summary = summary_of(tmp_path, {f"a/{number}.jpg": jpeg(number) for number in range(5)}, split_list=lists)
    assert (summary.splits, summary.in_no_split) == ({"train": 2, "test": 1}, 3)


def test_a_bad_file_in_a_folder_of_several_classes_is_of_none(tmp_path: Path) -> None:
    files = {f"all/{number}.jpg": jpeg(number) for number in range(4)} | {"all/bad.jpg": b""}
    for path, body in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(body)
    rows = [f"all/{number}.jpg,{'ab'[number % 2]}" for number in range(4)] + ["all/bad.jpg,a"]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    config = IngestConfig(short_side=16, max_bad_fraction=1)
    result = ingest(str(tmp_path / "table.csv"), str(tmp_path / "dataset"), config, here)
    summary = summarize(Dataset.open(result.dataset))
    assert summary.quarantined == 1
    assert [(one.name, one.images, one.quarantined) for one in summary.class_counts] == [("a", 2, 0), ("b", 2, 0)]


def test_copies_within_a_split_are_counted_but_for_one_of_each(tmp_path: Path) -> None:
    bodies = {"a/0.jpg": jpeg(0), "a/1.jpg": jpeg(0), "a/2.jpg": jpeg(0), "a/3.jpg": jpeg(1), "b/0.jpg": jpeg(1)}
    (tmp_path / "train.txt").write_text("a/0.jpg\na/1.jpg\na/2.jpg\na/3.jpg\n")
    (tmp_path / "test.txt").write_text("b/0.jpg\n")
    lists = tuple(f"{name}={tmp_path}/{name}.txt" for name in ("train", "test"))
    assert summary_of(tmp_path, bodies, split_list=lists).copies_in_split == {"train": 2}


def test_what_was_left_out_unopened_is_counted_and_is_no_part_of_the_id(tmp_path: Path) -> None:
    files = {f"a/{number}.jpg": jpeg(number) for number in range(3)}
    plain = summary_of(tmp_path / "plain", files)
    others = {"a/clip.mp4": b"", "a/Thumbs.db": b"", "a/more.mp4": b"", "a/.hidden.jpg": jpeg(4)}
    mixed = summary_of(tmp_path / "mixed", files | others)
    assert (plain.left_out, mixed.left_out) == ({}, {".mp4": 2, ".db": 1, "hidden image": 1})
    assert (plain.listed, plain.dataset_id) == (mixed.listed, mixed.dataset_id)
