"""Laws of the kinds of source: each is recognised, and the same images give the same list and the same bytes."""

import gzip
import io
import json
import logging
import os
import random
import re
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sunspark import limits
from sunspark.data import containers
from sunspark.data.containers import read_images, read_in_order, rows_at_once
from sunspark.data.image_format import DecodeError
from sunspark.data.ingest import IngestConfig
from sunspark.data.sources import (
    Container,
    ListedImage,
    Listing,
    Scan,
    SourceFormat,
    list_source,
    parquet,
    source,
    table,
)
from sunspark.data.sources.archive import Archive, Wants, opened_gzip, scan_archive
from sunspark.data.sources.listing import ContainerKind
from sunspark.data.sources.source import threads_each
from sunspark.data.sources.splits import split_of_file, stratified_splits
from sunspark.data.staging import _pieces, assemble_block, plan_assembly, plan_pieces, stage_piece
from sunspark.errors import ConfigError, SourceError, StorageError
from tests.data.source_kinds import (
    CLASSES,
    KINDS,
    class_of,
    images,
    make,
    split_of,
    write_hugging_face,
    write_shard,
    write_table,
    write_tar,
    write_tree,
)

BODIES = images()


def bytes_of(listing: Listing) -> dict[str, bytes | DecodeError]:
    """path -> what is read, by the way that ingest takes."""
    if not listing.is_read_in_order:
        return {image.path: data for image, data in read_images(listing.images)}

    def place(image: ListedImage) -> str:
        return image.container.uri

    read: dict[str, bytes | DecodeError] = {}
    for _, group in groupby(sorted(listing.images, key=lambda image: (place(image), image.position)), key=place):
        part = list(group)
        read |= {image.path: data for image, data in read_in_order(part, part[0].container.seek_index)}
    return read


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised_and_holds_the_same(kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path / "made", BODIES)
    listing = list_source(made.source, labels=made.labels, split_lists=made.split_list)
    assert listing.classes == CLASSES
    assert listing.split_names == ("train", "test")
    assert listing.test_fraction is None
    assert [image.path for image in listing.images] == sorted(BODIES)
    for image in listing.images:
        assert CLASSES[image.label] == class_of(image.path)
        assert image.splits == (1 if split_of(image.path) == "train" else 2)
        assert image.size_bytes == (0 if kind == "parquet" else len(BODIES[image.path]))
    assert bytes_of(listing) == BODIES


def test_sources_that_tell_sizes_have_one_fingerprint(tmp_path: Path) -> None:
    """So that a dataset made of a folder is known as that of its archive."""
    fingerprints = set()
    for kind in KINDS:
        made = make(kind, tmp_path / kind, BODIES)
        listing = list_source(made.source, labels=made.labels, split_lists=made.split_list)
        fingerprints |= {listing.fingerprint} if kind != "parquet" else set()
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("kind", "source_format", "is_right"),
    [
        ("folder", "folder", True), ("tar", "tar", True), ("tar.gz", "tar", True), ("parquet", "parquet", True),
        ("webdataset", "webdataset", True), ("csv", "table", True), ("folder", "parquet", False),
        ("folder", "webdataset", False), ("folder", "table", False), ("tar", "folder", False),
        ("tar", "webdataset", False), ("csv", "tar", False), ("parquet", "folder", False),
    ],
)  # fmt: skip
def test_a_format_can_be_forced(kind: str, source_format: SourceFormat, is_right: bool, tmp_path: Path) -> None:
    made = make(kind, tmp_path / "made", BODIES)
    if is_right:
        listing = list_source(made.source, source_format=source_format, labels=made.labels, split_lists=made.split_list)
        assert len(listing.images) == len(BODIES)
    else:
        with pytest.raises(SourceError):
            list_source(made.source, source_format=source_format)


def test_splits_that_the_source_names_leave_no_room_for_a_test_fraction(tmp_path: Path) -> None:
    made = make("parquet", tmp_path / "made", BODIES)
    with pytest.raises(ConfigError, match=r"has no effect: .* names its splits \(train, test\)"):
        list_source(made.source, test_fraction=0.3)


@pytest.mark.parametrize("by_list", [True, False])
def test_of_a_source_that_names_train_alone_a_test_split_is_set_aside_if_asked_for(
    by_list: bool, tmp_path: Path
) -> None:
    trained = {path: body for path, body in BODIES.items() if split_of(path) == "train"}
    if by_list:
        made = make("folder", tmp_path / "made", BODIES)
        options = {"split_lists": made.split_list[:1]}
    else:
        made, options = make("parquet", tmp_path / "made", trained), {}
    assert list_source(made.source, **options).split_names == ("train",)
    listing = list_source(made.source, test_fraction=0.4, **options)
    assert (listing.split_names, listing.test_fraction) == (("train", "test"), 0.4)
    assert {image.path for image in listing.images if image.splits} == set(trained)
    assert stratified_splits({image.path: image.label for image in listing.images if image.splits}, 0.4, 0) == {
        image.path: image.splits for image in listing.images if image.splits
    }
    with pytest.raises(ConfigError, match=r"test_fraction 0 has no effect: .* \(train\)"):
        list_source(made.source, test_fraction=0, **options)


def test_lists_join_the_splits_that_the_source_names(tmp_path: Path) -> None:
    made = make("webdataset", tmp_path / "made", BODIES)
    few = tmp_path / "few.txt"
    few.write_text("a/abbey/sun_002.jpg\n")
    listing = list_source(made.source, split_lists=(f"few={few}",))
    assert listing.split_names == ("train", "test", "few")
    assert {image.path for image in listing.images if image.splits & 4} == {"a/abbey/sun_002.jpg"}
    with pytest.raises(ConfigError, match="two lists for the split 'train'"):
        list_source(made.source, split_lists=(f"train={few}",))


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00005.parquet", "train"), ("data/test-00001-of-00002.parquet", "test"),
        ("validation-00000-of-00001-0123abc.parquet", "validation"), ("my_set/val/0.tar", "validation"),
        ("dev.parquet", "validation"), ("sun397-testing.parquet", "test"), ("TRAIN/part.parquet", "train"),
        ("data/fine_tune-00000-of-00002.parquet", "fine_tune"), ("data/part-0001.parquet", None),
        ("trainer/latest.parquet", None), ("0.tar", None), ("test/train-00000-of-00001.parquet", "train"),
        ("my-set-train-00000-of-00002.parquet", "train"),
    ],
)  # fmt: skip
def test_files_name_their_split_as_on_the_hub(path: str, split: str | None) -> None:
    assert split_of_file(path) == split


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00003"], r"1 of the 3 files train-\*-of-00003: 00001, 00002 are missing; download"),
        (["data/train-00000-of-00002-a1", "data/test-00000-of-00001-b2"], "1 of the 2 files data/train-.*: 00001 is"),
        (["0/a-000001-of-000002", "1/a-000002-of-000002"], r"1 of the 2 files 0/a-\*-of-000002: 000000 is missing"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "tar"])
def test_a_part_of_the_files_is_not_taken_for_all(names: list[str], message: str, suffix: str, tmp_path: Path) -> None:
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if suffix == "tar":
            write_tar(tmp_path / f"{name}.tar", {f"{number}.jpg": b"x", f"{number}.cls": b"0"})
        else:
            pq.write_table(pa.table({"image": [b"x"], "label": [0]}), tmp_path / f"{name}.parquet")
    with pytest.raises(SourceError, match=message):
        list_source(str(tmp_path))
    assert len(list_source(str(tmp_path / f"{names[0]}.{suffix}")).images) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_files_may_count_from_zero_or_one_and_end_as_they_like(first: int, tmp_path: Path) -> None:
    for number in range(2):
        table = pa.table({"image": [b"x"], "label": [0]})
        pq.write_table(table, tmp_path / f"train-{number + first:05d}-of-00002-{number}a.parquet")
    assert len(list_source(str(tmp_path)).images) == 2


def test_an_archive_of_one_folder_is_that_folder(tmp_path: Path) -> None:
    flat = {f"{name}/{number}.jpg": b"x" for name in ("cat", "dog") for number in range(3)}
    write_tar(tmp_path / "flat.tar", {f"./{path}": body for path, body in flat.items()})
    write_tar(tmp_path / "deep.tar", {f"pets/{path}": body for path, body in flat.items()})
    write_tar(tmp_path / "one.tar", {path: body for path, body in flat.items() if path.startswith("cat")})
    for name in ("flat", "deep"):
        listing = list_source(str(tmp_path / f"{name}.tar"))
        assert listing.classes == ("cat", "dog")
        assert [image.path for image in listing.images] == sorted(flat)
    assert list_source(str(tmp_path / "one.tar")).classes == ("cat",)


