"""What makes an ingest fail, or speak up: too many bad images, images that are trained on and tested with."""

import errno
import fcntl
import os
import re
import shlex
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sunspark.bench.dataset_page import write_dataset_page
from sunspark.data import dataset_folder
from sunspark.data.augment import AugmentConfig
from sunspark.data.codec import encode_jpeg
from sunspark.data.contact_sheet import SheetConfig, write_contact_sheet
from sunspark.data.containers import read_images
from sunspark.data.dataset import Dataset
from sunspark.data.dataset_folder import delete_orphans, tidy
from sunspark.data.ingest import IngestConfig
from sunspark.data.quarantine import quarantine_table
from sunspark.data.sources import list_source
from sunspark.data.writer import WrittenBlock
from sunspark.errors import ConfigError, DatasetError, SourceError, StorageError
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
    assert reasons[0].startswith(f"  30 x sniff: not a {known}: it begins with '0 words'")
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
    with pytest.raises(DatasetError, match=r"without --drop-leaks: its split train has 1 image of test"):
        made(leaky, tmp_path / "kept", split_list=lists(leaky), drop_leaks=True)
    first = made(leaky, tmp_path / "dropped", split_list=lists(leaky), drop_leaks=True)
    again = made(leaky, tmp_path / "dropped", split_list=lists(leaky), drop_leaks=True)
    assert again.reused
    assert again.dataset_id == first.dataset_id
    with pytest.raises(DatasetError, match="--drop-leaks took 1 image out of its training splits"):
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


STAGING = ["staging", f"staging-{'0' * 32}"]
"""As older versions named it, and as it is named."""


