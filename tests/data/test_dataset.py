"""Laws of the dataset at rest: one id for one content, blocks as written, a part is never the whole."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from sunspark.data.dataset import Dataset, Quarantined, read_block_with, read_quarantine, sample_id_of
from sunspark.data.summary import summarize
from sunspark.data.writer import Recipe, StoredSample, finish_dataset, in_blocks, order_key, write_block, write_dataset
from sunspark.errors import ConfigError, DatasetError, SourceError, StorageError
from tests.data.source_kinds import images, make

CLASSES = ("city", "coast", "d/desert")


def samples(num: int = 50) -> list[tuple[str, int, list[str], bytes]]:
    """(path, label, splits, JPEG): every fifth in test, every seventh in no split, sizes vary."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(num):
        pixels = rng.integers(0, 256, (16 + number % 3, 24, 3), np.uint8)
        splits = [] if number % 7 == 0 else ["test"] if number % 5 == 0 else ["train"]
        path = f"{CLASSES[number % 3]}/image ü {number:03d}.jpg"
        made.append((path, number % 3, splits, simplejpeg.encode_jpeg(pixels)))
    return made


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(str(tmp_path / "dataset"), samples(), classes=CLASSES, block_size=16)


def stored(dataset: Dataset) -> Iterator[tuple[int, int, int, bytes]]:
    """(row, sample id, label, JPEG) of everything, block by block."""
    for number in range(dataset.num_blocks):
        block = dataset.read_block(number)
        assert block.first_row == dataset.block_rows(number).start
        yield from zip(dataset.block_rows(number), block.sample_ids, block.labels, block.images, strict=True)


def test_what_was_written_is_read_and_blocks_agree_with_the_index(dataset: Dataset) -> None:
    image_of = {path: (label, image) for path, label, _, image in samples()}
    rows = []
    for row, sample_id, label, image in stored(dataset):
        path = dataset.path_of(row)
        rows.append(row)
        assert (label, image) == image_of.pop(path)
        assert dataset.labels[row] == label
        assert dataset.sample_ids[row] == sample_id == sample_id_of(path)
    assert rows == list(range(50)) == list(range(len(dataset)))
    assert not image_of


def test_types_are_as_promised(dataset: Dataset) -> None:
    block = dataset.read_block(0)
    assert dataset.labels.dtype == block.labels.dtype == np.int32
    assert dataset.sample_ids.dtype == block.sample_ids.dtype == np.uint64
    assert dataset.rows("train").dtype == np.int64
    for array in (dataset.labels, dataset.sample_ids, block.labels, block.sample_ids):
        assert not array.flags.writeable


def test_the_order_is_by_hash_and_blocks_have_a_fixed_count(dataset: Dataset) -> None:
    paths = [dataset.path_of(row) for row in range(50)]
    assert paths == sorted(paths, key=lambda path: order_key(0, path)) != sorted(paths)
    assert [len(dataset.block_rows(block)) for block in range(dataset.num_blocks)] == [16, 16, 16, 2]
    assert [dataset.block_of(row) for row in (0, 15, 16, 47, 48, 49)] == [0, 0, 1, 2, 3, 3]
    for row in (-1, 50):
        with pytest.raises(IndexError):
            dataset.block_of(row)


