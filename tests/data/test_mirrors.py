"""Parquet with images and shards of WebDataset: their columns, labels, splits, and what is odd about them."""

import io
import json
import tarfile
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sunspark.data import containers
from sunspark.data.containers import read_in_order, rows_at_once
from sunspark.data.image_format import DecodeError
from sunspark.data.sources import list_source
from sunspark.data.sources.splits import split_of_file
from sunspark.errors import SourceError, StorageError
from tests.data.source_kinds import BODIES, bytes_of, latin, write_hugging_face, write_shard, write_tar


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
    pq.write_table(pa.table({"image": [b"one", b"two"], "label": [0, -1]}), tmp_path / "few.parquet")
    with pytest.raises(SourceError, match=r"\(-1\); a negative label names no class"):
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


def test_zero_padded_labels_are_names(tmp_path: Path) -> None:
    members = {"a.jpg": b"", "a.cls": b"007", "b.jpg": b"", "b.cls": b"7"}
    write_tar(tmp_path / "0.tar", members)
    assert list_source(str(tmp_path / "0.tar"), test_fraction=0).classes == ("007", "7")


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


def test_shards_with_equal_keys_do_not_collide(tmp_path: Path) -> None:
    for shard in range(2):
        write_shard(tmp_path / f"shard-{shard}.tar", dict(list(BODIES.items())[:3]))
    listing = list_source(str(tmp_path), labels=None)
    assert len({image.path for image in listing.images}) == 6
    assert listing.images[0].path.startswith("shard-0/")
    assert listing.split_names == ("train", "test")


def test_labels_of_shards_in_latin_1_stay_apart(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number, name in enumerate(("café", "cafè")):
            for suffix, body in (("jpg", b"an image"), ("cls", name.encode("latin-1"))):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    assert list_source(str(tmp_path / "shard.tar")).classes == ("cafè", "café")
