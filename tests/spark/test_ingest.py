"""Laws of ingest: the same images give the same dataset whatever happens to the tasks, and none is lost."""

import csv
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from pyspark.sql import SparkSession

from sunspark import storage
from sunspark.data import ingest as data_ingest
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset, read_quarantine, sample_id_of
from sunspark.data.ingest import BlockPlan, BlockResult, IngestConfig, ingest_block
from sunspark.data.scenes import draw_scenes
from sunspark.data.sources import Container, ListedImage
from sunspark.errors import ConfigError, DatasetError, SourceError, StorageError, UserError, WorkerError
from sunspark.launch.ingest import IngestResult
from sunspark.launch.session import open_session
from sunspark.spark import ingest as spark_ingest
from sunspark.spark.ingest import ingest
from tests.images import sun_open

pytestmark = pytest.mark.spark

SMALL = IngestConfig(short_side=48, block_size=7)
DEADLINE_SECONDS = 90.0


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 sample scenes of three classes."""
    folder = tmp_path_factory.mktemp("scenes")
    draw_scenes(str(folder), num_classes=3, images_per_class=20)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 large images, so that an ingest lasts a while."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(1000), np.arange(1400))[:, :, None] // np.array([5, 9, 13])
    for number in range(300):
        pixels = (smooth + rng.integers(0, 60, 3)).astype(np.uint8)
        path = folder / f"class {number % 3}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(pixels))
    return folder


def listed(source: Path, path: str, size_bytes: int = 0) -> ListedImage:
    container = Container(kind="folder", uri=str(source))
    return ListedImage(path=path, label=0, splits=0, size_bytes=size_bytes, container=container)


def data_files(dataset: Path) -> set[str]:
    return {f"data/{path.name}" for path in (dataset / "data").glob("*")}


def named_by_the_manifest(dataset: Path) -> set[str]:
    return {entry["name"] for entry in Dataset.open(str(dataset)).manifest["blocks"]}


def test_an_ingest_takes_every_image_once(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    context = two_core_session.sparkContext
    context.setJobGroup("callers", "what the caller does", interruptOnCancel=True)
    result = ingest(str(scenes), str(tmp_path / "dataset"), SMALL, two_core_session)
    names = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
    assert [context.getLocalProperty(name) for name in names] == ["callers", "what the caller does", "true"]
    told = capsys.readouterr().err
    assert f"60 images of 3 classes listed in {scenes}" in told
    assert "60/60 images, " in told
    assert "9 tasks on Spark; the images of a task are counted when it is done" in told
    assert (result.listed, result.accepted, result.quarantined, result.classes) == (60, 60, 0, 3)
    assert result.splits == {"train": 48, "test": 12}
    assert result.seconds > 0
    assert result.images_per_second == pytest.approx(60 / result.seconds)
    assert not result.reused
    dataset = Dataset.open(str(tmp_path / "dataset"))
    assert dataset.id == result.dataset_id
    assert dataset.num_blocks == 9
    paths = [dataset.path_of(row) for row in range(60)]
    assert sorted(paths) == sorted(str(path.relative_to(scenes)) for path in scenes.rglob("*.jpg"))
    for block in map(dataset.read_block, range(9)):
        for row, (label, sample_id, image) in enumerate(
            zip(block.labels, block.sample_ids, block.images, strict=True), start=block.first_row
        ):
            assert dataset.classes[label] == paths[row].split("/")[0]
            assert sample_id == sample_id_of(paths[row])
            height, width, _, subsampling = simplejpeg.decode_jpeg_header(image)
            assert (min(height, width), subsampling) == (48, "420")
    assert data_files(tmp_path / "dataset") == named_by_the_manifest(tmp_path / "dataset")


def test_a_split_that_came_out_empty_is_told_with_its_cause(
    tmp_path: Path, two_core_session: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        path = tmp_path / "photos" / f"class {number}" / "only.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_jpeg(np.zeros((16, 24, 3), np.uint8)))
    ingest(str(tmp_path / "photos"), str(tmp_path / "one"), SMALL, two_core_session)
    assert "the split test is empty: no class has two images" in caplog.text
    caplog.clear()
    (tmp_path / "photos" / "class 0" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("class 0/broken.jpg\n")
    lists = (f"odd={tmp_path}/list.txt", f"all={tmp_path}/all.txt")
    config = IngestConfig(short_side=48, split_list=lists, max_bad_fraction=1)
    (tmp_path / "all.txt").write_text("class 0/only.jpg\nclass 1/only.jpg\n")
    ingest(str(tmp_path / "photos"), str(tmp_path / "two"), config, two_core_session)
    assert "the split odd is empty: none of its 1 images could be decoded; `sunspark inspect" in caplog.text
    assert "the split all" not in caplog.text


def test_the_number_of_partitions_changes_nothing(scenes: Path, tmp_path: Path, two_core_session: SparkSession) -> None:
    ids = set()
    for partitions in (1, 3, 8, 1000):
        config = IngestConfig(short_side=48, block_size=7, partitions=partitions)
        ids.add(ingest(str(scenes), str(tmp_path / str(partitions)), config, two_core_session).dataset_id)
    assert len(ids) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"short_side": 40}, {"jpeg_quality": 80}, {"test_fraction": 0.5}])
def test_another_configuration_is_another_dataset(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession, change: dict[str, int]
) -> None:
    first = ingest(str(scenes), str(tmp_path / "a"), IngestConfig(short_side=48), two_core_session)
    other = ingest(str(scenes), str(tmp_path / "b"), IngestConfig(**{"short_side": 48, **change}), two_core_session)
    assert first.dataset_id != other.dataset_id
    with pytest.raises(DatasetError, match=rf"differs from the one asked for: .*{next(iter(change))} is "):
        ingest(str(scenes), str(tmp_path / "a"), IngestConfig(**{"short_side": 48, **change}), two_core_session)


def test_bad_images_go_to_quarantine_with_their_reason(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    source = tmp_path / "source"
    whole = (scenes / "coast" / "scene_00000.jpg").read_bytes()
    bodies = {
        "a/good.jpg": whole,
        "a/empty.jpg": b"",
        "a/page.jpg": b"<!DOCTYPE html><html><body>429 Too Many Requests</body></html>",
        "b/truncated.jpg": whole[: len(whole) // 2],
        "b/zeros.png": bytes(5000),
        "b/good.gif": whole,
    }
    for path, body in bodies.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(body)
    config = IngestConfig(short_side=48, block_size=2, max_bad_fraction=1)
    result = ingest(str(source), str(tmp_path / "dataset"), config, two_core_session)
    assert (result.listed, result.accepted, result.quarantined) == (6, 2, 4)
    dataset = Dataset.open(str(tmp_path / "dataset"))
    assert {dataset.path_of(row) for row in range(2)} == {"a/good.jpg", "b/good.gif"}
    found = {entry.path: (entry.stage, entry.reason) for entry in read_quarantine(dataset)}
    assert found["a/empty.jpg"] == ("sniff", "the file is empty")
    assert found["a/page.jpg"] == ("sniff", "an HTML page, not an image")
    assert found["b/zeros.png"] == ("sniff", "zero bytes only, not an image")
    assert found["b/truncated.jpg"][0] == "decode"
    assert len(found) == 4


def test_a_link_that_leads_nowhere_is_quarantined_and_trouble_with_storage_is_not(tmp_path: Path) -> None:
    """The second would make the dataset depend on the weather: it fails the task, and Spark tries again."""

    def plan(path: str, size_bytes: int = 0) -> BlockPlan:
        return BlockPlan(
            block=0,
            dataset=str(tmp_path / "d"),
            short_side=48,
            jpeg_quality=92,
            images=(listed(tmp_path, path, size_bytes),),
        )

    (tmp_path / "link.jpg").symlink_to("nowhere")
    result = ingest_block(plan("link.jpg"))
    assert result.written.num_samples == 0
    assert [entry.stage for entry in result.quarantine] == ["read"]
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(StorageError):
        ingest_block(plan("folder.jpg"))
    with pytest.raises(StorageError, match="was listed and is gone"):
        ingest_block(plan("gone.jpg", size_bytes=1))


def test_an_image_that_fails_as_nobody_expected_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("too odd")

    (tmp_path / "odd.png").touch()
    monkeypatch.setattr(data_ingest, "to_stored_image", fail)
    plan = BlockPlan(
        block=0,
        dataset=str(tmp_path / "d"),
        short_side=48,
        jpeg_quality=92,
        images=(listed(tmp_path, "odd.png"),),
    )
    with pytest.raises(WorkerError, match=r"odd\.png cannot be decoded: unexpected ValueError: too odd"):
        ingest_block(plan)


def test_a_second_ingest_reuses_what_is_there(scenes: Path, tmp_path: Path, two_core_session: SparkSession) -> None:
    first = ingest(str(scenes), str(tmp_path / "dataset"), SMALL, two_core_session)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").rglob("*")}
    again = ingest(str(scenes), str(tmp_path / "dataset"), SMALL, two_core_session)
    assert again.reused
    assert (again.dataset_id, again.accepted) == (first.dataset_id, 60)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").rglob("*")} == before


def test_other_images_are_not_mixed_with_those_that_are_there(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    source = tmp_path / "source"
    for name in ("coast", "desert"):
        (source / name).mkdir(parents=True)
        for path in (scenes / name).iterdir():
            (source / name / path.name).symlink_to(path)
    ingest(str(source), str(tmp_path / "dataset"), SMALL, two_core_session)
    (source / "coast" / "scene_00003.jpg").unlink()
    with pytest.raises(DatasetError, match=r"was made from other images.*choose another directory, or delete"):
        ingest(str(source), str(tmp_path / "dataset"), SMALL, two_core_session)


def test_what_an_unfinished_ingest_left_is_replaced(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    dataset = tmp_path / "dataset"
    first = ingest(str(scenes), str(dataset), SMALL, two_core_session)
    left = data_files(dataset)
    (dataset / "manifest.json").unlink()
    (dataset / f".manifest.json.{'0' * 32}.tmp").write_text("{")
    block = next((dataset / "data").iterdir()).name
    (dataset / "data" / f".{block}.{'0' * 32}.tmp").write_text("half a block")
    with pytest.raises(DatasetError, match="not a finished dataset"):
        Dataset.open(str(dataset))
    again = ingest(str(scenes), str(dataset), SMALL, two_core_session)
    assert not again.reused
    assert again.dataset_id == first.dataset_id
    assert data_files(dataset) == named_by_the_manifest(dataset)
    assert not data_files(dataset) & left
    assert sorted(os.listdir(dataset)) == ["data", "index.parquet", "manifest.json", "quarantine.parquet"]


def test_a_second_ingest_at_the_same_time_is_refused(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    with open(dataset / ".ingest.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another `sunspark ingest` works on"):
            ingest(str(scenes), str(dataset), SMALL, two_core_session)
    assert os.listdir(dataset) == [".ingest.lock"]


def test_a_dataset_that_another_finished_meanwhile_stays_whole(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are no locks: the manifest decides."""
    dataset = str(tmp_path / "dataset")
    monkeypatch.setattr(storage, "only_holder", lambda *_: nullcontext())
    run = spark_ingest._run

    def run_after_another(*arguments: Any) -> list[BlockResult]:
        results = run(*arguments)
        monkeypatch.setattr(spark_ingest, "_run", run)
        assert not ingest(str(scenes), dataset, SMALL, two_core_session).reused
        return results

    monkeypatch.setattr(spark_ingest, "_run", run_after_another)
    first = ingest(str(scenes), dataset, SMALL, two_core_session)
    assert first.reused
    assert data_files(tmp_path / "dataset") == named_by_the_manifest(tmp_path / "dataset")


