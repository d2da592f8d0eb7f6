"""The files of a run's records: one of each worker process, and one of the driver."""

import re

from sunspark import storage

_WORKER_FILE = re.compile(r"worker-\d+\.(\d+)\.jsonl")


def worker_file(run: str, worker: int, incarnation: int) -> str:
    """Where this incarnation of a worker appends its records."""
    return storage.join(run, "records", f"worker-{worker:02d}.{incarnation:04d}.jsonl")


def worker_files(run: str) -> list[str]:
    """The files of all workers in this run."""
    entries = storage.list_directory(storage.join(run, "records"))
    return [entry.uri for entry in entries if _WORKER_FILE.fullmatch(entry.name)]


def last_incarnation(run: str) -> int:
    """The highest incarnation of any worker that has a file in this run; 0 when there is none."""
    names = [entry.name for entry in storage.list_directory(storage.join(run, "records"))]
    return max((int(match[1]) for name in names if (match := _WORKER_FILE.fullmatch(name))), default=0)


def driver_file(run: str) -> str:
    """Where the driver appends its records."""
    return storage.join(run, "records", "driver.jsonl")