@pytest.mark.parametrize("staging", STAGING)
def test_what_killed_ingests_left_goes(staging: str, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    once = "0" * 16
    whole = [f"{staging}/piece-000000-{once}.bin", f"{staging}/seek-000000-{once}.gztool"]
    for path in (dataset / name for name in ("index.parquet", "quarantine.parquet", "manifest.json", *whole)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.{'0' * 32}.tmp").write_text("half of it")
    for name in whole:
        (dataset / name).write_text("all of it")
    result = made(photos(tmp_path / "photos", 4, {}), dataset)
    assert (result.reused, result.accepted) == (False, 4)
    assert sorted(os.listdir(dataset)) == ["data", "index.parquet", "manifest.json", "quarantine.parquet"]


A_DAY_AGO = time.time() - 86_500
LEFT = {
    "orphan": [f"data/block-000000-{'0' * 16}.parquet"],
    "not whole": [f"data/.block-000000-{'0' * 16}.parquet.{'0' * 32}.tmp", f".index.parquet.{'0' * 32}.tmp"],
    "staged": [f"staging-{'0' * 32}/piece-000000-{'0' * 16}.bin", f"staging-{'0' * 32}/seek-000000-{'0' * 16}.gztool"],
    "empty": [f"staging-{'1' * 32}/"],
}


def leave(dataset: Path, names: list[str], modified: float) -> None:
    for name in names:
        path = dataset / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
        os.utime(path, (modified, modified))


def files_in(dataset: Path) -> set[Path]:
    return {path for path in dataset.rglob("*") if path.name != ".ingest.lock"}


@pytest.mark.parametrize("kind", list(LEFT))
def test_what_killed_ingests_left_in_a_finished_dataset_goes_after_a_day(kind: str, tmp_path: Path) -> None:
    source, dataset = photos(tmp_path / "photos", 20, {}), tmp_path / "dataset"
    before = made(source, dataset)
    whole = files_in(dataset)
    leave(dataset, LEFT[kind], A_DAY_AGO)
    assert files_in(dataset) > whole
    again = made(source, dataset)
    assert (again.reused, again.dataset_id) == (True, before.dataset_id)
    assert files_in(dataset) == whole


@pytest.mark.parametrize("kind", list(LEFT))
@pytest.mark.parametrize("young", ["orphan", "staged"])
def test_nothing_goes_from_a_finished_dataset_while_something_else_there_is_young(
    kind: str, young: str, tmp_path: Path
) -> None:
    """Whoever wrote it may be at work, and want the rest."""
    source, dataset = photos(tmp_path / "photos", 20, {}), tmp_path / "dataset"
    made(source, dataset)
    leave(dataset, LEFT[kind], A_DAY_AGO)
    leave(dataset, [name.replace("000000", "000001") for name in LEFT[young]], time.time())
    left = files_in(dataset)
    assert made(source, dataset).reused
    assert files_in(dataset) == left


def test_files_of_somebody_elses_in_a_finished_dataset_stay(tmp_path: Path) -> None:
    source, dataset = photos(tmp_path / "photos", 20, {}), tmp_path / "dataset"
    made(source, dataset)
    mine = [f"staging-{'0' * 32}/notes.txt", "data/notes.txt", "notes.txt"]
    leave(dataset, [*mine, *LEFT["staged"]], A_DAY_AGO)
    left = files_in(dataset)
    assert made(source, dataset).reused
    assert files_in(dataset) == left


def test_a_folder_named_as_a_file_of_ours_stays_in_a_finished_dataset(tmp_path: Path) -> None:
    source, dataset = photos(tmp_path / "photos", 20, {}), tmp_path / "dataset"
    made(source, dataset)
    mine = f".index.parquet.{'0' * 32}.tmp"
    leave(dataset, [f"{mine}/notes.txt", mine + "/"], A_DAY_AGO)
    left = files_in(dataset)
    assert made(source, dataset).reused
    assert files_in(dataset) == left


def test_datasets_whose_data_are_links_to_one_folder_leave_each_other_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    source, datasets = photos(tmp_path / "photos", 20, {}), [tmp_path / "one", tmp_path / "other"]
    for dataset in datasets:
        dataset.mkdir()
        (dataset / "data").symlink_to(disk)
        made(source, dataset)
    for path in disk.iterdir():
        os.utime(path, (A_DAY_AGO, A_DAY_AGO))
    for dataset in datasets:
        assert made(source, dataset).reused
        assert len(Dataset.open(str(dataset))) == 20


def test_blocks_stay_that_a_manifest_names_which_came_while_another_was_tidied(tmp_path: Path) -> None:
    """However old they look, as where the clocks of machine and store differ."""
    source, dataset = photos(tmp_path / "photos", 20, {}), tmp_path / "dataset"
    made(source, dataset)
    before = Dataset.open(str(dataset))
    shutil.rmtree(dataset)
    made(source, dataset)
    for path in files_in(dataset):
        os.utime(path, (A_DAY_AGO, A_DAY_AGO))
    whole = files_in(dataset)
    tidy(before)
    assert files_in(dataset) == whole
    shutil.rmtree(dataset)
    tidy(before)


@pytest.mark.parametrize("days", [0, 2])
def test_of_two_at_once_where_a_disk_has_no_locks_neither_takes_the_blocks_of_the_other(
    days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the clock of the machine is ahead of the disk's."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def delete_in_step(dataset: str, written: Sequence[WrittenBlock]) -> None:
        both.wait(60)  # both have seen that nobody has finished
        delete_orphans(dataset, written)
        both.wait(60)

    both = threading.Barrier(2)
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(dataset_folder, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + days * 86_400 * 10**9))
    monkeypatch.setattr("sunspark.data.ingest.delete_orphans", delete_in_step)
    source, dataset = photos(tmp_path / "photos", 20, {}), tmp_path / "dataset"
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(made, source, dataset) for _ in range(2)]
        results = [one.result(timeout=100) for one in running]
    assert len({Dataset.open(str(dataset)).id, *(result.dataset_id for result in results)}) == 1


@pytest.mark.parametrize("name", [*(f"{folder}/notes.txt" for folder in STAGING), "staging-area/notes.txt"])
def test_files_of_somebody_elses_in_a_folder_named_as_ours_stay(name: str, tmp_path: Path) -> None:
    mine = tmp_path / "dataset" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DatasetError, match=r"is not empty and not a dataset \(it holds staging"):
        made(photos(tmp_path / "photos", 4, {}), tmp_path / "dataset")
    assert mine.read_text() == "mine"


