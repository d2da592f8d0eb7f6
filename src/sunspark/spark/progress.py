"""How far a Spark job is, on the display while it runs."""

import contextlib
import threading
import uuid
from collections.abc import Iterator

from py4j.protocol import Py4JError
from pyspark import SparkContext, StatusTracker

from sunspark.launch.count_display import CountDisplay

_LOOK_SECONDS = 0.5
_GROUP_PROPERTIES = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
"""What `setJobGroup` sets in the caller's thread."""


@contextlib.contextmanager
def progress(context: SparkContext, num_images: int, display: CountDisplay) -> Iterator[str]:
    """Show how far the Spark job is that this thread runs in the block: Spark tells how many tasks are done.

    Gives the job's group.
    """
    group = f"sunspark-ingest-{uuid.uuid4().hex}"
    callers = {name: context.getLocalProperty(name) for name in _GROUP_PROPERTIES}
    has_ended = threading.Event()

    def look() -> None:
        while not has_ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone; the job itself will tell
                display.update(int(num_images * _share_done(context.statusTracker(), group)))

    context.setJobGroup(group, "sunspark ingest")
    watcher = threading.Thread(target=look, daemon=True, name="ingest-progress")
    watcher.start()
    try:
        yield group
        display.update(num_images)
    finally:
        has_ended.set()
        watcher.join()
        with contextlib.suppress(Py4JError, ConnectionError):
            for name, value in callers.items():
                context.setLocalProperty(name, value)  # type: ignore[arg-type]  # None takes it away


def _share_done(tracker: StatusTracker, group: str) -> float:
    """The share of the group's tasks that are done, 0 to 1."""
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
    num_tasks = sum(stage.numTasks for stage in stages if stage)
    return sum(stage.numCompletedTasks for stage in stages if stage) / num_tasks if num_tasks else 0.0