def test_links_in_an_archive_are_files_and_the_later_of_two_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:

        def add(path: str, kind: bytes = tarfile.REGTYPE, body: bytes = b"", link: str = "") -> None:
            info = tarfile.TarInfo(path)
            info.type, info.size, info.linkname = kind, len(body), link
            tar.addfile(info, io.BytesIO(body))

        add("a/1.jpg", body=b"old")
        add("a/2.jpg", tarfile.LNKTYPE, link="a/1.jpg")
        add("b/3.jpg", tarfile.SYMTYPE, link="../a/1.jpg")
        add("b/4.jpg", tarfile.SYMTYPE, link="nowhere.jpg")
        add("b/5.jpg", tarfile.FIFOTYPE)
        add("a/1.jpg", body=b"new")
        add("b/._3.jpg", body=b"what macOS leaves")
        add(f"b/{'long' * 40}/ä.jpg", body=b"long name")
    listing = list_source(str(tmp_path / "odd.tar"))
    read = bytes_of(listing)
    assert read == {
        "a/1.jpg": b"new", "a/2.jpg": b"new", "b/3.jpg": b"new", f"b/{'long' * 40}/ä.jpg": b"long name",
    }  # fmt: skip
    assert (
        "left out, because no files in it (links that lead nowhere, devices, paths that lead outside): b/5.jpg, b/4.jpg"
        in caplog.text
    )


JOINED = {f"{name}/{number}.jpg": b"%d" % number * 700 for name in ("cat", "dog") for number in range(10)}


def joined(folder: Path, kind: str) -> bytes:
    """Two archives one behind the other; the second begins with an image of the first, and another body."""
    halves = [dict(list(JOINED.items())[:12]), dict(list(JOINED.items())[11:])]
    halves[0]["dog/1.jpg"] = b"old"
    for number, half in enumerate(halves):
        write_tar(folder / f"{number}.{kind}", half)
    return b"".join((folder / f"{number}.{kind}").read_bytes() for number in range(2))


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_archives_that_were_joined_are_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"both.{kind}").write_bytes(joined(tmp_path, kind))
    listing = list_source(str(tmp_path / f"both.{kind}"))
    assert [image.path for image in listing.images] == sorted(JOINED)
    assert bytes_of(listing) == JOINED


def test_zeros_behind_an_archive_are_nothing(tmp_path: Path) -> None:
    write_tar(tmp_path / "padded.tar", JOINED)
    with (tmp_path / "padded.tar").open("ab") as file:
        file.write(bytes(3 * 2**20 + 100))
    assert bytes_of(list_source(str(tmp_path / "padded.tar"))) == JOINED


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (b"no header" * 100, r"a header is damaged at byte \d+, after 12 files"),
        (b"x", r"damaged at byte \d+, after 12"),
    ],
)
def test_what_lies_behind_an_archive_is_not_passed_over(rest: bytes, message: str, tmp_path: Path) -> None:
    joined(tmp_path, "tar")
    with (tmp_path / "0.tar").open("ab") as file:
        file.write(rest)
    with pytest.raises(SourceError, match=message):
        list_source(str(tmp_path / "0.tar"))


def test_a_second_archive_that_was_cut_short_is_told(tmp_path: Path) -> None:
    whole = joined(tmp_path, "tar")
    (tmp_path / "both.tar").write_bytes(whole[: len(whole) - 12_000])
    with pytest.raises(SourceError, match="is no whole archive: "):
        list_source(str(tmp_path / "both.tar"))


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_an_archive_that_was_cut_short_is_told(kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path / "made", BODIES)
    whole = Path(made.source).read_bytes()
    num_bytes = len(whole) * 2 // 3
    Path(made.source).write_bytes(whole[:num_bytes])
    match = rf"ends too early, after \d+ files?; get it again, and compare its {num_bytes:,} bytes with the size of"
    with pytest.raises(SourceError, match=match):
        list_source(made.source)


def test_of_an_archive_that_cannot_be_decompressed_nothing_is_told_in_the_words_of_a_library(tmp_path: Path) -> None:
    write_tar(tmp_path / "cut.tar.gz", {f"class/{n:02d}.jpg": random.Random(n).randbytes(20_000) for n in range(50)})
    whole = (tmp_path / "cut.tar.gz").read_bytes()
    for num_bytes in (8, 100, len(whole) // 2, len(whole) - 2000, len(whole) - 9, len(whole) - 1):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:num_bytes])
        with pytest.raises(
            SourceError, match=r"archive: (it is damaged, or|it) ends too early, after \d+ files; get it"
        ):
            list_source(str(tmp_path / "cut.tar.gz"))


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_a_mistake_of_what_reads_labels_is_no_damage_to_the_archive(
    error: type[Exception], kind: str, tmp_path: Path
) -> None:
    write_tar(tmp_path / f"set.{kind}", {"a/1.jpg": b"x"})

    def mistaken(*_: object) -> Any:
        raise error("a mistake")

    uri = str(tmp_path / f"set.{kind}")
    for wants in (mistaken, lambda *_: mistaken):
        with pytest.raises(error, match=r"^a mistake$"):
            scan_archive(uri, Scan(size_bytes=os.path.getsize(uri)), wants, 1)


def test_archives_of_other_kinds_are_named(tmp_path: Path) -> None:
    for name in ("images.tar", "images.tar.xz"):
        with tarfile.open(tmp_path / name, "w:xz") as tar:
            tar.addfile(tarfile.TarInfo("a/1.jpg"))
        with pytest.raises(SourceError, match="is compressed with xz; unpack it, or compress it with gzip"):
            list_source(str(tmp_path / name))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"")
    with pytest.raises(
        SourceError, match=r"images\.zip is a zip archive; unpack it and give the folder, or make a tar"
    ):
        list_source(str(tmp_path / "images.zip"))
    (tmp_path / "images.parquet").write_bytes(b"PAR1 no, it is not")
    with pytest.raises(SourceError, match=r"images\.parquet is no Parquet file"):
        list_source(str(tmp_path / "images.parquet"))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (next(iter(BODIES.values())), r"is an image \(JPEG\)"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML page"),
        (b"<html>" + bytes(2000), "is an HTML page"),
        (b"path;label\na.jpg;a\n", "begins with 'path;lab'"),
    ],
)
def test_a_file_that_is_called_an_archive_and_is_none_is_told_for_what_it_is(
    body: bytes, told: str, suffix: str, tmp_path: Path
) -> None:
    source = tmp_path / f"images.{suffix}"
    source.write_bytes(body)
    with pytest.raises(SourceError, match=rf"images\.{suffix} is no archive: it {told}; get it again, or check"):
        list_source(str(source))
    source.write_bytes(gzip.compress(body))
    with pytest.raises(SourceError, match=rf"is no archive: decompressed, it {told}; get it again"):
        list_source(str(source))


@pytest.mark.parametrize(
    "body",
    [b"", gzip.compress(b"", mtime=0), gzip.compress(random.Random(0).randbytes(5000), mtime=0)[:300]],
    ids=["nothing", "an empty file", "the beginning of a gzip file"],
)
def test_an_archive_of_which_nothing_is_there_ends_too_early(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "images.tar.gz").write_bytes(body)
    told = rf"images\.tar\.gz is no whole archive: it .*ends too early, after 0 files; .* {len(body)} bytes"
    with pytest.raises(SourceError, match=told):
        list_source(str(tmp_path / "images.tar.gz"))


def test_an_archive_that_has_changed_since_is_trouble_with_storage(tmp_path: Path) -> None:
    made = make("tar", tmp_path / "made", BODIES)
    listing = list_source(made.source, split_lists=made.split_list)
    Path(made.source).write_bytes(Path(made.source).read_bytes()[:1000])
    with pytest.raises(StorageError, match="it has changed since it was listed"):
        list(read_images(listing.images))


@pytest.mark.parametrize("num_rows", [0, 1, 5, 10])
def test_parquet_that_has_fewer_rows_than_were_listed_is_trouble_with_storage(num_rows: int, tmp_path: Path) -> None:
    table = pa.table({"image": [b"%d" % row for row in range(12)], "label": [1] * 12})
    pq.write_table(table, tmp_path / "few.parquet", row_group_size=4)
    listing = list_source(str(tmp_path / "few.parquet"), test_fraction=0)
    for images_of_piece in (listing.images, listing.images[4:]):
        pq.write_table(table.slice(0, num_rows), tmp_path / "few.parquet", row_group_size=4)
        num_left = max(0, num_rows - (12 - len(images_of_piece)))
        there = replace(images_of_piece[0].container, size_bytes=(tmp_path / "few.parquet").stat().st_size)
        images = [replace(image, container=there) for image in images_of_piece]
        with pytest.raises(
            StorageError, match=f"has changed since .*: {num_left} of {len(images_of_piece)} rows came; start again"
        ):
            list(read_in_order(images, b""))