@pytest.mark.parametrize(
    ("num_items", "block_size", "sizes"),
    [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (9, 3, [3, 3, 3]), (10, 4, [4, 4, 2]), (5, 1, [1] * 5)],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_blocks_are_cut_from_the_order_whatever_order_items_come_in(
    num_items: int, block_size: int, sizes: list[int], seed: int
) -> None:
    items = [(f"{number}.jpg", number) for number in range(num_items)]
    blocks = in_blocks(items, lambda item: item[0], seed, block_size)
    assert [len(block) for block in blocks] == sizes
    ordered = sorted(items, key=lambda item: order_key(seed, item[0]))
    assert [item for block in blocks for item in block] == ordered
    assert in_blocks(reversed(items), lambda item: item[0], seed, block_size) == blocks


def test_splits_are_columns_and_an_image_may_be_in_none(dataset: Dataset) -> None:
    splits_of = {path: splits for path, _, splits, _ in samples()}
    for split in ("train", "test"):
        rows = dataset.rows(split)
        assert (np.diff(rows) > 0).all()
        wanted = {path for path, splits in splits_of.items() if split in splits}
        assert {dataset.path_of(int(row)) for row in rows} == wanted
    with pytest.raises(DatasetError, match=r"has no split 'trian'; --split names one of train, test"):
        dataset.rows("trian")
    with pytest.raises(DatasetError, match="--eval-split names one of train, test"):
        dataset.rows("trian", "--eval-split")


_THREADS_AFTER_READING = """
    import contextlib, sys, time
    from pathlib import Path
    import pyarrow.parquet
    from sunspark.data.dataset import Dataset, read_quarantine
    from sunspark.data.sources import list_source

    def num_threads():
        names = []
        for path in Path("/proc/self/task").glob("*/comm"):
            with contextlib.suppress(OSError):
                names.append(path.read_text())
        return sum(not name.startswith("jemalloc") for name in names)  # its own come and go

    before, deadline = num_threads(), time.monotonic() + 10
    dataset = Dataset.open(sys.argv[1])
    read_quarantine(dataset)
    dataset.read_block(0)
    list_source(sys.argv[2])
    while num_threads() > before and time.monotonic() < deadline:
        time.sleep(0.05)  # a thread that was waited for is seen for a moment
    print(num_threads() - before)
"""


@pytest.mark.parametrize("kind", ["parquet", "table"])
def test_no_thread_that_reads_is_left_to_end_python_by_a_signal(kind: str, dataset: Dataset, tmp_path: Path) -> None:
    """Arrow's own, which wants to free what Python lent it, does so where it comes when Python ends."""
    made = make("parquet", tmp_path / "made", images(8)).source
    if kind == "table":
        (tmp_path / "1.jpg").touch()
        made = str(tmp_path / "table.parquet")
        pq.write_table(pa.table({"path": ["1.jpg"], "label": ["a"]}), made)
    command = [sys.executable, "-c", textwrap.dedent(_THREADS_AFTER_READING), dataset.uri, made]
    assert subprocess.run(command, timeout=60, check=True, stdout=subprocess.PIPE, text=True).stdout == "0\n"


def test_sixty_four_splits_fit_and_sixty_five_are_refused(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(65)]
    made = [(path, label, names[:64], image) for path, label, _, image in samples(3)]
    whole = write_dataset(str(tmp_path / "a"), made, classes=CLASSES, split_names=names[:64])
    assert all(len(whole.rows(name)) == 3 for name in names[:64])
    with pytest.raises(ConfigError, match="65 splits, but a dataset holds 64 at most"):
        write_dataset(str(tmp_path / "b"), made, classes=CLASSES, split_names=names)


def test_the_id_is_that_of_the_content_not_of_the_files(dataset: Dataset, tmp_path: Path) -> None:
    again = write_dataset(str(tmp_path / "other place"), samples()[::-1], classes=CLASSES, block_size=16)
    assert again.id == dataset.id
    assert {entry["name"] for entry in again.manifest["blocks"]}.isdisjoint(
        entry["name"] for entry in dataset.manifest["blocks"]
    )


@pytest.mark.parametrize("change", ["path", "label", "splits", "image", "missing", "class name", "seed"])
def test_the_id_changes_with_anything_that_matters(dataset: Dataset, tmp_path: Path, change: str) -> None:
    made, classes, seed = samples(), CLASSES, 0
    path, label, splits, image = made[10]
    if change == "path":
        made[10] = (path + "x", label, splits, image)
    elif change == "label":
        made[10] = (path, (label + 1) % 3, splits, image)
    elif change == "splits":
        made[10] = (path, label, ["train", "test"], image)
    elif change == "image":
        made[10] = (path, label, splits, made[11][3])
    elif change == "missing":
        made.pop(10)
    elif change == "class name":
        classes = ("city", "coast", "d/dessert")
    else:
        seed = 1
    other = write_dataset(str(tmp_path / "other"), made, classes=classes, seed=seed, block_size=16)
    assert other.id != dataset.id


def test_a_block_is_one_uncompressed_row_group(dataset: Dataset) -> None:
    """Other readers of Parquet see plain rows, and JPEGs lie in the file as they are."""
    path = Path(dataset.uri) / dataset.manifest["blocks"][0]["name"]
    file = pq.ParquetFile(path)
    assert file.metadata.num_row_groups == 1
    column = file.metadata.row_group(0).column(file.schema_arrow.get_field_index("image"))
    assert (column.compression, column.has_dictionary_page) == ("UNCOMPRESSED", False)
    assert all(image in path.read_bytes() for image in dataset.read_block(0).images)


def test_the_summary_counts(dataset: Dataset) -> None:
    summary = summarize(dataset)
    made = samples()
    assert (summary.images, summary.classes, summary.listed, summary.quarantined) == (50, 3, 50, 0)
    assert summary.splits == {split: sum(split in splits for _, _, splits, _ in made) for split in ("train", "test")}
    assert [count.name for count in summary.class_counts] == list(CLASSES)
    for label, count in enumerate(summary.class_counts):
        of_class = [splits for _, other, splits, _ in made if other == label]
        assert count.images == len(of_class)
        assert count.splits == {split: sum(split in splits for splits in of_class) for split in ("train", "test")}
    assert summary.formats == {"JPEG": 50}
    assert summary.sizes == {"24x16": 17, "24x17": 17, "24x18": 16}
    assert summary.stored_bytes == sum(len(image) for *_, image in made)
    assert summary.dataset_id == dataset.id


def stored_sample(number: int) -> StoredSample:
    path, label, _, image = samples(number + 1)[number]
    return StoredSample(
        path=path,
        label=label,
        splits=0,
        image=image,
        width=24,
        height=16,
        source_format="GIF",
        source_width=48,
        source_height=32,
        source_bytes=7,
    )


def test_empty_blocks_and_orphans_do_not_exist(tmp_path: Path) -> None:
    """A block whose images are all quarantined, and what a dead attempt wrote, leave no trace."""
    uri = str(tmp_path / "dataset")
    write_block(uri, 0, [stored_sample(0)])
    written = [
        write_block(uri, 1, [stored_sample(1)]),
        write_block(uri, 0, []),
        write_block(uri, 2, [stored_sample(2)]),
    ]
    quarantine = [
        Quarantined(path="z.jpg", stage="decode", reason="because"),
        Quarantined(path="a.jpg", stage="sniff", reason="an HTML page"),
    ]
    recipe = Recipe(classes=CLASSES, split_names=(), configuration={}, num_listed=4)
    dataset = finish_dataset(uri, recipe, written, quarantine)
    assert len(dataset) == dataset.num_blocks == 2
    assert [sample_id for _, sample_id, _, _ in stored(dataset)] == [
        sample_id_of(stored_sample(number).path) for number in (1, 2)
    ]
    assert read_quarantine(dataset) == sorted(quarantine, key=lambda entry: entry.path)
    assert summarize(dataset).formats == {"GIF": 2}
    assert (summarize(dataset).listed, summarize(dataset).quarantined) == (4, 2)


def test_a_sample_that_is_nowhere_stops_the_dataset(tmp_path: Path) -> None:
    recipe = Recipe(classes=CLASSES, split_names=(), configuration={}, num_listed=2)
    written = [write_block(str(tmp_path), 0, [stored_sample(0)])]
    with pytest.raises(AssertionError):
        finish_dataset(str(tmp_path), recipe, written, [])
    with pytest.raises(DatasetError, match="not a finished dataset"):
        Dataset.open(str(tmp_path))


def test_equal_paths_labels_without_class_and_repeated_names_are_refused(tmp_path: Path) -> None:
    made = samples(3)
    with pytest.raises(SourceError, match="get the same sample id; rename or remove one"):
        write_dataset(str(tmp_path), [*made, made[0]], classes=CLASSES)
    with pytest.raises(ConfigError, match="labels run from 0 to 2, but there are 2 classes"):
        write_dataset(str(tmp_path), made, classes=CLASSES[:2])
    with pytest.raises(ConfigError, match="the class 'coast' is named twice"):
        write_dataset(str(tmp_path), made, classes=("coast", "coast", "city"))
    with pytest.raises(ConfigError, match="the split 'train' is named twice"):
        write_dataset(str(tmp_path), made, classes=CLASSES, split_names=("train", "train"))
    for name in ("a/b", "..", ".hidden", "a\nb", "a\0b", "x" * 101):
        with pytest.raises(ConfigError, match="a split cannot be named"):
            write_dataset(str(tmp_path), [], classes=CLASSES, split_names=(name,))


def test_a_folder_without_a_manifest_is_no_dataset(dataset: Dataset, tmp_path: Path) -> None:
    (Path(dataset.uri) / "manifest.json").unlink()
    for uri in (dataset.uri, str(tmp_path / "nowhere")):
        remedy = (
            "--quarantine` names them" if uri == dataset.uri else "nothing is there.*`sunspark ingest SOURCE DATASET`"
        )
        with pytest.raises(DatasetError, match=rf"not a finished dataset.*{remedy}"):
            Dataset.open(uri)


def test_another_format_version_is_refused(dataset: Dataset) -> None:
    path = Path(dataset.uri) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(DatasetError, match=r"has format version 2, this sunspark reads version 1; ingest .* again"):
        Dataset.open(dataset.uri)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other"}'])
def test_a_damaged_or_foreign_manifest_is_refused(dataset: Dataset, content: str) -> None:
    (Path(dataset.uri) / "manifest.json").write_text(content)
    with pytest.raises(DatasetError, match=r"is not whole|does not belong to a sunspark dataset"):
        Dataset.open(dataset.uri)


def test_truncated_and_missing_files_are_found_at_open(dataset: Dataset) -> None:
    paths = [Path(dataset.uri) / entry["name"] for entry in dataset.manifest["blocks"]]
    body = paths[1].read_bytes()
    paths[1].write_bytes(body[:-1])
    with pytest.raises(DatasetError, match=rf"{paths[1].name} \({len(body) - 1} of {len(body)} bytes\)"):
        Dataset.open(dataset.uri)
    paths[1].unlink()
    with pytest.raises(DatasetError, match=rf"is not whole: data/{paths[1].name} \(missing\); copy it again"):
        Dataset.open(dataset.uri)


def test_a_flipped_byte_is_found_when_it_is_read(dataset: Dataset) -> None:
    """In the index at open, in a block when the block is read: its size does not tell."""
    path = Path(dataset.uri) / dataset.manifest["blocks"][1]["name"]
    body = bytearray(path.read_bytes())
    position = body.index(dataset.read_block(1).images[3]) + 100
    body[position] ^= 1
    path.write_bytes(body)
    Dataset.open(dataset.uri).read_block(0)
    told = rf"the dataset {re.escape(dataset.uri)} is not whole: data/{path.name}: "
    with pytest.raises(DatasetError, match=told):
        Dataset.open(dataset.uri).read_block(1)
    with pytest.raises(DatasetError, match=told):
        read_block_with(dataset.uri, 17)
    index = Path(dataset.uri) / "index.parquet"
    body = bytearray(index.read_bytes())
    body[200] ^= 1
    index.write_bytes(body)
    with pytest.raises(DatasetError, match=r"index\.parquet has changed since it was written"):
        Dataset.open(dataset.uri)


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        (("blocks",), "blocks"),
        (("classes",), "classes"),
        (("dataset_id",), "dataset_id"),
        (("files", "index.parquet"), r"files\.index\.parquet\.size_bytes"),
        (("files", "index.parquet", "sha256"), r"files\.index\.parquet\.sha256"),
        (("blocks", 1, "rows"), r"blocks\.1\.rows"),
        (("files", "other", "sha256"), r"files\.other\.sha256"),
    ],
)
def test_a_manifest_that_lacks_something_is_told_by_name(dataset: Dataset, lost: tuple[Any, ...], named: str) -> None:
    manifest = json.loads(json.dumps(dataset.manifest))
    manifest["files"]["other"] = {"size_bytes": 3, "sha256": ""}
    inner = manifest
    for key in lost[:-1]:
        inner = inner[key]
    del inner[lost[-1]]
    (Path(dataset.uri) / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=rf"is not whole: manifest\.json has no proper {named}; copy it again"):
        Dataset.open(dataset.uri)


