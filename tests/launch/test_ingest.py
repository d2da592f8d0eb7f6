"""Laws of ingest without Spark: one dataset, of whatever kind of source, by however many processes, whoever dies."""

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import sunspark
from sunspark.data.dataset import Dataset, read_quarantine
from sunspark.data.ingest import IngestConfig
from sunspark.data.sources import list_source
from sunspark.data.writer import order_key
from sunspark.errors import ConfigError
from sunspark.launch.ingest import IngestResult, ingest
from sunspark.launch.processes import process_engine
from tests.data.source_kinds import CLASSES, KINDS, images, make, split_of, write_tar
from tests.distributed.harness import have_open, wait_until

BODIES = images()
WHOLE = ["data", "index.parquet", "manifest.json", "quarantine.parquet"]
"""What lies in the folder of a dataset, and nothing else."""
BAD = {"a/abbey/sun_900.jpg": b"<html>", "a/abbey/sun_901.jpg": b""}


def config_of(**options: object) -> IngestConfig:
    defaults = {"launcher": "local", "short_side": 32, "block_size": 5, "max_bad_fraction": 0.1}
    return IngestConfig(**{**defaults, **options})  # type: ignore[arg-type]


def ids(kind: str, folder: Path, bodies: dict[str, bytes], **options: object) -> str:
    made = make(kind, folder / kind, bodies)
    config = config_of(labels=made.labels, split_list=made.split_list, max_bad_fraction=1, **options)
    return ingest(made.source, str(folder / f"{kind} dataset"), config, partial(process_engine, 2)).dataset_id


def test_every_kind_of_source_gives_the_same_dataset(tmp_path: Path) -> None:
    assert len({ids(kind, tmp_path, BODIES) for kind in KINDS}) == 1
    for kind in KINDS:
        folder = tmp_path / f"{kind} dataset"
        dataset = Dataset.open(str(folder))
        assert dataset.classes == CLASSES
        assert {dataset.path_of(int(row)) for row in dataset.rows("test")} == {
            path for path in BODIES if split_of(path) == "test"
        }
        assert sorted(os.listdir(folder)) == WHOLE
        in_use = {entry["name"] for entry in dataset.manifest["blocks"]}
        assert {f"data/{path.name}" for path in (folder / "data").iterdir()} == in_use


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "parquet"])
def test_bad_images_are_quarantined_alike(kind: str, tmp_path: Path) -> None:
    """With an image a block, two blocks are left without images and are none of the dataset."""
    ids(kind, tmp_path, BODIES | BAD, block_size=1)
    dataset = Dataset.open(str(tmp_path / f"{kind} dataset"))
    assert dataset.num_blocks == 24
    assert (len(dataset), dataset.manifest["listed"]) == (24, 26)
    assert {entry.path: entry.reason for entry in read_quarantine(dataset)} == {
        "a/abbey/sun_900.jpg": "an HTML page, not an image", "a/abbey/sun_901.jpg": "the file is empty",
    }  # fmt: skip


def test_blocks_are_in_the_order_of_the_hash_whatever_the_archive(tmp_path: Path) -> None:
    ids("tar.gz", tmp_path, BODIES)
    dataset = Dataset.open(str(tmp_path / "tar.gz dataset"))
    assert [dataset.path_of(row) for row in range(24)] == sorted(BODIES, key=lambda path: order_key(0, path))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 300 images that last a while."""
    rng = np.random.default_rng(0)
    bodies = list(images(6, height=800).values())
    archive = tmp_path_factory.mktemp("many") / "many.tar.gz"
    write_tar(archive, {f"class {n % 3}/{n}.jpg": bodies[int(rng.integers(6))] for n in range(300)})
    return archive


def test_a_killed_process_changes_nothing(many: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(block_size=40, short_side=256)
    undisturbed = ingest(str(many), str(tmp_path / "one"), config, partial(process_engine, 1))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingest, str(many), str(tmp_path / "two"), config, partial(process_engine, 2))
        kill_one_while_it_stages(tmp_path / "two", running)
        result = running.result(timeout=100)
    assert "was ended by SIGKILL" in caplog.text
    assert result.dataset_id == undisturbed.dataset_id
    assert (result.listed, result.accepted, result.quarantined) == (300, 300, 0)
    assert sorted(os.listdir(tmp_path / "two")) == WHOLE


def kill_one_while_it_stages(dataset: Path, running: Future[IngestResult]) -> None:
    def is_killed() -> bool:
        assert not running.done(), "over before the kill"
        at_work = {process for folder in dataset.glob("staging-*") for process in have_open(folder)}
        for victim in at_work - {os.getpid()}:
            os.kill(victim, signal.SIGKILL)
            return True
        return False

    wait_until(is_killed, 60, "a process that writes a piece")


def test_what_a_killed_ingest_left_is_replaced(many: Path, tmp_path: Path) -> None:
    """The whole of it is killed, while it stages."""
    program = f"""
        import sunspark
        config = sunspark.IngestConfig(launcher="local", block_size=40)
        sunspark.ingest({str(many)!r}, {str(tmp_path / "d")!r}, config)
    """
    dataset = tmp_path / "d"

    def has_begun() -> bool:
        return any(dataset.glob("staging-*/.piece-*")) or driver.poll() is not None

    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.DEVNULL) as driver:
        wait_until(has_begun, 60, "a piece that is written")
        assert driver.poll() is None, "over before the kill"
        driver.kill()
    assert len(list(dataset.glob("staging-*"))) == 1
    config = config_of(block_size=40, short_side=256)
    again = ingest(str(many), str(dataset), config, partial(process_engine, 2))
    other = ingest(str(many), str(tmp_path / "e"), config, partial(process_engine, 2))
    assert not again.reused
    assert again.dataset_id == other.dataset_id
    assert sorted(os.listdir(dataset)) == WHOLE


def test_it_needs_neither_spark_nor_java_nor_torch(tmp_path: Path) -> None:
    made = make("tar.gz", tmp_path / "made", BODIES)
    program = f"""
        import sys
        for name in ("pyspark", "py4j", "torch", "torchft"):
            sys.modules[name] = None
        import sunspark
        result = sunspark.ingest({made.source!r}, {str(tmp_path / "d")!r}, sunspark.IngestConfig(launcher="local"))
        assert result.accepted == 24, result
    """
    environment = {**os.environ, "JAVA_HOME": str(tmp_path), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        timeout=100,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options", [{"partitions": 2}, {"master": "local[2]"}])
def test_options_without_effect_are_refused(options: dict[str, object], tmp_path: Path) -> None:
    name = next(iter(options))
    with pytest.raises(ConfigError, match=rf"--{name} .* has no effect with --launcher local"):
        config_of(**options)
    with pytest.raises(ConfigError, match=r"--endpoint-url http://h:1 has no effect: none of"):
        sunspark.ingest(str(tmp_path), str(tmp_path / "d"), config_of(endpoint_url="http://h:1"))


def test_the_command_line_says_it_all(tmp_path: Path) -> None:
    made = make("csv", tmp_path / "made", BODIES)
    command = [
        sys.executable, "-m", "sunspark.cli", "ingest", made.source, str(tmp_path / "d"), "--launcher", "local",
        "--source-format", "table", "--labels", str(made.labels), "--short-side", "32", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, timeout=100, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f'"accepted": {len(list_source(made.source).images)}' in done.stdout
