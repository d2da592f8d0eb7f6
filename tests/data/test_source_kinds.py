"""Laws of the kinds of source: each is recognised, and the same images give the same list and the same bytes."""

import logging
import os
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sunspark.data.containers import read_images, read_in_order
from sunspark.data.sources import SourceFormat, list_source
from sunspark.data.sources.splits import stratified_splits
from sunspark.errors import ConfigError, SourceError, StorageError
from tests.data.source_kinds import (
    BODIES,
    CLASSES,
    KINDS,
    bytes_of,
    class_of,
    make,
    split_of,
    write_hugging_face,
    write_shard,
    write_table,
    write_tar,
    write_tree,
)


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