@pytest.mark.parametrize(
    ("newer", "named"),
    [
        ({"left_out": [1]}, "left_out"),
        ({"left_out": {".db": "1"}}, r"left_out\.\.db"),
        ({"leaks_dropped": None}, "leaks_dropped"),
    ],
)
def test_what_a_manifest_may_lack_is_told_where_it_is_no_account(
    dataset: Dataset, newer: dict[str, object], named: str
) -> None:
    manifest = dict(dataset.manifest)
    for key in ("left_out", "leaks_dropped"):
        del manifest[key]
    path = Path(dataset.uri) / "manifest.json"
    path.write_text(json.dumps(manifest))
    older = summarize(Dataset.open(dataset.uri))
    assert older.left_out is None
    path.write_text(json.dumps(manifest | newer))
    with pytest.raises(DatasetError, match=rf"manifest\.json has no proper {named}; copy it again"):
        Dataset.open(dataset.uri)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda manifest: manifest.update(images=49), "49 images, 50 listed and 0 quarantined, but 50 rows"),
        (lambda manifest: manifest.update(listed=51), "50 images, 51 listed and 0 quarantined, but 50 rows"),
        (lambda manifest: manifest.update(quarantined=1), "50 images, 50 listed and 1 quarantined, but 50 rows"),
        (lambda manifest: manifest["blocks"][0].update(rows=15), "blocks of 15, 16, 16, 2 rows, but 50 rows"),
        (lambda manifest: manifest["blocks"].pop(), "blocks of 16, 16, 16 rows, but 50 rows"),
        (
            lambda manifest: [manifest["blocks"][0].update(rows=18), manifest["blocks"][3].update(rows=0)],
            "blocks of 18, 16, 16, 0 rows, but 50 rows",
        ),
        (lambda manifest: manifest["blocks"][1].update(manifest["blocks"][0]), "4 blocks, of which some have the same"),
        (lambda manifest: manifest["classes"].pop(), "2 classes, but labels from 0 to 2"),
        (lambda manifest: manifest["split_names"].pop(), "1 splits, but samples in split number 2"),
    ],
)
def test_a_manifest_that_contradicts_the_index_is_refused(
    dataset: Dataset, change: Callable[[Any], Any], told: str
) -> None:
    manifest = json.loads(json.dumps(dataset.manifest))
    change(manifest)
    (Path(dataset.uri) / "manifest.json").write_text(json.dumps(manifest))
    problem = rf"is not whole: manifest\.json does not fit index\.parquet: {told}"
    with pytest.raises(DatasetError, match=rf"{problem}.*; copy it again .*, or delete it and run"):
        Dataset.open(dataset.uri)


