"""Laws of ingest from and to an object store: the dataset is that of local files, and the driver opens no image."""

import hashlib
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sunspark.commands.ingest import run
from sunspark.data import dataset_folder
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.sources import list_source
from sunspark.data.staging import stage_piece
from sunspark.errors import ConfigError, SourceError, UserError, WorkerError
from sunspark.launch.ingest import Engine, IngestResult, ingest
from sunspark.launch.processes import process_engine
from sunspark.storage import join, list_directory, list_tree, retrying, with_endpoint
from tests.data.source_kinds import images, make, write_tree
from tests.s3 import CREDENTIALS, requests_of, s3_store, upload

BODIES = images()
WHOLE = {"data", "index.parquet", "manifest.json", "quarantine.parquet"}
"""What lies in the folder of a dataset, and nothing else."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "log"


@pytest.fixture(scope="module")
def store(log: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, s3_store(log) as url:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield url


def located(uri: str, folder: Path, prefix: str) -> str:
    return uri.replace(str(folder), f"s3://bucket/{prefix}")


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "parquet", "webdataset", "csv"])
def test_every_kind_of_source_is_taken_from_a_store_and_datasets_go_there(
    kind: str, store: str, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    made = make(kind, folder, BODIES)
    upload(store, folder, kind)
    options = {"launcher": "local", "short_side": 32, "block_size": 5}
    local = IngestConfig(labels=made.labels, split_list=made.split_list, **options)  # type: ignore[arg-type]
    remote = IngestConfig(
        labels=made.labels and located(made.labels, folder, kind),
        split_list=tuple(located(entry, folder, kind) for entry in made.split_list),
        endpoint_url=store,
        **options,  # type: ignore[arg-type]
    )
    engine = partial(process_engine, 2)
    here = ingest(made.source, str(tmp_path / "d"), local, engine)
    there = ingest(located(made.source, folder, kind), f"s3://bucket/datasets/{kind}", remote, engine)
    assert there.dataset_id == here.dataset_id
    assert Dataset.open(there.dataset).id == here.dataset_id
    assert {entry.name for entry in list_directory(there.dataset)} == WHOLE
    assert ingest(located(made.source, folder, kind), f"s3://bucket/datasets/{kind}", remote, engine).reused


def test_a_listing_goes_folder_by_folder_and_opens_no_image(store: str, log: Path, tmp_path: Path) -> None:
    made = make("folder", tmp_path / "made", BODIES)
    upload(store, tmp_path / "made", "listed")
    before = len(requests_of(log))
    listing = list_source(with_endpoint("s3://bucket/listed/SUN", store), test_fraction=0.5)
    asked = requests_of(log)[before:]
    assert listing.fingerprint == list_source(made.source, test_fraction=0.5).fingerprint
    assert not [request for request in asked if ".jpg" in request]
    lists = [request for request in asked if "list-type=2" in request]
    assert any("prefix=listed/SUN/a/" in request for request in lists)
    assert any("prefix=listed/SUN/c/" in request for request in lists)
    assert len(lists) < 12


def test_mistakes_with_endpoints_are_told(store: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"an endpoint is given as http://HOST:PORT .*got 'minio'"):
        with_endpoint("s3://bucket/a", "minio")
    with pytest.raises(ConfigError, match="names an endpoint itself"):
        with_endpoint("s3://bucket/a?endpoint_override=h:1", store)
    assert with_endpoint(str(tmp_path), store) == str(tmp_path)
    config = IngestConfig(launcher="local", endpoint_url=store)
    with pytest.raises(ConfigError, match="lie in each other"):
        ingest("s3://bucket/listed", "s3://bucket/listed/dataset", config, process_engine)
    with pytest.raises(UserError, match="does not exist"):
        ingest("s3://bucket/nothing", str(tmp_path / "d"), config, process_engine)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make("tar.gz", tmp_path_factory.mktemp("archive") / "made", BODIES).source


@pytest.fixture(scope="module")
def alone(archive: str, tmp_path_factory: pytest.TempPathFactory) -> IngestResult:
    """What an undisturbed ingest comes to."""
    dataset = tmp_path_factory.mktemp("alone") / "dataset"
    return ingest(archive, str(dataset), config_of(None), partial(process_engine, 1))


def config_of(store: str | None) -> IngestConfig:
    return IngestConfig(launcher="local", short_side=32, block_size=5, endpoint_url=store)


def files_of_blocks(dataset: str) -> set[str]:
    return {f"data/{entry.name}" for entry in list_directory(join(dataset, "data"))}


def named_by_the_manifest(dataset: str) -> set[str]:
    return {block["name"] for block in Dataset.open(dataset).manifest["blocks"]}


def assert_whole(dataset: str, alone: IngestResult) -> None:
    """It is that of an undisturbed ingest, and each of its images is there."""
    opened = Dataset.open(dataset)
    stored = [image for block in range(opened.num_blocks) for image in opened.read_block(block).images]
    assert opened.id == alone.dataset_id
    assert len(stored) == alone.accepted
    assert [hashlib.blake2b(image, digest_size=16).digest() for image in stored] == opened.read_index()[
        "image_hash"
    ].to_pylist()


def test_two_ingests_at_once_into_one_folder_of_a_store_come_to_the_same_dataset(
    store: str, archive: str, alone: IngestResult
) -> None:
    """Both have staged before one assembles, and both have assembled before one finishes."""
    both = threading.Barrier(2)

    @contextmanager
    def in_step() -> Iterator[Engine]:
        with process_engine(1) as engine:

            def run(*arguments: Any) -> Any:
                results = engine(*arguments)
                both.wait(60)
                return results

            yield run

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ingest, archive, "s3://bucket/at-once", config_of(store), in_step) for _ in range(2)]
        results = [one.result(timeout=100) for one in running]
    assert [result.dataset_id for result in results] == [alone.dataset_id] * 2
    assert_whole(results[0].dataset, alone)
    assert {entry.name for entry in list_directory(results[0].dataset)} == WHOLE


def test_an_ingest_into_a_store_comes_through_where_another_begins_and_ends_meanwhile(
    store: str, archive: str, alone: IngestResult
) -> None:
    """It has staged its images by then; the other finds it at work, and finishes before it does."""
    folder, others = "s3://bucket/meanwhile", []

    @contextmanager
    def interrupted() -> Iterator[Engine]:
        with process_engine(1) as engine:

            def run(work: Any, *arguments: Any) -> Any:
                results = engine(work, *arguments)
                if work is stage_piece:
                    others.append(ingest(archive, folder, config_of(store), partial(process_engine, 1)))
                return results

            yield run

    result = ingest(archive, folder, config_of(store), interrupted)
    assert [one.reused for one in (*others, result)] == [False, True]
    assert_whole(result.dataset, alone)
    assert files_of_blocks(result.dataset) == named_by_the_manifest(result.dataset)
    assert {entry.name for entry in list_directory(result.dataset)} == WHOLE


KILLED_WITH_ALL_ITS_BLOCKS_WRITTEN = """
    import os, signal, sys
    from contextlib import nullcontext
    from sunspark.data.ingest import IngestConfig
    from sunspark.data.staging import stage_piece
    from sunspark.launch.ingest import ingest

    def engine(work, plans, display, hopeless):
        results = [work(plan) for plan in plans]
        if work is not stage_piece:
            os.kill(os.getpid(), signal.SIGKILL)
        return results

    source, dataset, store = sys.argv[1:]
    config = IngestConfig(launcher="local", short_side=32, block_size=5, endpoint_url=store)
    ingest(source, dataset, config, lambda: nullcontext(engine))
