"""Archives: what is joined, linked, cut short, damaged, replaced, or called one and is none."""

import gzip
import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sunspark import limits
from sunspark.data.containers import read_images
from sunspark.data.ingest import IngestConfig
from sunspark.data.sources import Container, ListedImage, Scan, list_source, source
from sunspark.data.sources.archive import Archive, Wants, opened_gzip, scan_archive
from sunspark.data.sources.listing import ContainerKind
from sunspark.data.sources.source import threads_each
from sunspark.data.staging import _pieces, assemble_block, plan_assembly, plan_pieces, stage_piece
from sunspark.errors import SourceError, StorageError
from tests.data.source_kinds import BODIES, bytes_of, make, write_shard, write_tar


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