def test_a_dataset_without_images_is_one(tmp_path: Path) -> None:
    dataset = write_dataset(str(tmp_path / "dataset"), [], classes=CLASSES)
    assert (len(dataset), dataset.num_blocks, len(dataset.rows("train"))) == (0, 0, 0)


def test_of_two_who_finish_a_dataset_in_turns_a_whole_one_is_left(tmp_path: Path) -> None:
    """As where there are no locks: both write the same tables, and the blocks of both are there."""
    uri = tmp_path / "dataset"
    quarantine = [Quarantined(path="z.jpg", stage="decode", reason="because")]
    recipe = Recipe(classes=CLASSES, split_names=(), configuration={}, num_listed=4)
    tables, made = [], []
    for numbers in ((0, 1, 2), (2, 1, 0)):
        written = [write_block(str(uri), number, [stored_sample(number)]) for number in numbers]
        made.append(finish_dataset(str(uri), recipe, written, quarantine))
        tables.append([(uri / name).read_bytes() for name in ("index.parquet", "quarantine.parquet")])
    assert tables[0] == tables[1]
    assert made[0].id == made[1].id == Dataset.open(str(uri)).id
    assert list(stored(made[0])) == list(stored(made[1]))
    assert read_quarantine(made[0]) == quarantine


def test_who_has_lost_a_block_does_not_finish_over_a_dataset_that_is_whole(tmp_path: Path) -> None:
    """As one that slept for a day, in a store, and was taken for dead."""
    uri = str(tmp_path)
    recipe = Recipe(classes=CLASSES, split_names=(), configuration={}, num_listed=2)
    late, written = ([write_block(uri, number, [stored_sample(number)]) for number in range(2)] for _ in range(2))
    before = finish_dataset(uri, recipe, written, [])
    (tmp_path / late[1].name).unlink()
    with pytest.raises(
        StorageError, match=rf"lacks blocks that this ingest wrote: {late[1].name} \(missing\); another"
    ):
        finish_dataset(uri, recipe, late, [])
    assert Dataset.open(uri).manifest == before.manifest