def test_a_tar_gz_that_rots_after_it_was_listed_is_trouble_with_storage(tmp_path: Path) -> None:
    made = make("tar.gz", tmp_path / "made", BODIES)
    listing = list_source(made.source, split_lists=made.split_list)
    whole = Path(made.source).read_bytes()
    Path(made.source).write_bytes(whole[:40] + np.random.default_rng(0).bytes(len(whole) - 40))
    with pytest.raises(StorageError, match=r"SUN\.tar\.gz cannot be decompressed \(.*get it again, or start again"):
        bytes_of(listing)


def test_few_of_many_tars_are_open_at_a_time(tmp_path: Path) -> None:
    bodies = {f"{shard:03d}/{number}": b"%d %d" % (shard, number) for shard in range(90) for number in range(3)}
    for shard in range(90):
        members = {f"{path}.jpg": body for path, body in bodies.items() if path.startswith(f"{shard:03d}/")}
        write_tar(tmp_path / f"{shard}.tar", members | {path.replace("jpg", "cls"): b"0" for path in members})
    listed = list(list_source(str(tmp_path), test_fraction=0).images)
    random.Random(0).shuffle(listed)
    before = len(os.listdir("/proc/self/fd"))
    num_open, read = [], {}
    for image, data in read_images(listed):
        num_open.append(len(os.listdir("/proc/self/fd")) - before)
        read[image.path.removesuffix(".jpg")] = data
    assert read == bodies
    assert list(map(str, read)) == [image.path.removesuffix(".jpg") for image in listed]
    assert max(num_open) == 64
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("num_images", "image_bytes", "container_bytes", "row_groups", "num_pieces"),
    [
        (1, 100, 100, (), 1), (256, 100, 25_600, (), 1), (257, 100, 25_700, (), 2), (512, 2**20, 2**29, (), 8),
        (400_000, 100, 40_000_000, (), 1000), (1_000_500, 100, 100_050_000, (), 1001),
        (4000, 2**25, 4000 * 2**25, (), 1000), (4000, 2**25, 2**30, (), 1000),
        (512, 0, 51_200, (0, 500), 2), (512, 0, 51_200, (0, 100, 300), 2), (100, 0, 2**28, (0, 20, 40, 90), 3),
    ],
)  # fmt: skip
def test_an_archive_is_staged_in_pieces_that_are_neither_large_nor_too_many(
    num_images: int, image_bytes: int, container_bytes: int, row_groups: tuple[int, ...], num_pieces: int
) -> None:
    kind: ContainerKind = "parquet" if row_groups else "tar.gz"
    container = Container(kind=kind, uri="x", size_bytes=container_bytes, row_groups=row_groups)
    one = ListedImage(path="x", label=0, splits=1, size_bytes=image_bytes, container=container)
    listed = [replace(one, position=row) for row in range(num_images)] if row_groups else [one] * num_images
    pieces = list(_pieces(container, listed))
    assert len(pieces) == num_pieces
    assert list(chain.from_iterable(pieces)) == listed
    assert all(piece[0].position in row_groups for piece in pieces if row_groups)


def test_a_staged_image_that_was_cut_short_is_trouble_with_storage(tmp_path: Path) -> None:
    made = make("tar.gz", tmp_path / "made", BODIES)
    listing = list_source(made.source, split_lists=made.split_list)
    config = IngestConfig(short_side=24)
    staged = [stage_piece(piece) for piece in plan_pieces(listing, str(tmp_path / "staging"), config)]
    (plan,) = plan_assembly(listing, str(tmp_path / "dataset"), config, staged)
    assert assemble_block(plan).written.num_samples == len(BODIES)
    (file,) = (tmp_path / "staging").glob("piece-*.bin")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"piece-000000-.*\.bin ended within .*; start again"):
        assemble_block(plan)


def test_parquet_without_paths_names_images_by_file_and_row(tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = pa.table({"img": [b"one", b"two"], "label": ["dog", "cat"]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    listing = list_source(str(tmp_path))
    assert listing.classes == ("cat", "dog")
    assert [image.path for image in listing.images] == [
        "test/000000", "test/000001", "train/000000", "train/000001",
    ]  # fmt: skip
    assert bytes_of(listing)["train/000001"] == b"two"


def test_parquet_whose_paths_repeat_names_images_by_file_and_row(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "data", "train", BODIES, num_shards=1)
    write_hugging_face(tmp_path / "data", "test", BODIES, num_shards=1)
    listing = list_source(str(tmp_path))
    assert len(listing.images) == 2 * len(BODIES)
    assert listing.images[0].path == "data/test-00000-of-00001/000000"


def test_rows_without_bytes_are_the_images_fault(tmp_path: Path) -> None:
    table = pa.table({"image": [b"one", None, b"three"], "label": [1, 1, 5]})
    pq.write_table(table, tmp_path / "few.parquet")
    listing = list_source(str(tmp_path / "few.parquet"), test_fraction=0)
    assert listing.classes == ("1", "5")
    read = bytes_of(listing)
    assert isinstance(read["few/000001"], DecodeError)
    assert read["few/000002"] == b"three"


def test_a_row_of_too_many_bytes_is_the_images_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_SOURCE_BYTES", 1000)
    bodies = [bytes([row]) * (1001 if row % 5 == 2 else 1000) for row in range(40)]
    pq.write_table(pa.table({"image": bodies, "label": [1] * 40}), tmp_path / "few.parquet", row_group_size=30)
    read = bytes_of(list_source(str(tmp_path / "few.parquet"), test_fraction=0))
    for row, body in enumerate(bodies):
        found = read[f"few/{row:06d}"]
        assert str(found) == "size: 1001 bytes are more than 1000" if row % 5 == 2 else found == body


@pytest.mark.parametrize(
    ("row_group_bytes", "num_rows"), [(0, 16), (2**26, 16), (2**26 + 1, 15), (2**29, 2), (2**30, 1), (2**40, 1)]
)
def test_rows_that_are_read_at_once_have_no_more_bytes_than_an_image_may(row_group_bytes: int, num_rows: int) -> None:
    """Also where each of them holds the same value, as a dictionary allows."""
    assert rows_at_once(row_group_bytes) == num_rows
    assert num_rows == 1 or num_rows * row_group_bytes <= 2**30


def latin(*texts: str) -> pa.Array:
    """Texts as a careless program writes them."""
    return pa.array([text.encode("latin-1") for text in texts], pa.binary()).view(pa.string())


IMAGE = pa.array([b"one", b"two"])
LABEL = pa.array([0, 1])


def about(label: object) -> dict[bytes, bytes]:
    """What the `datasets` library notes about the column `label`."""
    return {b"huggingface": json.dumps({"info": {"features": {"label": label}}}).encode()}


def in_struct(**columns: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


@pytest.mark.parametrize(
    ("columns", "metadata", "message"),
    [
        ([("image", IMAGE), ("label", LABEL), ("label", LABEL)], {}, "has 2 columns named 'label'; rename all but one"),
        ([("image", IMAGE), ("image", IMAGE), ("label", LABEL)], {}, "has 2 columns named 'image'; rename all but one"),
        (
            [("image", in_struct(bytes=IMAGE)), ("image.bytes", IMAGE), ("label", LABEL)],
            {},
            r"has 2 columns named 'image\.bytes'",
        ),
        ([("image", in_struct(bytes=in_struct(bytes=IMAGE))), ("label", LABEL)], {}, "has no column of images"),
        ([("image", pa.array([[1], [2]])), ("label", LABEL)], {}, "has no column of images"),
        (
            [("image", IMAGE), ("label", pa.array([0.0, 1.0]))],
            {},
            r"no column of labels .* \(columns: image, label \(double\)\); .* names or whole numbers in it",
        ),
        ([("image", IMAGE), ("label", pa.array([[0], [1]]))], {}, r"no column of labels .* label \(list<.*\)\)"),
        ([("image", IMAGE), ("label", pa.nulls(2))], {}, r"no column of labels .* label \(null\)\)"),
        (
            [("image", IMAGE), ("label", pa.array([None, 1]))],
            {},
            r"1 row of .* has no label \(row 1\); give them one",
        ),
        (
            [("image", IMAGE), ("label", pa.array([None, None], pa.int64()))],
            {},
            r"2 rows of .* have no label \(row 1, 2\)",
        ),
        (
            [("image", IMAGE), ("label", latin("sea", "café"))],
            {},
            r"row 2 of .*odd\.parquet has text in the column 'label' that is not UTF-8 \(.*\); write it in UTF-8",
        ),
        (
            [("image", in_struct(bytes=IMAGE, path=latin("é", "2"))), ("label", LABEL)],
            {},
            r"row 1 of .* has text in the column 'image\.path' that is not UTF-8",
        ),
        (
            [("image", IMAGE), ("label", LABEL)],
            about({"names": {"0": "sea"}}),
            "the names of 'label' .* no list of texts",
        ),
        (
            [("image", IMAGE), ("label", LABEL)],
            about({"names": ["sea", 1]}),
            "the names of 'label' .* no list of texts",
        ),
        ([("path", LABEL), ("label", LABEL)], {}, "a table of paths and labels is given itself, not its folder"),
    ],
)
def test_odd_columns_are_told(
    columns: list[tuple[str, pa.Array]], metadata: dict[bytes, bytes], message: str, tmp_path: Path
) -> None:
    names, arrays = zip(*columns, strict=True)
    table = pa.Table.from_arrays(list(arrays), list(names)).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "odd.parquet")
    with pytest.raises(SourceError, match=message) as caught:
        list_source(str(tmp_path), test_fraction=0)
    assert f"{tmp_path}/odd.parquet" in str(caught.value)


@pytest.mark.parametrize("features", [[{"name": "label"}], {"label": None}, {"label": {"names": None}}, "label", None])
def test_odd_notes_about_columns_are_none(features: object, tmp_path: Path) -> None:
    notes = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"image": IMAGE, "label": LABEL}).replace_schema_metadata(notes)
    pq.write_table(table, tmp_path / "few.parquet")
    assert list_source(str(tmp_path), test_fraction=0).classes == ("0", "1")


def test_paths_of_an_odd_type_name_no_images(tmp_path: Path) -> None:
    for kind in (pa.list_(pa.string()), pa.binary(), pa.null()):
        image = in_struct(bytes=IMAGE, path=pa.nulls(2, kind))
        pq.write_table(pa.table({"image": image, "label": LABEL}), tmp_path / "few.parquet")
        listing = list_source(str(tmp_path / "few.parquet"), test_fraction=0)
        assert bytes_of(listing) == {"few/000000": b"one", "few/000001": b"two"}


def test_numbers_are_named_by_the_labels_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"one", b"two"], "label": [0, 2]}), tmp_path / "few.parquet")
    names = tmp_path / "names.txt"
    names.write_text("ape\nbee\ncat\n")
    listing = list_source(str(tmp_path / "few.parquet"), labels=str(names), test_fraction=0)
    assert listing.classes == ("ape", "bee", "cat")
    assert [image.label for image in listing.images] == [0, 2]
    names.write_text("ape\nbee\n")
    with pytest.raises(SourceError, match=r"1 label of .* is not among the 2 classes of .*names\.txt \(2\); give all"):
        list_source(str(tmp_path / "few.parquet"), labels=str(names))


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_labels_file_orders_numbers_by_the_names_that_come_with_them(kind: str, tmp_path: Path) -> None:
    source, names = tmp_path / "source", tmp_path / "names.txt"
    bodies = {f"{name}/{number}.jpg": b"" for number, name in enumerate(("coast", "forest", "sand"))}
    if kind == "parquet":
        features = {"info": {"features": {"label": {"names": ["coast", "forest", "/s/sand"], "_type": "ClassLabel"}}}}
        table = pa.table({"image": [path.encode() for path in bodies], "label": [0, 1, 2]})
        source.mkdir()
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(features)}), source / "train-0-of-1.parquet"
        )
    else:
        source.mkdir()
        (source / "classnames.txt").write_text("coast\nforest\n/s/sand\n")
        write_tar(
            source / "train-0.tar",
            {
                f"{number}.{suffix}": body
                for number in range(3)
                for suffix, body in (("jpg", b""), ("cls", str(number).encode()))
            },
        )
    names.write_text("/s/sand\n/c/coast\n/f/forest\n")
    listing = list_source(str(source), labels=str(names))
    assert listing.classes == ("sand", "coast", "forest")
    assert [image.label for image in listing.images] == [1, 2, 0]
    names.write_text("/c/coast\n/f/forest\n")
    with pytest.raises(SourceError, match=r"1 label of .* is not among the 2 classes of .*names\.txt \(s/sand\)"):
        list_source(str(source), labels=str(names))


