"""The loader alone, in a process with the memory that docs/concepts/memory.md grants: more data, more epochs."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from sunspark.data.dataset import Dataset
from tests.large_images import make_large_dataset
from tests.memory.group import MemoryGroup, memory_group

pytestmark = [pytest.mark.laws, pytest.mark.timeout(240)]

IMAGE_SIZE, GLOBAL_BATCH_SIZE, THREADS = 256, 20, 2
PREFETCH_BYTES = 8 * 2**20
CACHE_BYTES = 32 * 2**20
BLOCK_SIZE = 2
NUM_SAMPLES = 1_000
NUM_COMMENTS = 16  # images of 1.1 MB
PYTHON_BYTES = 80 * 2**20
"""An interpreter with NumPy, Pillow and pyarrow."""

_LOAD = """
import json, os, sys
from sunspark.data.dataset import Dataset
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan

uri, cache, image_size, batch_size, threads, prefetch_bytes, cache_bytes, epochs, keeps = sys.argv[1:]
dataset = Dataset.open(uri)
plan = StepPlan(
    dataset_id=dataset.id, split="train", seed=0, num_samples=len(dataset), global_batch_size=int(batch_size),
    num_epochs=int(epochs), num_replicas=1,
)
config = LoaderConfig(
    image_size=int(image_size), cache_directory=cache, prefetch_bytes=int(prefetch_bytes), cache_bytes=int(cache_bytes)
)
loader = Loader(dataset, plan, config, int(threads))
kept, samples, held = [], 0, []
for step in range(plan.num_steps):
    batches = loader.take(step, range(1))
    samples += len(batches[0])
    if keeps == "everything":
        kept.append(batches)
    if plan.epoch_of(step) == len(held):
        lines = dict(line.split(":") for line in open("/proc/self/status"))
        held.append(int(lines["RssAnon"].split()[0]) * 1024)
opened = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
shared = [path for path in [*opened, *open("/proc/self/maps")] if "/dev/shm" in path]
loader.close()
print(json.dumps({"samples": samples, "held_bytes": held, "shared": shared}))
"""


def budget_bytes(dataset: Dataset) -> int:
    """The formula of docs/concepts/memory.md."""
    block_bytes = max(block["size_bytes"] for block in dataset.manifest["blocks"])
    batch_bytes = GLOBAL_BATCH_SIZE * (IMAGE_SIZE**2 * 3 + 16)
    image_bytes = 4 * (256 * 341 + 2 * IMAGE_SIZE**2)
    return PYTHON_BYTES + PREFETCH_BYTES + 2 * batch_bytes + THREADS * 3 * block_bytes + (THREADS + 1) * image_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What became of a process that loads."""

    returncode: int
    samples: int
    """That it had when it ended."""
    held_bytes: list[int]
    """Memory that it held after the first step of each epoch."""
    shared: list[str]
    """What it had in shared memory."""


def load(
    group: MemoryGroup, dataset: Dataset, cache: Path, keeps: Literal["nothing", "everything"] = "nothing"
) -> Loaded:
    """Take the batches of `NUM_SAMPLES` samples, in as many epochs as that takes, in a process of that group."""
    epochs = NUM_SAMPLES // len(dataset)
    numbers = map(str, (IMAGE_SIZE, GLOBAL_BATCH_SIZE, THREADS, PREFETCH_BYTES, CACHE_BYTES, epochs))
    command = [sys.executable, "-c", _LOAD, dataset.uri, str(cache), *numbers, keeps]
    done = subprocess.run(group.command(*command), stdout=subprocess.PIPE, text=True, timeout=200, check=False)
    told = json.loads(done.stdout or '{"samples": 0, "held_bytes": [], "shared": []}')
    return Loaded(returncode=done.returncode, **told)


def test_the_loader_stays_within_its_budget_however_large_the_dataset(tmp_path: Path) -> None:
    """As many samples of a fiftieth of the data, in 50 epochs, as of all of it, in one."""
    peaks, histories = [], []
    for count in (NUM_SAMPLES // 50, NUM_SAMPLES):
        dataset = make_large_dataset(
            str(tmp_path / f"dataset-{count}"), count, num_comments=NUM_COMMENTS, block_size=BLOCK_SIZE
        )
        with memory_group(budget_bytes(dataset)) as group:
            loaded = load(group, dataset, tmp_path / "cache")
            assert (loaded.returncode, loaded.samples, group.num_kills) == (0, NUM_SAMPLES, 0)
            assert loaded.shared == []
            peaks.append(group.peak_bytes)
            histories.append(loaded.held_bytes)
    assert sum(block["size_bytes"] for block in dataset.manifest["blocks"]) > 8 * budget_bytes(dataset)
    assert peaks[1] < 1.2 * peaks[0], "memory grows with the dataset"
    assert len(histories[0]) == 50
    assert max(histories[0][30:]) < 1.05 * max(histories[0][5:20]), "memory grows with the epochs"

    with memory_group(budget_bytes(dataset)) as group:
        held_all = load(group, dataset, tmp_path / "cache", keeps="everything")
        assert (held_all.returncode, group.num_kills) == (-9, 1), "a loader that holds everything would pass, too"