def test_blocks_of_a_dataset_that_was_made_anew_are_read_by_who_opened_the_one_before(tmp_path: Path) -> None:
    uri = str(tmp_path)
    recipe = Recipe(classes=CLASSES, split_names=(), configuration={}, num_listed=2)

    def make(blocks: list[list[int]], label: int) -> Dataset:
        shutil.rmtree(tmp_path)
        samples = [[replace(stored_sample(number), label=label) for number in block] for block in blocks]
        return finish_dataset(uri, recipe, [write_block(uri, *block) for block in enumerate(samples)], [])

    before = make([[0], [1]], 0)
    expected = list(stored(before))
    assert make([[0], [1]], 0).manifest["blocks"] != before.manifest["blocks"]
    assert list(stored(before)) == expected
    for blocks, label in (([[0], [1]], 1), ([[0, 1]], 0)):
        make(blocks, label)
        with pytest.raises(StorageError, match=r"block-000000-.*\.parquet does not exist"):
            before.read_block(0)


def test_tables_of_another_ingest_are_refused(tmp_path: Path) -> None:
    """As where two who differ finished in turns; that the files have the right size does not make them right."""
    uri = tmp_path / "dataset"
    recipe = Recipe(classes=CLASSES, split_names=(), configuration={}, num_listed=2)
    written = [write_block(str(uri), 0, [stored_sample(0)])]
    dataset = finish_dataset(str(uri), recipe, written, [Quarantined(path="a.jpg", stage="decode", reason="one")])
    manifest = (uri / "manifest.json").read_bytes()
    finish_dataset(str(uri), recipe, written, [Quarantined(path="a.jpg", stage="decode", reason="two")])
    (uri / "manifest.json").write_bytes(manifest)
    with pytest.raises(DatasetError, match=r"quarantine\.parquet has changed since it was written; copy it again"):
        read_quarantine(dataset)
    other = write_block(str(uri), 0, [replace(stored_sample(0), label=1)])
    finish_dataset(str(uri), recipe, [other], [Quarantined(path="a.jpg", stage="decode", reason="one")])
    (uri / "manifest.json").write_bytes(manifest)
    with pytest.raises(DatasetError, match=r"index\.parquet has changed since it was written; copy it again"):
        Dataset.open(str(uri))


