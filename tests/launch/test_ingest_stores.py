"""Laws of Google's storage and of Hadoop's: a dataset is made there as of local files, and trained on.

Google's is an emulator. Hadoop's is below the folder that SUNSPARK_TEST_HDFS names, say hdfs://namenode/tmp/tests.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sunspark import storage
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.data.pixels import Pixels
from sunspark.errors import ConfigError
from sunspark.launch.ingest import ingest
from sunspark.launch.processes import process_engine
from tests.data.source_kinds import images, make
from tests.gs import gs_store

Place = Callable[[str], str]
BODIES = images()


@pytest.fixture(scope="module", params=["gs", "hdfs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The URI of a path in an empty folder of the store."""
    if request.param == "gs":
        with gs_store() as options:
            yield lambda path: f"gs://anonymous@bucket/{path}{options}"
        return
    folder = os.environ.get("SUNSPARK_TEST_HDFS")
    if not folder:
        pytest.skip("SUNSPARK_TEST_HDFS names no folder on hdfs://")
    folder = storage.join(folder, uuid.uuid4().hex)
    yield lambda path: storage.join(folder, path)
    storage.delete(folder)


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "parquet", "csv"])
def test_a_dataset_is_made_in_a_store_from_what_lies_there(kind: str, place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    made = make(kind, folder, BODIES)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_bytes_atomic(place(f"{kind}/{path.relative_to(folder)}"), path.read_bytes())

    def there(uri: str) -> str:
        name, mark, path = uri.rpartition("=")
        return f"{name}{mark}{place(f'{kind}/{Path(path).relative_to(folder)}')}"

    shared = {"launcher": "local", "short_side": 32, "block_size": 5}
    local = IngestConfig(labels=made.labels, split_list=made.split_list, **shared)  # type: ignore[arg-type]
    remote = IngestConfig(
        labels=made.labels and there(made.labels),
        split_list=tuple(there(entry) for entry in made.split_list),
        **shared,  # type: ignore[arg-type]
    )
    engine, dataset = partial(process_engine, 2), place(f"datasets/{kind}")
    here = ingest(made.source, str(tmp_path / "d"), local, engine)
    assert ingest(there(made.source), dataset, remote, engine).dataset_id == here.dataset_id
    assert ingest(there(made.source), dataset, remote, engine).reused
    assert (first_step(dataset, tmp_path / "cache") == first_step(str(tmp_path / "d"), tmp_path / "cache")).all()


def test_what_was_staged_in_many_pieces_is_read_by_many_at_once(place: Place, tmp_path: Path) -> None:
    made = make("tar.gz", tmp_path / "made", images(600))
    config = IngestConfig(
        labels=made.labels, split_list=made.split_list, launcher="local", short_side=32, block_size=32
    )
    engine = partial(process_engine, 2)
    here = ingest(made.source, str(tmp_path / "d"), config, engine)
    assert ingest(made.source, place("many pieces"), config, engine).dataset_id == here.dataset_id


def test_folders_are_seen_where_no_object_stands_for_them(place: Place) -> None:
    for name in ("a/b/1.jpg", "a/2.jpg.gz", "3.jpg"):
        storage.write_bytes_atomic(place(f"tree/{name}"), name.encode())
    seen = [(entry.name, entry.is_directory) for entry in storage.list_directory(place("tree"))]
    assert seen == [("3.jpg", False), ("a", True)]
    files = [entry.name for entry in storage.list_tree(place("tree")) if entry.is_file]
    assert files == ["3.jpg", "a/2.jpg.gz", "a/b/1.jpg"]
    assert storage.list_directory(place("nothing")) == []
    assert storage.read_bytes(place("tree/a/2.jpg.gz")) == b"a/2.jpg.gz"


def test_a_file_is_replaced_whole_and_deleted(place: Place) -> None:
    uri = place("files/table")
    for content in (b"old", b"new"):
        storage.write_bytes_atomic(uri, content)
        assert storage.read_bytes(uri) == content
    with storage.open_atomic(uri) as file:
        file.write(b"newest")
    assert storage.read_bytes(uri) == b"newest"
    storage.delete(uri)
    assert not storage.exists(uri)
    assert [entry.name for entry in storage.list_directory(place("files"))] == []


def test_text_is_appended_to_what_is_there(place: Place) -> None:
    uri = place("records/driver.jsonl")
    if storage.scheme_of(uri) == "gs":
        with pytest.raises(ConfigError, match="object stores have no append"):
            storage.append_text(uri)
        return
    for line in ("one\n", "two\n"):
        with storage.append_text(uri) as file:
            file.write(line)
    assert storage.read_bytes(uri) == b"one\ntwo\n"


def first_step(uri: str, cache: Path) -> Pixels:
    """What the first step of a training sees."""
    dataset = Dataset.open(uri)
    plan = StepPlan(
        dataset_id=dataset.id,
        split="train",
        seed=0,
        num_samples=len(dataset.rows("train")),
        global_batch_size=8,
        num_epochs=1,
        num_replicas=1,
    )
    loader = Loader(dataset, plan, LoaderConfig(image_size=16, cache_directory=str(cache / uri[:2])), num_threads=1)
    try:
        return loader.take(0, range(1))[0].pixels
    finally:
        loader.close()