def damaged_tar(folder: Path, change: Callable[[bytearray, int], None]) -> Path:
    """Twenty images; `change` is given the archive, and where the header of the tenth begins."""
    whole = folder / "whole.tar"
    write_tar(whole, {f"class/{number:02d}.jpg": bytes([number]) * 3000 for number in range(20)})
    with tarfile.open(whole) as tar:
        place = tar.getmember("class/10.jpg").offset
    body = bytearray(whole.read_bytes())
    change(body, place)
    whole.write_bytes(body)
    return whole


def flip(body: bytearray, place: int) -> None:
    body[place + 10] ^= 4


def cut_within(body: bytearray, place: int) -> None:
    del body[place + 100 :]


def cut_before(body: bytearray, place: int) -> None:
    del body[place:]


def resize_to(size: bytes) -> Callable[[bytearray, int], None]:
    def change(body: bytearray, place: int) -> None:
        header = body[place : place + 512]
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        body[place : place + 512] = header

    return change


@pytest.mark.parametrize(
    "change",
    [
        flip,
        cut_within,
        cut_before,
        resize_to((-512).to_bytes(12, "big", signed=True)),
        resize_to((-1024).to_bytes(12, "big", signed=True)),
        resize_to(b"\x80" + (2**70).to_bytes(11, "big")),
    ],
)
@pytest.mark.timeout(60)
def test_a_damaged_tar_is_not_taken_for_a_shorter_one(change: Callable[[bytearray, int], None], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no whole archive: "):
        list_source(str(damaged_tar(tmp_path, change)))


def test_a_header_that_announces_a_name_of_gigabytes_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**31
    (tmp_path / "long.tar").write_bytes(info.tobuf() + bytes(10_000))
    with pytest.raises(SourceError, match="a header says 2147483648 bytes"):
        list_source(str(tmp_path / "long.tar"))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet"])
def test_an_archive_that_was_replaced_is_not_read(kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path / "made", BODIES)
    listing = list_source(made.source, labels=made.labels, split_lists=made.split_list)
    container = Path(listing.images[0].container.uri)
    container.write_bytes(container.read_bytes() + b"0")
    images = [image for image in listing.images if image.container.uri == str(container)]
    images.sort(key=lambda image: image.position)
    with pytest.raises(StorageError, match="it has changed since it was listed"):
        list(read_in_order(images, images[0].container.seek_index))


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz"])
def test_an_image_of_gigabytes_is_not_read(kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path / "made", BODIES)
    listing = list_source(made.source, labels=made.labels, split_lists=made.split_list)
    first = replace(listing.images[0], size_bytes=2**30 + 1)
    read = read_images if kind != "tar.gz" else partial(read_in_order, seek_index=first.container.seek_index)
    ((_, body),) = read([first])
    assert str(body) == "size: 1073741825 bytes are more than 1073741824"


def test_zero_padded_labels_are_names(tmp_path: Path) -> None:
    members = {"a.jpg": b"", "a.cls": b"007", "b.jpg": b"", "b.cls": b"7"}
    write_tar(tmp_path / "0.tar", members)
    assert list_source(str(tmp_path / "0.tar"), test_fraction=0).classes == ("007", "7")


def test_a_list_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    made = make("folder", tmp_path / "made", BODIES)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"class list \(--labels\) .*pipe is no file"):
        list_source(made.source, labels=str(tmp_path / "pipe"))
    with pytest.raises(SourceError, match=r"split list .*pipe is no file"):
        list_source(made.source, labels=made.labels, split_lists=[f"train={tmp_path / 'pipe'}"])


def test_a_source_of_no_rows_is_told(tmp_path: Path) -> None:
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    pq.write_table(schema.empty_table(), tmp_path / "none.parquet")
    with pytest.raises(SourceError, match="holds no images"):
        list_source(str(tmp_path / "none.parquet"))


def test_images_without_labels_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"one"], "text": ["a dog"]}), tmp_path / "captions.parquet")
    with pytest.raises(SourceError, match=r"no column of labels beside the images in 'image' \(columns: image, text\)"):
        list_source(str(tmp_path / "captions.parquet"))
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(SourceError, match=r"has no column of images \(columns: x\)"):
        list_source(str(tmp_path / "numbers.parquet"))
    write_tar(tmp_path / "some.tar", {"1.jpg": b"x", "1.cls": b"0", "2.jpg": b"x"})
    with pytest.raises(SourceError, match=r"1 image of .* has no label beside it \(2\.jpg in some\.tar\)"):
        list_source(str(tmp_path / "some.tar"))