def test_damage_that_comes_without_a_message_is_told_all_the_same(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(DatasetError, match=r"is not whole: data/block-\S+: OSError; copy it again"):
        dataset.read_block(0)


def test_a_dataset_keeps_of_each_sample_its_path_and_24_bytes(tmp_path: Path) -> None:
    (_, label, splits, jpeg), *_ = samples(4)[1:]
    made = [(f"{number:040d}.jpg", label, splits, jpeg) for number in range(4_000)]
    uri = write_dataset(str(tmp_path / "dataset"), made, classes=CLASSES).uri
    before = pa.total_allocated_bytes()
    opened = Dataset.open(uri)
    kept = (pa.total_allocated_bytes() - before) / len(opened)
    assert 64 <= kept < 44 + 24 + 6  # an offset for each path, and room at the end of each column


def test_a_block_is_read_without_the_index(dataset: Dataset) -> None:
    (Path(dataset.uri) / "index.parquet").unlink()
    for row in range(len(dataset)):
        assert read_block_with(dataset.uri, row).images == dataset.read_block(dataset.block_of(row)).images


def test_images_in_two_splits_are_counted(tmp_path: Path) -> None:
    made = [(path, label, [*splits, "odd"] if label == 1 else splits, body) for path, label, splits, body in samples()]
    names = ("train", "test", "odd")
    dataset = write_dataset(str(tmp_path / "dataset"), made, classes=CLASSES, split_names=names, block_size=16)
    assert dataset.num_shared("train", "test") == 0
    assert dataset.num_shared("odd", "train") == sum({"odd", "train"} <= set(splits) for _, _, splits, _ in made) > 0


def test_of_many_splits_twenty_are_named_the_nearest_first(tmp_path: Path) -> None:
    names = tuple(f"{half}_{number:02d}" for number in range(1, 12) for half in ("Training", "Testing"))
    dataset = write_dataset(str(tmp_path / "dataset"), samples(1), classes=CLASSES, split_names=names)
    with pytest.raises(DatasetError, match=r"--split names one of Testing_07, (\w+, ){18}\w+ and 2 more$"):
        dataset.rows("Testing_7")