"""


@pytest.mark.parametrize("age", ["young", "old"])
def test_what_a_killed_ingest_left_in_a_store_is_in_nobodys_way_and_goes_when_it_is_old(
    age: str, store: str, archive: str, alone: IngestResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED_WITH_ALL_ITS_BLOCKS_WRITTEN)]
    folder = f"s3://bucket/killed-{age}"
    killed = subprocess.run([*command, archive, folder, store], timeout=100, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    left = files_of_blocks(with_endpoint(folder, store))
    assert len(left) == 5
    if age == "old":
        monkeypatch.setattr(dataset_folder, "_ABANDONED_SECONDS", -60.0)  # a day has passed, as it were
    result = ingest(archive, folder, config_of(store), partial(process_engine, 1))
    assert not result.reused
    assert_whole(result.dataset, alone)
    there = {entry.name for entry in list_directory(result.dataset)}
    if age == "old":
        assert there == WHOLE
        assert files_of_blocks(result.dataset) == named_by_the_manifest(result.dataset)
    else:
        assert len([name for name in there - WHOLE if name.startswith("staging-")]) == len(there - WHOLE) == 1
        assert files_of_blocks(result.dataset) == named_by_the_manifest(result.dataset) | left
        assert ingest(archive, folder, config_of(store), partial(process_engine, 1)).reused
        assert files_of_blocks(result.dataset) == named_by_the_manifest(result.dataset) | left
        monkeypatch.setattr(dataset_folder, "_ABANDONED_SECONDS", -60.0)
        assert ingest(archive, folder, config_of(store), partial(process_engine, 1)).reused
        assert {entry.name for entry in list_directory(result.dataset)} == WHOLE
        assert files_of_blocks(result.dataset) == named_by_the_manifest(result.dataset)
        assert_whole(result.dataset, alone)


def test_an_ingest_into_a_store_that_ends_early_leaves_the_table_alone(store: str, tmp_path: Path) -> None:
    drawn = list(images(6).values())
    bodies = {f"{n % 2}/{n:03d}.jpg": drawn[n % 6] if n % 3 else b"<html>" for n in range(120)}
    write_tree(tmp_path / "images", bodies)
    config = IngestConfig(launcher="local", short_side=16, block_size=5, endpoint_url=store)
    with pytest.raises(SourceError, match="ended early"):
        ingest(str(tmp_path / "images"), "s3://bucket/early", config, partial(process_engine, 1))
    files = [entry.name for entry in list_tree(with_endpoint("s3://bucket/early", store)) if entry.is_file]
    assert files == ["quarantine.parquet"]


def test_what_made_an_ingest_fail_is_told_though_its_store_is_gone_then(
    archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retrying, "_PATIENCE_SECONDS", 0.0)
    with ExitStack() as stack:
        url = stack.enter_context(s3_store(tmp_path / "log"))

        def engine(*_: object) -> NoReturn:
            stack.close()
            raise WorkerError("the first cause")

        with pytest.raises(WorkerError, match="the first cause"):
            ingest(archive, "s3://bucket/failing", config_of(url), lambda: nullcontext(engine))
    assert "means nothing any more, but could not be deleted: " in caplog.text


def test_the_last_words_are_a_command_that_a_shell_takes_with_the_whole_place(store: str, tmp_path: Path) -> None:
    made = make("tar", tmp_path / "made", BODIES)
    words = [made.source, "s3://bucket/told", "--launcher", "local", "--short-side", "32", "--endpoint-url", store]
    outcome = run(words)
    _, _, look = outcome.text.splitlines()[-1].partition("look at it: ")
    name, command, place = shlex.split(look)
    assert (name, command, place) == ("sunspark", "inspect", with_endpoint("s3://bucket/told", store))
    assert Dataset.open(place).id == outcome.result.dataset_id  # type: ignore[attr-defined]