def test_webdataset_labels_come_from_cls_json_or_txt(tmp_path: Path) -> None:
    write_tar(tmp_path / "named.tar", {"1.jpg": b"x", "1.cls": b"dog\n", "2.png": b"x", "2.txt": b"cat"})
    assert list_source(str(tmp_path / "named.tar"), test_fraction=0).classes == ("cat", "dog")
    members = {"1.seg.jpg": b"x", "1.json": json.dumps({"cls": 3, "width": 5}).encode()}
    write_tar(tmp_path / "json.tar", members)
    assert list_source(str(tmp_path / "json.tar"), test_fraction=0).classes == ("3",)


def test_of_files_beside_images_only_labels_are_kept(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(400):
        about = {"note": "x" * 30_000, "label": ("dog", "cat")[number % 2]}
        members |= {f"{number}.jpg": b"x", f"{number}.json": json.dumps(about).encode(), f"{number}.txt": b"y" * 30_000}
    write_tar(tmp_path / "long.tar", members)
    tracemalloc.start()
    try:
        listing = list_source(str(tmp_path / "long.tar"), test_fraction=0)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert listing.classes == ("cat", "dog")
    assert Counter(image.label for image in listing.images) == {0: 200, 1: 200}
    assert peak_bytes < sum(map(len, members.values())) / 5


def test_neither_a_caption_nor_odd_json_is_a_label(tmp_path: Path) -> None:
    members = {"1.jpg": b"x", "1.txt": b"a" * 255, "2.jpg": b"x", "2.txt": b"a dog " * 50}
    write_tar(tmp_path / "few.tgz", members | {"3.jpg": b"x", "3.json": b"[" * 60_000})
    with pytest.raises(SourceError, match=r"2 images of .* have no label beside them \(2\.jpg in few\.tgz, 3\.jpg in"):
        list_source(str(tmp_path / "few.tgz"))


def test_a_label_may_have_the_name_of_a_list(tmp_path: Path) -> None:
    members = {"ClassName.jpg": b"x", "ClassName.txt": b"dog\n", "Training_01.jpg": b"x", "Training_01.txt": b"7"}
    write_tar(tmp_path / "odd.tar", {**members, "Training_01.cls": b"cat"})
    assert list_source(str(tmp_path / "odd.tar"), test_fraction=0).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("num_archives", "num_cores", "num_threads"),
    [(1, 16, 16), (2, 16, 8), (3, 16, 5), (8, 16, 2), (5000, 16, 2), (5000, 2, 1), (1, 1, 1), (8, 7, 1)],
)
def test_archives_that_are_decompressed_together_share_the_cores(
    num_archives: int, num_cores: int, num_threads: int
) -> None:
    assert threads_each(num_archives, num_cores) == num_threads


