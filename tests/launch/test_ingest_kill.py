"""Killed at any moment, an ingest leaves nothing that is taken for a dataset; the next one makes the same as ever."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.errors import DatasetError
from sunspark.launch.ingest import ingest
from tests.data.engine import CONFIG, here

DEADLINE_SECONDS = 60.0
NUM_IMAGES = 30
NUM_RENAMES = 8 + 3
"""Blocks; then the index, the quarantine table and the manifest."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(NUM_IMAGES):
        path = folder / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (500, 700, 3), np.uint8)
        path.write_bytes(b"no image" if number == 7 else encode_jpeg(pixels))
    return folder


@pytest.fixture(scope="module")
def wanted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id that an undisturbed ingest gives."""
    return ingest(str(source), str(tmp_path_factory.mktemp("undisturbed") / "dataset"), CONFIG, here).dataset_id


def start(source: Path, dataset: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.data.engine", str(source), str(dataset), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def is_dataset(dataset: Path, wanted: str) -> bool:
    """Whether there is a dataset; if so it must be the one that is wanted."""
    if (dataset / "manifest.json").exists():
        assert Dataset.open(str(dataset)).id == wanted
        return True
    with pytest.raises(DatasetError, match="is not a finished dataset"):
        Dataset.open(str(dataset))
    return False


def assert_whole(source: Path, dataset: Path, wanted: str) -> None:
    """The next ingest gives the dataset, without anything that the killed ones left."""
    assert ingest(str(source), str(dataset), CONFIG, here).dataset_id == wanted
    assert sorted(os.listdir(dataset)) == ["data", "index.parquet", "manifest.json", "quarantine.parquet"]
    there = Dataset.open(str(dataset))
    assert (len(there), there.manifest["quarantined"]) == (NUM_IMAGES - 1, 1)
    assert {path.name for path in (dataset / "data").iterdir()} == {
        entry["name"].rpartition("/")[2] for entry in there.manifest["blocks"]
    }


@pytest.mark.parametrize("number", [1, 5, 9, 10, 11])
def test_killed_before_any_file_appears(source: Path, tmp_path: Path, wanted: str, number: int) -> None:
    """Before a block, between blocks, before the index, the quarantine table, the manifest."""
    with start(source, tmp_path / "dataset", str(number)) as process:
        process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert not is_dataset(tmp_path / "dataset", wanted)
    assert_whole(source, tmp_path / "dataset", wanted)


def test_so_many_files_appear_and_no_more(source: Path, tmp_path: Path, wanted: str) -> None:
    """Or the test above would leave out the last."""
    with start(source, tmp_path / "dataset", str(NUM_RENAMES + 1)) as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert output.split() == ["begins", wanted]


@pytest.mark.parametrize("num_kills", [5, pytest.param(40, marks=[pytest.mark.laws, pytest.mark.timeout(600)])])
def test_killed_again_and_again_at_random(
    source: Path, tmp_path: Path, wanted: str, num_kills: int, dice: random.Random
) -> None:
    dataset, killed = tmp_path / "dataset", 0
    for number in range(num_kills):
        with start(source, dataset) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(dice.uniform(0.0, 0.5))
            process.kill()
            process.communicate(timeout=DEADLINE_SECONDS)
        killed += process.returncode == -signal.SIGKILL
        if is_dataset(dataset, wanted):
            dataset = tmp_path / f"dataset {number}"
    assert killed, "all were over before they were killed"
    assert_whole(source, dataset, wanted)


@pytest.mark.laws
@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_kills", [12])
def test_killed_with_all_its_processes(
    source: Path, tmp_path: Path, wanted: str, num_kills: int, dice: random.Random
) -> None:
    """As from the command line, on all cores; the processes of a driver that was killed end by themselves."""
    words = ["--launcher", "local", "--short-side", "24", "--block-size", "4", "--max-bad-fraction", "1"]
    code = "from sunspark.cli import console; console()"
    dataset, killed = tmp_path / "dataset", 0
    for number in range(num_kills):
        command = [sys.executable, "-c", code, "ingest", str(source), str(dataset), *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert "listed in" in process.stderr.readline()
            time.sleep(dice.uniform(0.0, 1.5))
            process.kill()
            process.communicate(timeout=DEADLINE_SECONDS)
        killed += process.returncode == -signal.SIGKILL
        if is_dataset(dataset, wanted):
            dataset = tmp_path / f"dataset {number}"
    assert killed, "all were over before they were killed"
    assert_whole(source, dataset, wanted)
