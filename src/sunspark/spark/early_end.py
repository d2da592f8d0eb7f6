"""The early end of a Spark job whose ingest can only fail.

`collect` tells nothing before all tasks are done. So each task adds what it has found to an accumulator, which the
driver has as soon as the task is done, and a thread there cancels the job. The results themselves still come by
`collect`: Spark drops an update of an accumulator that fails, with no more than a line in its log.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

from py4j.protocol import Py4JError
from pyspark import Accumulator, AccumulatorParam, SparkContext

from sunspark.data.early_end import EndedEarly, Hopeless, SoFar

_LOOK_SECONDS: Final = 0.1
_LEAVE_SECONDS: Final = 10.0
"""Spark kills the Python of a task that was cancelled after 2 s."""


class Adding(AccumulatorParam[SoFar]):
    """How Spark adds up what tasks have found."""

    def zero(self, value: SoFar) -> SoFar:
        del value
        return SoFar()

    def addInPlace(self, value1: SoFar, value2: SoFar) -> SoFar:
        value1.add(value2)
        return value1


@contextlib.contextmanager
def ended_when_hopeless(
    context: SparkContext, group: str, so_far: Accumulator[SoFar], hopeless: Hopeless
) -> Iterator[None]:
    """Cancel the jobs of `group`, which run in the block, as soon as too many images are bad.

    Raises EndedEarly in place of what the cancelled jobs raise, when their tasks have ended.
    """
    is_over, is_ended = threading.Event(), threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            if hopeless(len(so_far.value.bad)):
                is_ended.set()
                with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone; the jobs will tell
                    context.cancelJobGroup(group)

    watcher = threading.Thread(target=look, daemon=True, name="early-end")
    watcher.start()
    try:
        yield
    except Exception:
        if not is_ended.is_set():
            raise
        _await_tasks(context, group)
        found = SoFar()
        found.add(so_far.value)  # which a late task may still add to
        raise EndedEarly(found) from None
    finally:
        is_over.set()
        watcher.join()


def _await_tasks(context: SparkContext, group: str) -> None:
    """Wait until no task of the group runs, which would write what is being cleared away."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    tracker = context.statusTracker()
    with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone, and its tasks with it
        while time.monotonic() < deadline:
            jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
            stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
            if not any(stage.numActiveTasks for stage in stages if stage):
                return
            time.sleep(_LOOK_SECONDS)
