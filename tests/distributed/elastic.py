"""Workers come and go while a run trains: 2, 4, 1, 3.

Four start, and stall before the first step until two of them are gone. All workers stall again at the end of each part
until its number of workers has been seen in the records, and the next number is there: nothing depends on how fast this
machine starts a process.
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from sunspark.parallel.faults import Fault
from sunspark.records import StepRecord, read_records
from sunspark.training.verify import verify
from tests.distributed.harness import events, holds_until, records_in, wait_until

SIZES: Final = (2, 4, 1, 3)
MOST: Final = max(SIZES)
_HOLDS: Final = (0, 16, 32, 48)
_PATIENCE_SECONDS: Final = 240.0


def holds(run: Path) -> list[Fault]:
    """The stalls of every worker."""
    return [
        fault for step in _HOLDS for fault in holds_until(_release(run, step), MOST, 2 * _PATIENCE_SECONDS, step=step)
    ]


def play(run: Path, set_workers: Callable[[int], object]) -> None:
    """Have each number of workers when its time has come; `set_workers` returns when those who go are gone."""
    try:
        _play(run, set_workers)
    finally:  # whatever happened, the run shall end
        for step in _HOLDS:
            _release(run, step).touch()


def _play(run: Path, set_workers: Callable[[int], object]) -> None:
    arrived = MOST
    wait_until(lambda: _num_joined(run) >= MOST, _PATIENCE_SECONDS, f"the arrival of {MOST} workers")
    for before, size, hold in zip((MOST, *SIZES), SIZES, _HOLDS, strict=False):
        set_workers(size)
        arrived += max(0, size - before)
        wait_until(lambda: _num_joined(run) >= arrived, _PATIENCE_SECONDS, f"the arrival of {size} workers")  # noqa: B023
        _release(run, hold).touch()
        wait_until(lambda: size in _sizes_so_far(run), _PATIENCE_SECONDS, f"a step of {size} workers")  # noqa: B023


def assert_nothing_was_lost_on_the_way(run: Path) -> None:
    """The numbers passed in that order, and every sample was applied exactly once."""
    steps = {r.step: r.world_size for r in read_records(str(run)) if isinstance(r, StepRecord)}
    passed = [size for size, _ in itertools.groupby(steps[step] for step in sorted(steps))]
    assert _is_within(SIZES, passed), passed
    verdict = verify(str(run))
    assert verdict.exactly_once, verdict.problems


def _is_within(wanted: Iterable[int], passed: Iterable[int]) -> bool:
    """Whether all of `wanted` occur in that order."""
    rest = iter(passed)
    return all(size in rest for size in wanted)


def _release(run: Path, hold: int) -> Path:
    return run.with_suffix(f".release-{hold}")


def _num_joined(run: Path) -> int:
    return sum(event["event"] == "joined" for event in events(run))


def _sizes_so_far(run: Path) -> set[object]:
    files = (run / "records").glob("*.jsonl")
    return {record.get("world_size") for file in files for record in records_in(file)}