@pytest.mark.parametrize("num_archives", [1, 2])
def test_a_quota_on_cores_counts_for_archives(
    num_archives: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(limits, "_quotas", lambda _: [6.5])
    scan, seen = source.scan_archive, []

    def seeing_scan(uri: str, noted: Scan, wants: Wants, num_threads: int) -> Archive:
        seen.append(num_threads)
        return scan(uri, noted, wants, num_threads)

    monkeypatch.setattr(source, "scan_archive", seeing_scan)
    for shard in range(num_archives):
        write_shard(tmp_path / f"shard-{shard}.tar.gz", dict(list(BODIES.items())[:3]))
    list_source(str(tmp_path if num_archives > 1 else tmp_path / "shard-0.tar.gz"))
    assert seen == [6 // num_archives] * num_archives


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("reads", [0, 3, 30])
def test_an_archive_that_cannot_be_read_is_not_a_damaged_one(num_threads: int, reads: int) -> None:
    class Failing(io.BytesIO):
        reads_left = reads

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads_left -= 1
            if self.reads_left < 0:
                raise StorageError("the store does not answer")
            return super().read(size)

    file = Failing(gzip.compress(random.Random(0).randbytes(20_000_000), 1))
    with (
        pytest.raises(StorageError, match=r"^the store does not answer$"),
        opened_gzip(file, num_threads, SourceError) as reader,
    ):
        reader.read()


def test_shards_with_equal_keys_do_not_collide(tmp_path: Path) -> None:
    for shard in range(2):
        write_shard(tmp_path / f"shard-{shard}.tar", dict(list(BODIES.items())[:3]))
    listing = list_source(str(tmp_path), labels=None)
    assert len({image.path for image in listing.images}) == 6
    assert listing.images[0].path.startswith("shard-0/")
    assert listing.split_names == ("train", "test")


def test_leaf_names_that_repeat_are_classes_of_their_own(tmp_path: Path) -> None:
    bodies = {f"{place}/{door}/1.jpg": b"x" for place in ("pool", "church") for door in ("indoor", "outdoor")}
    write_tree(tmp_path / "set", bodies)
    labels = tmp_path / "labels.txt"
    labels.write_text("church/outdoor\nchurch/indoor\npool/outdoor\npool/indoor\n")
    listing = list_source(str(tmp_path / "set"), labels=str(labels), test_fraction=0)
    assert listing.classes == ("church/outdoor", "church/indoor", "pool/outdoor", "pool/indoor")
    assert Counter(image.label for image in listing.images) == dict.fromkeys(range(4), 1)


def test_a_labels_file_overrules_the_class_list_and_must_be_there(tmp_path: Path) -> None:
    made = make("folder", tmp_path / "made", BODIES)
    labels = tmp_path / "labels.txt"
    labels.write_text("a/abbey\nc/church/indoor\nc/church/outdoor\n")
    assert list_source(made.source, labels=str(labels)).classes == ("abbey", "church/indoor", "church/outdoor")
    with pytest.raises(SourceError, match=r"the class list .*none\.txt does not exist"):
        list_source(made.source, labels=str(tmp_path / "none.txt"))


def test_names_without_images_are_told_where_the_source_brings_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A part of a set is often had with the names of the whole."""
    few = {path: body for path, body in BODIES.items() if class_of(path) != "abbey"}
    write_hugging_face(tmp_path / "data", "train", few)
    with caplog.at_level(logging.WARNING):
        assert list_source(str(tmp_path)).classes == CLASSES
    assert "1 of the 3 classes of" in caplog.text
    assert "have no images: abbey" in caplog.text


def test_mistakes_in_tables_are_told(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"x"})

    def listed(*rows: dict[str, str]) -> Listing:
        return list_source(write_table("csv", tmp_path, list(rows)), test_fraction=None)

    for rows, match in (
        ([{"path": "gone.jpg", "label": "x"}], r"1 file that .*table\.csv names does not exist \(gone\.jpg\)"),
        ([{"path": "a.jpg", "label": ""}], "line 2 of .* lacks a path or a label"),
        (
            [{"path": "a.jpg", "label": "x"}, {"path": "./a.jpg", "label": "y"}],
            r"line 3 of .* gives a\.jpg another label, y, than a line before it, x",
        ),
        ([{"file": "a.jpg", "label": "x"}], r"has no column path \(columns: file, label\)"),
    ):
        with pytest.raises(SourceError, match=match):
            listed(*rows)
    for row, in_json, in_parquet in (
        (
            {"path": ["a.jpg"], "label": "x"},
            r"line 1 of .* has the path \['a\.jpg'\]",
            r"the column 'path' .* is list<",
        ),
        (
            {"path": "a.jpg", "label": "x", "split": {"of": "train"}},
            "line 1 .* has the split {",
            "'split' .* is struct<",
        ),
        (
            {"path": "a.jpg", "label": 1.5},
            "line 1 .* has the label 1.5; it needs",
            "label column .* is double; it needs",
        ),
    ):
        for kind, match in (("jsonl", in_json), ("parquet table", in_parquet)):
            with pytest.raises(SourceError, match=match):
                list_source(write_table(kind, tmp_path, [row]))
    (tmp_path / "table.csv").write_text("path,label\n")
    with pytest.raises(SourceError, match="has no rows"):
        list_source(str(tmp_path / "table.csv"))


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("t.csv", "path,label\na.jpg,x\ncafé.jpg,x\n".encode("latin-1"), r"line 3 of .* is not UTF-8 \("),
        ("t.csv", "path,label,größe\na.jpg,x,1\n".encode("latin-1"), r"line 1 of .* is not UTF-8 \("),
        (
            "t.csv",
            "path,label\na.jpg,x\n".encode("utf-16"),
            r"line 1 of .* is not UTF-8 but UTF-16; store the table as",
        ),
        (
            "t.csv",
            b"path,label\na.jpg,x\nb.jpg\n",
            r"line 3 of .*t\.csv has 1 column, and its header 2: b\.jpg; mend it",
        ),
        (
            "t.csv",
            b"path,label\na,b.jpg,x\n",
            r"line 2 of .* has 3 columns, .*: a,b\.jpg,x; .* holds ',' stands in quotes",
        ),
        ("t.csv", b'path,label\na.jpg,"x\n', r"line 2 of .* cannot be read \(.*\); mend its quotes"),
        ("t.csv", b"path,label,label\na.jpg,x,y\n", "has 2 columns named 'label'; rename all but one"),
        ("t.csv", b"path,Label ,label\na.jpg,x,y\n", "has 2 columns named 'label'; rename all but one"),
        ("t.csv", b"", r"t\.csv is empty"),
        (
            "t.csv",
            b"a.jpg,x\nb.jpg,y\n",
            r"t\.csv has no header: its first line names an image, a\.jpg; write .*path,label",
        ),
        ("t.csv", b"path|label\na.jpg|x\n", r"t\.csv parts its columns by '\|'; write commas, semicolons or tabs"),
        ("t.csv", b"Label Path\nx a.jpg\n", r"t\.csv parts its columns by ' '; write commas"),
        (
            "t.csv",
            b"sep=;\npath;label\na.jpg;x\n",
            r"t\.csv begins with sep=.*, a note to Excel .*; take that line out",
        ),
        ("t.csv", b"file|label\na.jpg|x\n", r"t\.csv has no column path and none label \(columns: file\|label\)"),
        (
            "t.csv",
            b"path,label\nsub\\a.jpg,x\n",
            r"does not exist \(sub\\a\.jpg\); these are paths of Windows: write / for \\$",
        ),
        (
            "t.csv",
            b"path,label\nC:/images/a.jpg,x\n",
            r"does not exist \(C:/images/a\.jpg\); these are paths of Windows: leave the drive out, .* begin with /$",
        ),
        (
            "t.csv",
            b"path,label\nC:\\images\\a.jpg,x\n",
            r"exist \(C:\\images\\a\.jpg\); these are paths of Windows: write / for \\, and leave the drive out, ",
        ),
        ("t.csv", b"path,label\nfile:///c:/a.jpg,x\n", r"these are paths of Windows: leave the drive out"),
        ("t.csv", b"path,label\nCD:/a.jpg,x\n", r"paths are relative to the table's folder, absolute, or URIs$"),
        (
            "t.csv",
            b"label,path\nx, a.jpg\n",
            r"does not exist \( a\.jpg\); some have white space around them: take it out",
        ),
        (
            "t.csv",
            b"path,label\na.jpg,x\n\0.jpg,x\n",
            r"line 3 of .*t\.csv has a zero byte in its path \('\\x00\.jpg'\)",
        ),
        ("t.csv", b"path,label\nfile:///a%00/b.jpg,x\n", r"line 2 of .* has a zero byte in its path"),
        ("t.csv", b"path,label\ngone/a.jpg," + b"9" * 5000, r"1 file that .* names does not exist \(gone/a\.jpg\)"),
        ("t.csv", b'path,label\r\n\r\na.jpg,"x\ny"\r\n,\r\nb.jpg,\r\n', r"line 6 of .* lacks a path or a label"),
        ("t.jsonl", '{"path": "a.jpg", "label": "café"}'.encode("latin-1"), r"line 1 of .*t\.jsonl is not UTF-8"),
        (
            "t.jsonl",
            '{"path": "a.jpg", "label": "x"}'.encode("utf-16"),
            r"line 1 of .*t\.jsonl is not UTF-8 but UTF-16",
        ),
        ("t.jsonl", b'{"path": "a\\u0000/b.jpg", "label": "x"}', r"line 1 of .* has a zero byte in its path"),
        ("t.jsonl", b'{"path": "a\\ud800.jpg", "label": "x"}', r"line 1 of .* has half a character in its path"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": "x"}\n\n{"path": "b.jpg", "label": null}',
            r"line 3 of .* lacks a path",
        ),
        ("t.jsonl", b'{"path": "a.jpg", "label": true}', r"line 1 of .*t\.jsonl has the label True; it needs a name"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": 1, "label": 2}',
            r"line 1 of .*t\.jsonl has 2 columns named 'label'; rename",
        ),
        ("t.jsonl", b'{"path": "a.jpg", "label": 1, "Label": 2}', r"line 1 of .*t\.jsonl has 2 columns named 'label'"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": 1}\n{"path": ',
            r"line 2 of .* is no JSON \(Expecting value at letter 10\)",
        ),
        ("t.jsonl", b"[" * 100_000, r"line 1 of .*t\.jsonl is no JSON \("),
        ("t.json", b'[{"path": "a.jpg", "label": 1}]', r"line 1 of .*t\.json is no JSON object .* one object a line"),
        ("t.jsonl", b'{"file": "a.jpg", "label": 1}', r"t\.jsonl has no column path \(columns: file, label\)"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": "x"}\n{"path": "b.jpg", "label": 3}',
            r"t\.jsonl names some labels \(x, line 1\) and numbers others \(3, line 2\); put the numbers in quotes",
        ),
    ],
)
def test_odd_tables_are_told(name: str, body: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / name).write_bytes(body)
    with pytest.raises(SourceError, match=message) as caught:
        list_source(str(tmp_path / name))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            [("path", latin("é.jpg")), ("label", pa.array([1]))],
            "row 1 of .* has text in the column 'path' .* not UTF-8",
        ),
        (
            [("path", pa.array(["a.jpg"])), ("label", latin("é"))],
            "row 1 of .* has text in the column 'label' .* not UTF-8",
        ),
        ([("path", pa.array(["a\0.jpg"])), ("label", pa.array([1]))], "row 1 of .* has a zero byte in its path"),
        ([("path", pa.array(["a.jpg"]))] + [("label", pa.array([1]))] * 2, "has 2 columns named 'label'"),
    ],
)
def test_odd_tables_of_parquet_are_told(columns: list[tuple[str, pa.Array]], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    names, arrays = zip(*columns, strict=True)
    pq.write_table(pa.Table.from_arrays(list(arrays), list(names)), tmp_path / "table.parquet")
    with pytest.raises(SourceError, match=message):
        list_source(str(tmp_path / "table.parquet"))


def test_a_table_that_was_damaged_is_no_unexpected_error(tmp_path: Path) -> None:
    table = pa.table({"path": [f"{row}.jpg" for row in range(1000)], "label": [1] * 1000})
    pq.write_table(table, tmp_path / "table.parquet")
    body = bytearray((tmp_path / "table.parquet").read_bytes())
    body[4:400] = bytes(396)
    (tmp_path / "table.parquet").write_bytes(body)
    with pytest.raises((SourceError, StorageError), match=r"table\.parquet"):
        list_source(str(tmp_path / "table.parquet"))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("t.csv", b"path;label;split\na.jpg;x, y;train\nb.jpg;z;test\n"),
        ("t.tsv", b"path\tlabel\tsplit\na.jpg\tx, y\ttrain\nb.jpg\tz\ttest\n"),
        ("t.csv", b'"path";"label";"split"\r\n"a.jpg";"x, y";"train"\r\n"b.jpg";"z";"test"\r\n;;\r\n'),
        ("t.CSV", b'\n PATH, Label ,other,SPLIT\na.jpg,"x, y",1, train \n\nb.jpg, z ,2,test\n'),
        ("t.csv", b'\xef\xbb\xbfpath,label,split\na.jpg,"x, y",train\nb.jpg,z,test'),
        ("t.csv", b'path,label,split\ra.jpg,"x, y",train\rb.jpg,z,test\r'),
        ("t.jsonl", b'\xef\xbb\xbf{"Path": "a.jpg", "label ": "x, y", "split": "train "}\n\n'
                    b'{"split": "test", "Path": "b.jpg", "label ": " z"}'),
    ],
)  # fmt: skip
def test_tables_are_taken_as_spreadsheets_write_them(name: str, body: bytes, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"y", name: body})
    listing = list_source(str(tmp_path / name))
    assert (listing.classes, listing.split_names) == (("x, y", "z"), ("train", "test"))
    assert [(image.path, image.label, image.splits) for image in listing.images] == [("a.jpg", 0, 1), ("b.jpg", 1, 2)]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("t.csv", f'path,label,about\na.jpg,x,"{"long " * 100_000}"\n'.encode()),
        ("t.jsonl", b'{"path": "a.jpg", "label": "x", "about": {"of": 1, "of": 2}, "about": {"path": 1, "path": 2}}'),
    ],
)
def test_other_columns_are_left_alone(name: str, body: bytes, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", name: body})
    assert [image.path for image in list_source(str(tmp_path / name)).images] == ["a.jpg"]


@pytest.mark.parametrize(
    ("num_letters", "cause"),
    [(500_000, "unexpected end of data"), (17_000_000, r"field larger than field limit \(16777216\)")],
)
def test_a_quote_without_an_end_is_told_at_its_line(num_letters: int, cause: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('path,label\na.jpg,x\nb.jpg,"y\n' + "c.jpg,z\n" * (num_letters // 8))
    with pytest.raises(SourceError, match=rf"line 3 of .*t\.csv cannot be read \({cause}\); mend its quotes"):
        list_source(str(tmp_path / "t.csv"))


def test_of_a_folder_of_tables_the_way_to_give_one_is_told_in_capitals_too(tmp_path: Path) -> None:
    write_table("parquet table", tmp_path, [{"Path": "a.jpg", "LABEL": "x"}])
    with pytest.raises(SourceError, match=r"no column of images .* a table of paths and labels is given itself, not"):
        list_source(str(tmp_path))


def test_columns_of_parquet_may_be_in_capitals_too(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"y"})
    rows = [{"Path": "a.jpg", "LABEL": "x ", "Split": "train"}, {"Path": "b.jpg", "LABEL": "x", "Split": " train"}]
    listing = list_source(write_table("parquet table", tmp_path, rows))
    assert (listing.classes, listing.split_names) == (("x",), ("train",))


def test_a_column_that_gives_each_image_a_split_of_its_own_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(65)})
    lines = [f"{number}.jpg,x,s{number:02d}" for number in range(65)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *lines]))
    with pytest.raises(
        SourceError, match=r"t\.csv has 65 splits \(s00, s01, .* and 60 more\), but .* holds 64 at most"
    ):
        list_source(str(tmp_path / "t.csv"))


def test_names_that_are_nearly_equal_are_told_once_and_stay_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(5)})
    cells = ["BEACH,Train", "beach,train", "beach ,train ", "old town,test", "oldtown,test"]
    lines = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *lines]))
    listing = list_source(str(tmp_path / "t.csv"))
    assert listing.classes == ("BEACH", "beach", "old town", "oldtown")
    assert listing.split_names == ("train", "test", "Train")
    told = [record.getMessage() for record in caplog.records if "white space" in record.getMessage()]
    assert len(told) == 2
    assert "classes whose names differ in nothing but capitals, white space and how accents are stored" in told[0]
    assert "'BEACH' (1) and 'beach' (2), 'old town' (1) and 'oldtown' (1); give them one name" in told[0]
    assert "splits whose" in told[1]
    assert "'train' (2) and 'Train' (1); give" in told[1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["beach", "0", "0"], r"names some labels \(beach, {0}\) and numbers others \(0, {1}\); name all, or number"),
        (["1", "1.5", "0"], r"names some labels \(1\.5, {1}\) and numbers others \(1, {0}\)"),
        (["0", "00", "1"], r"spells one number in two ways, 0 \({0}\) and 00 \({1}\)"),
        (["0", "07", "7.0"], r"spells one number in two ways, 07 \({1}\) and 7\.0 \({2}\); spell it in one, without"),
        (["0", "nan", "1"], r"^{1} of .* has the label nan; labels that are numbers are 0 or more: complete it"),
        (["0.0", "1.0", "-1.0"], r"^{2} of .* has the label -1\.0; labels that are numbers"),
    ],
)
@pytest.mark.parametrize(("kind", "unit", "first"), [("csv", "line", 2), ("parquet table", "row", 1)])
def test_labels_of_a_table_are_all_names_or_all_numbers_of_classes(
    labels: list[str], message: str, kind: str, unit: str, first: int, tmp_path: Path
) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(3)})
    table = write_table(kind, tmp_path, [{"path": f"{n}.jpg", "label": label} for n, label in enumerate(labels)])
    with pytest.raises(SourceError, match=message.format(*(f"{unit} {first + n}" for n in range(3)))):
        list_source(table)


@pytest.mark.parametrize(
    ("kind", "labels", "classes"),
    [
        ("csv", ["0", "1", "10"], ("0", "1", "10")),
        ("csv", ["0.0", "1.00", "1"], ("0", "1")),
        ("csv", ["08", "09", "10"], ("08", "09", "10")),
        ("csv", ["0.5", "1.5", "x"], ("0.5", "1.5", "x")),
        ("jsonl", [1, "0.0", "007"], ("0", "1", "7")),
        ("jsonl", ["beach", "0", "0"], ("0", "beach")),
    ],
)
def test_numbers_of_classes_are_numbers_however_they_are_written(
    kind: str, labels: list[str | int], classes: tuple[str, ...], tmp_path: Path
) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(3)})
    table = write_table(kind, tmp_path, [{"path": f"{n}.jpg", "label": label} for n, label in enumerate(labels)])
    assert list_source(table).classes == classes


def test_no_class_has_a_negative_number(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"x"})
    rows = [{"path": "a.jpg", "label": 0}, {"path": "b.jpg", "label": -1}]
    for kind, place in (("jsonl", "line 2"), ("parquet table", "row 2")):
        with pytest.raises(SourceError, match=f"^{place} of .* has the label -1; labels that are numbers are 0 or"):
            list_source(write_table(kind, tmp_path, rows))


def test_names_that_differ_in_how_accents_are_stored_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"path": "1.jpg", "label": "Cafe\u0301"}, {"path": "2.jpg", "label": "caf\u00e9"}]
    write_tree(tmp_path, {"1.jpg": b"x", "2.jpg": b"x"})
    assert len(list_source(write_table("csv", tmp_path, rows)).classes) == 2
    assert "'Cafe\u0301' (1) and 'caf\u00e9' (1); give them one name" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "parquet table", "webdataset", "tar.gz", "folder"])
def test_a_single_class_is_told_of_every_kind(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = str(tmp_path)
    if kind == "folder":
        write_tree(tmp_path, {"sand/dry/a.jpg": b"x"})
    elif kind == "webdataset":
        write_tar(tmp_path / "0.tar", {"a.jpg": b"x", "a.cls": b"sand"})
    elif kind == "tar.gz":
        write_tar(tmp_path / "flat.tar.gz", {"sand/a.jpg": b"x"})
    else:
        write_tree(tmp_path, {"a.jpg": b"x"})
        source = write_table(kind, tmp_path, [{"path": "a.jpg", "label": "sand"}])
    list_source(source)
    told = r" holds a single class, sand, with the folders dry in it: are" if kind == "folder" else "class, sand\n"
    assert re.search(told, caplog.text)


@pytest.mark.parametrize("kind", ["folder", "tar", "webdataset"])
def test_hidden_images_are_left_out_and_counted(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = ["a/1.jpg", "b/1.jpg"]
    hidden = ["__MACOSX/a/1.jpg", "a/.2.jpg", ".old/3.jpg", "a/.DS_Store"]
    bodies = dict.fromkeys([*there, *hidden], b"x")
    if kind == "folder":
        write_tree(tmp_path, bodies)
    else:
        labels = {path.replace(".jpg", ".cls"): b"0" for path in bodies} if kind == "webdataset" else {}
        write_tar(tmp_path / "0.tar", bodies | labels)
    listing = list_source(str(tmp_path))
    assert [image.path for image in listing.images] == there
    assert listing.left_out == {"hidden image": 3}
    told = re.findall(r"(\d) images are hidden and left out \(.*\), for instance (.*); rename", caplog.text)
    assert len(told) == 1
    assert told[0][0] == "3"
    assert told[0][1] in hidden


@pytest.mark.parametrize("kind", ["folder", "tar", "table"])
def test_what_is_named_like_no_image_is_counted_by_suffix(kind: str, tmp_path: Path) -> None:
    others = ["a/x.MP4", "a/y.mp4", "a/README", "a/b/Thumbs.db", "a/.DS_Store", "notes.txt"]
    bodies = dict.fromkeys(["a/1.jpg", "b/1.jpg", *others], b"x")
    source, wanted = tmp_path / "set", {".mp4": 2, "no suffix": 1, ".db": 1}
    if kind == "tar":
        source = tmp_path / "set.tar"
        write_tar(source, {f"set/{path}": body for path, body in bodies.items()})
    else:
        write_tree(source, bodies)
        os.mkfifo(source / "a" / "pipe")
        wanted |= {"no file": 1}
    if kind == "table":  # it names its images, and nobody looks for others
        rows = [{"path": "a/1.jpg", "label": "a"}, {"path": "b/1.jpg", "label": "b"}]
        source, wanted = Path(write_table("csv", source, rows)), {}
    assert list_source(str(source)).left_out == wanted


def test_of_many_suffixes_the_commonest_are_counted_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {f"a/{number}.x{number % 40:02d}": b"" for number in range(60)}
    write_tree(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"x", "a/odd." + "y" * 30: b""} | others)
    left_out = list_source(str(tmp_path)).left_out
    assert list(left_out.items())[:20] == [(f".x{number:02d}", 2) for number in range(20)]
    assert (len(left_out), sum(left_out.values()), left_out["other suffixes"]) == (31, 61, 11)
    assert "61 files are named like no image and left out (.x00 2, .x01 2, .x02 2, .x03 2, .x04 2 and 36 more)" in (
        caplog.text
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_lists_in_utf_16_are_told(encoding: str, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_tree(source, {"cat/1.jpg": b"x", "dog/1.jpg": b"x"})
    (tmp_path / "list.txt").write_bytes("cat\ndog\n".encode(encoding))
    what = r"list\.txt.* has a zero byte in line 1: it is no text, or UTF-16; store it as UTF-8"
    with pytest.raises(SourceError, match=what):
        list_source(str(source), labels=str(tmp_path / "list.txt"))
    with pytest.raises(SourceError, match=what):
        list_source(str(source), split_lists=[f"train={tmp_path}/list.txt"])
    (source / "ClassName.txt").write_bytes((tmp_path / "list.txt").read_bytes())
    with pytest.raises(SourceError, match=r"ClassName\.txt of .*set has a zero byte in line 1"):
        list_source(str(source))


@pytest.mark.parametrize("name", ["images.csv", "below/images.jsonl", "images.parquet", "images.zip"])
def test_a_folder_that_holds_nothing_but_another_source_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"path": ["a.jpg"], "label": [1]}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"path,label\n")
    (tmp_path / "readme.txt").write_bytes(b"see the table")
    with pytest.raises(SourceError, match=name) as caught:
        list_source(str(tmp_path))
    assert ("unpack them" if name.endswith(".zip") else "itself") in str(caught.value)


def test_a_row_that_repeats_puts_its_image_into_both_splits(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "sub/b.jpg": b"y"})
    rows = [
        {"path": "a.jpg", "label": "10", "split": "train"}, {"path": "a.jpg", "label": "10", "split": "all"},
        {"path": str(tmp_path / "sub" / "b.jpg"), "label": "9", "split": ""},
    ]  # fmt: skip
    listing = list_source(write_table("csv", tmp_path, rows))
    assert listing.split_names == ("train", "all")
    assert listing.classes == ("9", "10")
    assert {image.path: image.splits for image in listing.images} == {"a.jpg": 3, f"{tmp_path}/sub/b.jpg": 0}
    assert bytes_of(listing) == {"a.jpg": b"x", f"{tmp_path}/sub/b.jpg": b"y"}


def test_rows_that_repeat_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"y"})
    rows = ["a.jpg,x,train", "b.jpg,y,test", "a.jpg,x,all", "./a.jpg,x,train", "b.jpg,y,"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    listing = list_source(str(tmp_path / "t.csv"))
    assert {image.path: image.splits for image in listing.images} == {"a.jpg": 5, "b.jpg": 2}
    told = r"2 rows of .*t\.csv repeat an image and its split, for instance line 5; an image counts once"
    assert len(re.findall(told, caplog.text)) == 1


def spellings(folder: Path) -> list[str]:
    """Of `a b.jpg` in the folder."""
    relative = ["a b.jpg", "./a b.jpg", ".//a b.jpg", "sub/../a b.jpg", "sub//.././a b.jpg"]
    return [*relative, f"{folder}/a b.jpg", f"{folder}//sub/../a b.jpg", f"file://{folder}/a%20b.jpg"]


def test_a_row_repeats_however_it_spells_its_path(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a b.jpg": b"x", "sub/c.jpg": b"y"})
    rows = [
        {"path": path, "label": "x", "split": f"of{number}"}
        for number, path in enumerate(spellings(tmp_path.resolve()))
    ]
    listing = list_source(write_table("csv", tmp_path, rows))
    assert [(image.path, image.splits) for image in listing.images] == [("a b.jpg", 2 ** len(rows) - 1)]
    assert bytes_of(listing) == {"a b.jpg": b"x"}


@pytest.mark.parametrize("number", range(1, 8))
def test_a_file_has_one_label_however_rows_spell_its_path(number: int, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a b.jpg": b"x", "sub/c.jpg": b"y"})
    spelled = spellings(tmp_path.resolve())[number]
    rows = [{"path": "a b.jpg", "label": "y"}, {"path": spelled, "label": "x"}]
    told = r"line 3 of .* another label, x, than a line before it( gives a b\.jpg)?, y; take one out"
    with pytest.raises(SourceError, match=told):
        list_source(write_table("csv", tmp_path, rows))


def test_a_list_may_name_what_a_table_names_by_its_absolute_path(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "sub/b.jpg": b"y"})
    absolute = str(tmp_path / "sub" / "b.jpg")
    rows = [{"path": "a.jpg", "label": "dog"}, {"path": absolute, "label": "cat"}]
    table = write_table("csv", tmp_path, rows)
    few = tmp_path / "few.txt"
    few.write_text(f"/a.jpg\n{absolute}\n")
    listing = list_source(table, split_lists=(f"few={few}",))
    assert {image.path: image.splits for image in listing.images} == {"a.jpg": 1, absolute: 1}
    few.write_text(f"a.jpg\n{absolute}.gone\n")
    with pytest.raises(SourceError, match=r"1 of the 2 files in the split list .* is no image of .*b\.jpg\.gone"):
        list_source(table, split_lists=(f"few={few}",))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "# mine\n\na/1.jpg\na/2.jpg\n",
            r"begins with what is no path: # mine \(line 1\); a list has neither a header",
        ),
        ("path\na/1.jpg\n", r"begins with what is no path: path \(line 1\)"),
        ("a/1.jpg\n\n# mine\n", r"1 of the 2 files in .*: # mine \(line 3\); add the images, or take these lines out"),
        ("a/3.jpg\na/1.jpg\n", r"1 of the 2 files in .*: a/3\.jpg \(line 1\); add the images"),
        ("a/3\na/1.jpg\n", r"1 of the 2 files in .* is no image of .*: a/3 \(line 1\); add the images"),
        ("a/3.jpg\n", r"^the one file in the split list .* is no image of .*set: a/3\.jpg \(line 1\); add"),
        ("a/3.jpg\na/4.jpg\n", r"^2 of the 2 files in the split list .* are not images of .*set: a/3\.jpg"),
        (
            "path,label\na/1.jpg,a\n",
            r"2 of the 2 files .* a line is a path and nothing else: take ',a', and its like, away",
        ),
        ("a/1.jpg 0\n", "a line is a path and nothing else: take ' 0'"),
        ("set/a/1.jpg\n", "paths are relative to the source: leave set/ out$"),
        ("/data/set/a/1.jpg\n", r": /data/set/a/1\.jpg \(line 1\); paths .* the source: leave /data/set/ out$"),
        ("C:/set/a/1.jpg\n", "paths are relative to the source: leave C:/set/ out$"),
        ("C:\\set\\a\\1.jpg\n", r"relative to the source: leave C:\\set\\ out and write / for \\$"),
        ("/a/1.jpg 0\n", "a line is a path and nothing else: take ' 0'"),
        ("a\\1.jpg\n", r"write / in them for \\"),
        ('"a/1.jpg"\n', "take the quotes away"),
        ("A/1.JPG\n", "names differ in capitals alone: write a/1.jpg$"),
    ],
)
def test_what_is_wrong_with_a_split_list_is_told(body: str, message: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "set", {"a/1.jpg": b"x", "a/2.jpg": b"y"})
    (tmp_path / "list.txt").write_text(body)
    with pytest.raises(SourceError, match=message):
        list_source(str(tmp_path / "set"), split_lists=[f"train={tmp_path}/list.txt"])


def test_a_class_list_in_other_capitals_is_told(tmp_path: Path) -> None:
    write_tree(tmp_path, {"set/beach/dry/1.jpg": b"x", "set/wood/1.jpg": b"y", "names": b"Beach\nwood\n"})
    rows = [{"path": "set/wood/1.jpg", "label": "beach"}]
    for given in (str(tmp_path / "set"), write_table("csv", tmp_path, rows)):
        with pytest.raises(SourceError, match=r"names differ in capitals alone: write beach for Beach in .*names$"):
            list_source(given, labels=str(tmp_path / "names"))


def test_a_folder_of_archives_and_parquet_is_not_guessed(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", BODIES)
    write_hugging_face(tmp_path / "data", "train", BODIES)
    with pytest.raises(SourceError, match=r"holds archives and Parquet files.*say which are meant"):
        list_source(str(tmp_path))
    assert len(list_source(str(tmp_path), source_format="webdataset").images) == len(BODIES)


def test_labels_of_shards_in_latin_1_stay_apart(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number, name in enumerate(("café", "cafè")):
            for suffix, body in (("jpg", b"an image"), ("cls", name.encode("latin-1"))):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    assert list_source(str(tmp_path / "shard.tar")).classes == ("cafè", "café")


def test_the_guide_names_every_column_and_suffix_that_is_taken() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "ingest.md").read_text()
    for name in (*parquet._IMAGE_NAMES, *parquet._LABEL_NAMES, *table.TABLE_SUFFIXES):
        assert f"`{name}`" in guide, name