def test_links_do_not_hide_that_source_and_dataset_lie_in_each_other(tmp_path: Path) -> None:
    source, dataset = photos(tmp_path / "photos", 4, {}), tmp_path / "dataset"
    dataset.mkdir()
    into_source, to_source, into_dataset = (tmp_path / name for name in ("one", "two", "three"))
    into_source.symlink_to(source / "class 0")
    to_source.symlink_to("photos")
    into_dataset.symlink_to(dataset / "not yet")
    for one, other in (
        (source, into_source), (to_source, source / "new"), (to_source, into_source), (into_dataset, dataset),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"lie in each other \(links lead to .*; give the dataset a directory"):
            made(one, other)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(dataset)
    assert made(to_source, elsewhere).accepted == 4
    assert len(Dataset.open(str(dataset))) == 4


def test_copies_under_two_classes_are_told_with_their_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = photos(
        tmp_path / "photos", 10, {"twin.jpg": encode_jpeg(picture(1)), "twin 2.jpg": encode_jpeg(picture(2))}
    )
    result = made(source, tmp_path / "my dataset", test_fraction=0)
    assert result.label_conflicts == 2
    assert "2 images have exact copies under another class (" in caplog.text
    assert "class 0/twin.jpg" in caplog.text
    assert f"`sunspark inspect '{tmp_path}/my dataset' --leaks` names all" in caplog.text
    caplog.clear()
    assert made(photos(tmp_path / "others", 10, {}), tmp_path / "plain").label_conflicts == 0
    assert caplog.text == ""


