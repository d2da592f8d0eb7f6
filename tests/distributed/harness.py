"""Run a training, do something to it while it runs, and hold its end until the run has felt it.

A law about a worker that comes back must not depend on how fast this machine starts a process: all workers stall near
the end of the run until a watcher, outside of them, has seen what it waits for (or has waited too long: then the law
fails on its own).
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sunspark.launch.config import TrainConfig
from sunspark.launch.train import TrainResult, train
from sunspark.parallel.faults import Fault

HOLD_AT_STEP = 280
_HOLD_SECONDS = 120.0


def events(run: Path) -> list[dict[str, object]]:
    """The events that the driver has recorded so far."""
    return [record for record in records_in(run / "records" / "driver.jsonl") if record.get("kind") == "event"]


def records_in(path: Path, last: int | None = None) -> list[dict[str, object]]:
    """The records in a file that is being written, or the last of them; a half-written line is left out."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines()[-last if last else None :]:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def joined(run: Path, worker: int, incarnation: int = 2) -> bool:
    """Whether that process of the worker, or a later one, has joined."""
    return any(
        event["event"] == "joined" and event["worker"] == worker and int(str(event["incarnation"])) >= incarnation
        for event in events(run)
    )


def step_reached(run: Path) -> int:
    """The last step of which the driver has recorded an event (checkpoints are events)."""
    return max((int(str(event["step"])) for event in events(run)), default=0)


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Wait for `condition`. Raises AssertionError naming `what` when it does not come true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_seconds:.0f} s"
        time.sleep(0.02)


def have_open(folder: Path) -> list[int]:
    """The processes that have a file of the folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or it closes one just now
            if any(entry.readlink().is_relative_to(folder) for entry in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def name_of(pid: int) -> str:
    """The name of a process's program; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(pid: int) -> list[int]:
    """All processes below `pid`; threads and processes that end meanwhile have none."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children += map(int, (task / "children").read_text().split())
    return children + [pid for child in children for pid in descendants(child)]


def train_and_watch(
    dataset: str,
    run: Path,
    config: TrainConfig,
    faults: Sequence[Fault] = (),
    until: Callable[[], bool] | None = None,
    on_start: Callable[[], None] | None = None,
    hold_at_step: int = HOLD_AT_STEP,
) -> TrainResult:
    """Train; hold every worker at `hold_at_step` until `until` is true; meanwhile run `on_start` in a thread."""
    release = run.with_suffix(".release")
    holds = holds_until(release, config.launch.workers, step=hold_at_step)
    with _watcher(release, until or (lambda: True)), _thread(on_start):
        return train(dataset, str(run), config, [*faults, *holds])


def holds_until(
    release: Path, workers: int, timeout_seconds: float = _HOLD_SECONDS, step: int = HOLD_AT_STEP
) -> list[Fault]:
    """Every worker, whichever process of it, waits at `step` until the file is there."""
    return [
        Fault(
            worker=worker,
            phase="quorum",
            step=step,
            incarnation=0,
            action="stall",
            delay_seconds=timeout_seconds,
            until_exists=str(release),
        )
        for worker in range(workers)
    ]


@contextlib.contextmanager
def _watcher(release: Path, until: Callable[[], bool]) -> Iterator[None]:
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            if until():
                release.touch()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


@contextlib.contextmanager
def _thread(target: Callable[[], None] | None) -> Iterator[None]:
    if target is None:
        yield
        return
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(5)
