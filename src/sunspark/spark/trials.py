"""Trials of a search as tasks of Spark: one a task, wherever a slot is free; if its executor is lost, elsewhere."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

from sunspark.errors import StorageError, WorkerError, first_line_of
from sunspark.launch.config import LaunchConfig
from sunspark.launch.spark import one_task
from sunspark.launch.trial import TrialTask, run_trial
from sunspark.spark.failures import cause_line

_MOST_LOSSES: Final = 4
logger = logging.getLogger(__name__)


def trial_on_spark(session: SparkSession, launch: LaunchConfig) -> Callable[[TrialTask], str]:
    """`run_trial`, in a task of this session as large as `launch` says. It may be called from many threads at once.

    Raises StorageError as `run_trial`, WorkerError when Spark cannot run the task to its end.
    """

    def run(task: TrialTask) -> str:
        told, cause = asdict(task), ""

        def in_task(_: Iterable[Any]) -> Iterator[str]:
            try:
                yield from (run_trial(TrialTask(**told)), "")
            except StorageError as error:  # raised here, it would have Spark start the task again
                yield from ("", str(error))

        for _ in range(_MOST_LOSSES):
            try:
                job = one_task(
                    session.sparkContext,
                    task.run,
                    in_task,
                    launch.cores_per_worker,
                    needs_gpu=launch.device == "cuda",
                )
                reason, trouble = map(str, job.collect())
            except (Py4JNetworkError, ConnectionError) as error:
                raise WorkerError(
                    f"Spark's driver process is gone ({first_line_of(error)}); its log may tell why. "
                    "The same command goes on with the search"
                ) from error
            except Exception as error:  # of whatever kind: its executor is lost, or Spark
                cause = cause_line(str(error))
                logger.warning("the task of %s was lost, and is started again: %s", task.run, cause)
                continue
            if trouble:
                raise StorageError(trouble)
            return reason
        raise WorkerError(
            f"the task of {task.run} was lost {_MOST_LOSSES} times: {cause}; see to it, and give the same command "
            "again: the search goes on"
        )

    return run