@pytest.mark.parametrize(
    "name", ["notes.txt", "mystuff/a.txt", "block-000000-0123456789abcdef.parquet/mine", "block-1.parquet"]
)
def test_files_of_the_user_are_refused_and_stay(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession, name: str
) -> None:
    mine = tmp_path / "project" / "data" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DatasetError, match=rf"is not empty and not a dataset \(it holds data/{name.split('/')[0]}\)"):
        ingest(str(scenes), str(tmp_path / "project"), SMALL, two_core_session)
    assert mine.read_text() == "mine"


def test_mistakes_are_told_before_any_work_is_done(
    scenes: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(DatasetError, match=r"full is not empty and not a dataset \(it holds thesis\.tex\)"):
        ingest(str(scenes), str(tmp_path / "full"), SMALL, two_core_session)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "data").touch()
    with pytest.raises(DatasetError, match=r"taken is not empty and not a dataset \(it holds data\)"):
        ingest(str(scenes), str(tmp_path / "taken"), SMALL, two_core_session)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: there is a file where a folder is needed.*choose another path"):
        ingest(str(scenes), str(tmp_path / "file"), SMALL, two_core_session)
    for inner in (scenes / "dataset", scenes, scenes.parent):
        with pytest.raises(ConfigError, match="lie in each other"):
            ingest(str(scenes), str(inner), SMALL, two_core_session)
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "x.jpg").touch()
    with pytest.raises(SourceError, match=r"(?s)none of the 1 images .*the file is empty \(for instance a/x\.jpg\)"):
        ingest(str(tmp_path / "bad"), str(tmp_path / "dataset"), SMALL, two_core_session)