def test_classes_without_a_training_image_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those of which all images are bad, or in other splits; not those that have no image at all."""
    for number in range(8):
        path = tmp_path / "photos" / f"class {number}" / "only.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"" if number == 7 else encode_jpeg(picture(number)))
    (tmp_path / "train.txt").write_text("class 6/only.jpg\nclass 7/only.jpg")
    (tmp_path / "test.txt").write_text("class 0/only.jpg")
    made(tmp_path / "photos", tmp_path / "dataset", split_list=lists(tmp_path / "photos"), max_bad_fraction=1)
    assert (
        "the split train has no image of 6 classes: class 0, class 1, class 2, class 3, class 4 and 1 more; a network "
        "that is trained on it does not know them"
    ) in caplog.text
    assert "the split test has no image" not in caplog.text


def test_a_dataset_that_is_there_already_is_told_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos(tmp_path / "photos", 10, {})
    made(source, tmp_path / "dataset")
    assert "10 images of 2 classes listed in" in capsys.readouterr().err
    assert made(source, tmp_path / "dataset").reused
    told = capsys.readouterr().err
    assert (
        told
        == f"{tmp_path}/dataset is there already, made from the same 10 images, in the same way: it stays as it is\n"
    )
    one = tmp_path / "one" / "class"
    one.mkdir(parents=True)
    (one / "only.jpg").write_bytes(encode_jpeg(picture(0)))
    made(one.parent, tmp_path / "small")
    assert f"1 image of 1 class listed in {one.parent}" in capsys.readouterr().err


def test_a_dataset_with_more_bad_images_than_now_may_be_is_not_told_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos(tmp_path / "photos", 9, {"bad.jpg": b""})
    made(source, tmp_path / "dataset", max_bad_fraction=1)
    made(source, tmp_path / "dataset", max_bad_fraction=1)
    assert "made from the same 10 images, 1 of them bad, in the same way" in capsys.readouterr().err
    with pytest.raises(SourceError, match="1 of 10 images"):
        made(source, tmp_path / "dataset")
    assert "is there already" not in capsys.readouterr().err


def test_too_many_bad_images_in_a_folder_with_a_space_are_shown_by_the_command_that_is_told(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 19, {"bad.jpg": b""})
    with pytest.raises(SourceError) as caught:
        made(source, tmp_path / "my dataset")
    told = re.findall(r"`(sunspark inspect .*?)`", str(caught.value))
    assert shlex.split(told[0]) == ["sunspark", "inspect", f"{tmp_path}/my dataset", "--quarantine"]
    with pytest.raises(DatasetError) as unfinished:
        Dataset.open(str(tmp_path / "my dataset"))
    assert re.findall(r"`(sunspark inspect .*?)`", str(unfinished.value)) == told


def test_images_of_a_table_that_are_in_no_split_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = photos(tmp_path / "photos", 4, {})
    rows = ["class 0/000.jpg,a,train", "class 0/002.jpg,a,"]
    (source / "images.csv").write_text("\n".join(["path,label,split", *rows]))
    result = made(source / "images.csv", tmp_path / "dataset")
    assert result.splits == {"train": 1}
    assert re.search(r"1 image of .*images\.csv is in no split, for instance class 0/", caplog.text)


def test_a_class_of_which_no_image_could_be_decoded_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = photos(tmp_path / "photos", 4, {})
    (source / "class 7").mkdir()
    (source / "class 7" / "bad.jpg").write_bytes(b"")
    made(source, tmp_path / "dataset", max_bad_fraction=1)
    assert "1 class came out empty, since none of their images could be decoded: class 7" in caplog.text


def test_a_page_or_picture_does_not_overwrite_what_it_shows(tmp_path: Path) -> None:
    made(photos(tmp_path / "photos", 4, {}), tmp_path / "dataset")
    dataset = Dataset.open(str(tmp_path / "dataset"))
    for write, name in ((write_dataset_page, "manifest.json"), (write_sheet, "index.parquet")):
        before = (tmp_path / "dataset" / name).read_bytes()
        with pytest.raises(ConfigError, match="does not end in"):
            write(dataset, f"{dataset.uri}/{name}")
        assert (tmp_path / "dataset" / name).read_bytes() == before


def write_sheet(dataset: Dataset, out: str) -> None:
    write_contact_sheet(dataset, out, SheetConfig(), AugmentConfig())


def test_a_file_that_goes_or_changes_after_it_was_listed_is_no_bad_image(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 4, {})
    for change in (Path.unlink, lambda path: path.write_bytes(encode_jpeg(picture(7)) + b"longer")):
        listing = list_source(str(source))
        path = source / "class 0" / "000.jpg"
        before = path.read_bytes()
        change(path)
        with pytest.raises(StorageError, match=r"000\.jpg (was listed and is gone|had \d+ bytes and has \d+)"):
            list(read_images(listing.images))
        path.write_bytes(before)


def test_copies_in_no_split_are_no_conflict_but_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """--drop-leaks has taken one of them out of training: nothing learns both, and either may be wrong."""
    twin = encode_jpeg(picture(1))
    source = photos(tmp_path / "photos", 4, {"twin.jpg": twin})
    (tmp_path / "train.txt").write_text("class 0/000.jpg\nclass 0/twin.jpg\nclass 1/003.jpg")
    (tmp_path / "test.txt").write_text("class 1/001.jpg\nclass 0/002.jpg")
    with_both = made(source, tmp_path / "both", split_list=lists(source))
    assert "took out of training" not in caplog.text
    without = made(source, tmp_path / "dropped", split_list=lists(source), drop_leaks=True)
    assert (with_both.label_conflicts, without.label_conflicts, without.leaks_dropped) == (2, 0, 1)
    assert "1 have their copies under another class (class 0/twin.jpg = class 1/001.jpg)" in caplog.text
