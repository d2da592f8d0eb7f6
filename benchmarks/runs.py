"""What the benchmarks that disturb a run share: a dataset, and what a run under way has recorded so far."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sunspark.data.codec import encode_jpeg
from sunspark.data.writer import write_dataset
from tests.distributed.harness import events, is_running, records_in

_RECENT = 200
_FRESH_SECONDS = 4
"""Records reach storage every 2 s."""


def make_dataset(folder: Path) -> str:
    """256 images of noise in four classes."""
    rng = np.random.default_rng(0)
    samples = [
        (f"{i % 4}/{i}.jpg", i % 4, ["train"], encode_jpeg(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)))
        for i in range(256)
    ]
    uri = str(folder / "dataset")
    write_dataset(uri, samples, classes=["0", "1", "2", "3"], block_size=64)
    return uri


def newest_processes(run: Path) -> dict[int, int]:
    """The process ids of the workers that have joined, by worker."""
    joins = [event for event in events(run) if event["event"] == "joined"]
    return {int(str(event["worker"])): int(str(event["detail"]).rpartition(" ")[2]) for event in joins}


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was applied."""

    step: int
    unix_seconds: float
    """When the first worker had applied it."""
    world_size: int


def steps_of(run: Path, last: int | None = None) -> list[Step]:
    """The steps so far, or the last ones of every worker process, in order of time."""
    steps: dict[int, Step] = {}
    for path in (run / "records").glob("worker-*.jsonl"):
        for record in records_in(path, last):
            if record.get("kind") == "step":
                step = Step(
                    int(str(record["step"])), float(str(record["time_unix_seconds"])), int(str(record["world_size"]))
                )
                known = steps.get(step.step, step)
                steps[step.step] = min(step, known, key=lambda one: one.unix_seconds)
    return sorted(steps.values(), key=lambda step: step.unix_seconds)


def train_together(run: Path, workers: int, since_unix_seconds: float = 0.0) -> bool:
    """Whether all workers live and the latest step is of them all: a fresh one, later than `since_unix_seconds`."""
    newest = newest_processes(run)
    if len(newest) < workers or not all(map(is_running, newest.values())):
        return False
    earliest = max(since_unix_seconds, time.time() - _FRESH_SECONDS)
    return any(s.world_size == workers and s.unix_seconds > earliest for s in steps_of(run, _RECENT)[-1:])