@pytest.mark.parametrize(
    "options",
    [{"short_side": 4}, {"jpeg_quality": 0}, {"test_fraction": 1.0}, {"block_size": 0}, {"partitions": 0}],
)
def test_configurations_check_themselves(options: dict[str, float]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigError, match=rf"{name} must be .*got {value}; "):
        IngestConfig(**options)


def test_a_task_that_cannot_write_ends_the_ingest_with_its_cause(
    scenes: Path, tmp_path: Path, small_disk: Path, two_core_session: SparkSession
) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "data").symlink_to(small_disk)
    with pytest.raises(WorkerError, match=r"ingest failed on Spark: .*FullDiskError: .*dataset/data.*No space left"):
        ingest(str(scenes), str(tmp_path / "dataset"), SMALL, two_core_session)
    with pytest.raises(DatasetError, match="not a finished dataset"):
        Dataset.open(str(tmp_path / "dataset"))


def descendants() -> Iterator[tuple[int, str, str]]:
    """(process id, its command, its parent's command) of every process below this one."""
    processes: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            processes[int(path.name)] = parent, (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
    for process, (parent, command) in processes.items():
        above = parent
        while above in processes and above != os.getpid():
            above = processes[above][0]
        if above == os.getpid() and parent in processes:
            yield process, command, processes[parent][1]


def python_workers() -> list[int]:
    """The processes that run tasks; their parent is Spark's daemon, which is not one of them."""
    return [
        process
        for process, command, parent in descendants()
        if "pyspark.daemon" in command and "pyspark.daemon" in parent
    ]


def executors() -> list[int]:
    return [process for process, command, _ in descendants() if "CoarseGrainedExecutorBackend" in command]


def kill_one_while_it_works(
    folder: Path, victims: Callable[[], list[int]], running: Future[IngestResult], files: str = "*", count: int = 2
) -> None:
    """SIGKILL a process once so many files have been written to a folder, before the last one is."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(list(folder.glob(files))) < count or not (at_work := victims()):
        assert not running.done(), "over before the kill"
        assert time.monotonic() < deadline, "nothing was written in time"
        time.sleep(0.01)
    os.kill(at_work[0], signal.SIGKILL)
    assert not running.done(), "over before the kill"


def num_failed_tasks(session: SparkSession) -> int:
    """Over all stages of the session, also those that were done in the end."""
    store = session.sparkContext._jsc.sc().statusStore()
    jobs = store.jobsList(None)
    return sum(jobs.apply(number).numFailedTasks() for number in range(jobs.size()))


@pytest.fixture(scope="module")
def undisturbed(many: Path, tmp_path_factory: pytest.TempPathFactory, two_core_session: SparkSession) -> IngestResult:
    dataset = tmp_path_factory.mktemp("undisturbed") / "dataset"
    return ingest(str(many), str(dataset), IngestConfig(block_size=10), two_core_session)


def test_a_killed_task_changes_nothing(
    many: Path, tmp_path: Path, two_core_session: SparkSession, undisturbed: IngestResult
) -> None:
    dataset = tmp_path / "dataset"
    failed_before = num_failed_tasks(two_core_session)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            ingest, str(many), str(dataset), IngestConfig(block_size=10, partitions=3), two_core_session
        )
        kill_one_while_it_works(dataset / "data", python_workers, running)
        result = running.result(timeout=DEADLINE_SECONDS)
    assert num_failed_tasks(two_core_session) > failed_before
    assert result.dataset_id == undisturbed.dataset_id
    assert (result.listed, result.accepted, result.quarantined) == (300, 300, 0)
    assert data_files(dataset) == named_by_the_manifest(dataset)


def test_sun_open_is_accepted_in_full(tmp_path: Path, two_core_session: SparkSession) -> None:
    """PNG, GIF, BMP, gray, progressive, turned, without an end marker: all 3,003."""
    source = sun_open()
    lists = tuple(f"{name}={source}/{name}.txt" for name in ("Train_bal", "Test_bal"))
    result = ingest(str(source), str(tmp_path / "d"), IngestConfig(split_list=lists), two_core_session)
    assert (result.listed, result.accepted, result.quarantined) == (3003, 3003, 0)
    assert (result.splits["Train_bal"], result.splits["Test_bal"]) == (2246, 750)
    dataset = Dataset.open(str(tmp_path / "d"))
    assert list(dataset.classes) == [line[3:] for line in (source / "ClassName.txt").read_text().split()]
    assert np.bincount(dataset.labels[dataset.rows("Test_bal")]).tolist() == [50] * 15
    with (source / "MANIFEST.csv").open() as file:
        manifest = {row["path"].lstrip("/"): row for row in csv.DictReader(file)}
    rows = dataset.read_index().to_pylist()
    for row in rows:
        about = manifest[row["path"]]
        assert row["source_format"] == about["format"]
        assert (row["source_width"], row["source_height"]) == (int(about["width"]), int(about["height"]))
        assert row["source_bytes"] == int(about["bytes"])
    assert {"JPEG", "PNG", "GIF", "BMP"} <= set(Counter(row["source_format"] for row in rows))
    hashes = {row["sample_id"]: row["image_hash"] for row in rows}
    for block in map(dataset.read_block, range(dataset.num_blocks)):
        for sample_id, image in zip(block.sample_ids, block.images, strict=True):
            assert hashlib.blake2b(image, digest_size=16).digest() == hashes.pop(int(sample_id))
    assert not hashes


def test_a_mistake_in_the_images_is_told_without_spark(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    hollow = shutil.copytree(scenes, tmp_path / "hollow")
    (hollow / "moor").mkdir()
    listed = tmp_path / "list.txt"
    listed.write_text("forest/none.jpg\n")
    program = f"""
        import sunspark
        from pyspark import SparkContext
        from sunspark.errors import SourceError
        for source, lists in [({str(tmp_path / "empty")!r}, ()), ({str(hollow)!r}, ()),
                              ({str(scenes)!r}, ({f"part={listed}"!r},))]:
            try:
                sunspark.ingest(source, {str(tmp_path / "d")!r}, sunspark.IngestConfig(split_list=lists))
            except SourceError as error:
                print(error)
            assert SparkContext._gateway is None, "Java was started"
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    nothing, hollow_class, missing = done.stdout.splitlines()
    assert "holds no images" in nothing
    assert "moor" in hollow_class
    assert "forest/none.jpg" in missing


@pytest.mark.laws
def test_ingest_needs_no_torch(scenes: Path, tmp_path: Path) -> None:
    """Neither the driver nor the tasks: in a process where torch cannot be imported."""
    program = f"""
        import sys
        sys.modules["torch"] = None
        from sunspark.launch.session import open_session
        from sunspark.data.ingest import IngestConfig
        from sunspark.spark.ingest import ingest
        with open_session("local[1]", "sunspark tests") as session:
            result = ingest({str(scenes)!r}, {str(tmp_path / "d")!r}, IngestConfig(short_side=48), session)
            in_tasks = session.sparkContext.range(1).map(lambda _: sorted(sys.modules)).collect()[0]
        assert result.accepted == 60, result
        assert "sunspark.data.ingest" in in_tasks
        assert "torch" not in in_tasks
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        timeout=100,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(240)
@pytest.mark.laws
def test_a_killed_executor_changes_nothing(many: Path, tmp_path: Path, undisturbed: IngestResult) -> None:
    """Last in this file: it needs a cluster of its own, and there is one Spark per process."""
    active = SparkSession.getActiveSession()
    if active is not None:
        active.stop()
    with open_session("local-cluster[2,1,1024]", "sunspark tests") as session:
        dataset = tmp_path / "dataset"
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(ingest, str(many), str(dataset), IngestConfig(block_size=10, partitions=6), session)
            kill_one_while_it_works(dataset / "data", executors, running)
            result = running.result(timeout=DEADLINE_SECONDS)
        assert num_failed_tasks(session) > 0
    assert result.dataset_id == undisturbed.dataset_id
    assert (result.listed, result.accepted, result.quarantined) == (300, 300, 0)
    assert data_files(dataset) == named_by_the_manifest(dataset)
