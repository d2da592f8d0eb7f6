"""Workers, tasks and drivers, each in a control group of the size that docs/concepts/memory.md grants."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sunspark.data.dataset import Dataset
from tests.distributed.laws import make_dataset
from tests.large_images import make_large_dataset, make_large_files
from tests.memory.group import memory_group
from tests.memory.processes import HEAP_BYTES, NURSERY, SPARKS_TASKS, run_sunspark

pytestmark = [pytest.mark.laws, pytest.mark.timeout(900)]

MIB = 2**20
TORCH_BYTES = 600 * MIB
"""An interpreter with torch, and what torch holds without a network."""
PYTHON_BYTES = 200 * MIB
JVM_BYTES = 384 * MIB
"""Of Spark's driver, beside its heap."""

IMAGE_SIZE, GLOBAL_BATCH_SIZE, CORES = 64, 32, 2
PREFETCH_BYTES = 8 * MIB
NUM_SAMPLES = 1_600
NUM_COMMENTS = 64  # images of 4.3 MB
TINY_NETWORK = ("--model-args", "n_filters=2", "wide_units=16")

_HOLD = """
import sys
from pathlib import Path
kept = [path.read_bytes() for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
"""


@pytest.fixture
def datasets(tmp_path: Path) -> Iterator[tuple[Dataset, Dataset]]:
    """A dataset, and one that is ten times as large: 6.8 GB, which do not stay on the disk."""
    few, many = (
        make_large_dataset(str(tmp_path / str(count)), count, num_comments=NUM_COMMENTS, block_size=2)
        for count in (NUM_SAMPLES // 10, NUM_SAMPLES)
    )
    yield few, many
    shutil.rmtree(tmp_path)


def size_bytes(dataset: Dataset) -> int:
    return sum(block["size_bytes"] for block in dataset.manifest["blocks"])


def worker_budget_bytes(dataset: Dataset) -> int:
    """The formula of docs/concepts/memory.md, for a network that is too small to count."""
    block_bytes = max(block["size_bytes"] for block in dataset.manifest["blocks"])
    batch_bytes = GLOBAL_BATCH_SIZE * (IMAGE_SIZE**2 * 3 + 16)
    image_bytes = 4 * (256 * 341 + 2 * IMAGE_SIZE**2)
    return TORCH_BYTES + PREFETCH_BYTES + 2 * batch_bytes + CORES * 3 * block_bytes + (CORES + 1) * image_bytes


def train_words(dataset: str, folder: Path, *more: str) -> list[str]:
    return [
        "train", dataset, str(folder / f"run-{len(list(folder.glob('run-*')))}"),
        "--workers", "1", "--cores-per-worker", str(CORES),
        "--image-size", str(IMAGE_SIZE), "--global-batch-size", str(GLOBAL_BATCH_SIZE),
        "--cache-directory", str(folder / "cache"), "--cache-bytes", str(64 * MIB),
        "--prefetch-bytes", str(PREFETCH_BYTES), *more,
    ]  # fmt: skip


@pytest.mark.spark
def test_worker_and_driver_stay_within_their_budgets_however_large_the_dataset(
    datasets: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    budget, drivers_budget = worker_budget_bytes(datasets[1]), TORCH_BYTES + HEAP_BYTES + JVM_BYTES
    workers_peaks, drivers_peaks = [], []
    for dataset in datasets:
        epochs = str(NUM_SAMPLES // len(dataset))
        words = train_words(dataset.uri, tmp_path, "--master", "local[2]", "--epochs", epochs, *TINY_NETWORK)
        with (
            memory_group(drivers_budget) as driver,
            memory_group(budget) as worker,
            memory_group(PYTHON_BYTES) as tasks,
        ):
            done = run_sunspark(words, tmp_path, driver, {NURSERY: worker, SPARKS_TASKS: tasks})
            assert done.returncode == 0, done.stderr
            assert (driver.num_kills, worker.num_kills, tasks.num_kills) == (0, 0, 0)
            workers_peaks.append(worker.peak_bytes)
            drivers_peaks.append(driver.peak_bytes)
    assert size_bytes(datasets[1]) > 8 * budget
    assert size_bytes(datasets[1]) > 4 * drivers_budget
    assert workers_peaks[1] < 1.2 * workers_peaks[0], "the worker's memory grows with the dataset"
    assert drivers_peaks[1] < 1.2 * drivers_peaks[0], "the driver's memory grows with the dataset"
    assert is_killed_when_it_holds(Path(datasets[1].uri), drivers_budget)


@pytest.mark.spark
def test_the_driver_of_an_ingest_stays_within_its_budget_however_many_bytes_there_are(tmp_path: Path) -> None:
    """Images of 1 MB each, which take up the disk once."""
    drivers_budget, tasks_budget = PYTHON_BYTES + HEAP_BYTES + JVM_BYTES, 3 * PYTHON_BYTES
    peaks = []
    for count in (1_000, 12_000):
        source = tmp_path / f"images-{count}"
        source.mkdir()
        make_large_files(source / "coast", count)
        words = ["ingest", str(source), str(tmp_path / f"dataset-{count}"), "--master", "local[2]"]
        with memory_group(drivers_budget) as driver, memory_group(tasks_budget) as tasks:
            done = run_sunspark(words, tmp_path, driver, {SPARKS_TASKS: tasks})
            assert done.returncode == 0, done.stderr
            assert (driver.num_kills, tasks.num_kills) == (0, 0)
            peaks.append(driver.peak_bytes)
    assert count * 1e6 > 10 * drivers_budget
    assert peaks[1] < 1.2 * peaks[0] + 1_000 * count, "memory grows by more than a name for each image"
    assert is_killed_when_it_holds(source, drivers_budget)


def test_a_worker_that_the_kernel_kills_for_its_memory_is_told_of_and_the_advice_helps(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, num_images=300)
    words = ["--launcher", "local", "--epochs", "1", "--image-size", "96", "--global-batch-size", "300"]
    words += ["--model-args", "n_filters=16", "wide_units=16"]
    with memory_group(2 * TORCH_BYTES) as driver, memory_group(TORCH_BYTES) as worker:
        done = run_sunspark(train_words(dataset, tmp_path, *words), tmp_path, driver, {NURSERY: worker})
        assert done.returncode == 1
        assert worker.num_kills >= 1
        assert "worker process ended by SIGKILL (out of memory: it had " in done.stderr
        assert f"of a limit of {TORCH_BYTES / 1e9:.2f} GB" in done.stderr
        assert "or lower --micro-batch-size" in done.stderr
    words += ["--micro-batch-size", "16"]
    with memory_group(2 * TORCH_BYTES) as driver, memory_group(TORCH_BYTES) as worker:
        done = run_sunspark(train_words(dataset, tmp_path, *words), tmp_path, driver, {NURSERY: worker})
        assert done.returncode == 0, done.stderr
        assert (driver.num_kills, worker.num_kills) == (0, 0)


def test_a_network_takes_so_many_times_its_size(tmp_path: Path) -> None:
    """164 MB of weights and next to no activations; the moments of Adam; one checkpoint after the other."""
    wide = ("--model-args", "n_filters=8", "wide_units=40000", "--global-batch-size", "8", "--checkpoint-every", "2")
    words = train_words(make_dataset(tmp_path, num_images=60), tmp_path, "--launcher", "local", "--epochs", "1", *wide)
    network_bytes = 1024 * 40_000 * 4
    with memory_group(2 * TORCH_BYTES) as driver, memory_group(TORCH_BYTES + 12 * network_bytes) as worker:
        done = run_sunspark([*words, "--optimizer", "adam"], tmp_path, driver, {NURSERY: worker})
        assert done.returncode == 0, done.stderr
        assert (driver.num_kills, worker.num_kills) == (0, 0)
        assert worker.peak_bytes > TORCH_BYTES + 6 * network_bytes


def is_killed_when_it_holds(folder: Path, limit_bytes: int) -> bool:
    """Whether a process that reads all files below `folder` and keeps them dies of that in a group of that size."""
    with memory_group(limit_bytes) as group:
        code = subprocess.run(group.command(sys.executable, "-c", _HOLD, str(folder)), timeout=200).returncode
        return (code, group.num_kills) == (-9, 1)
