"""Trials of a search as tasks of Spark: one a task, wherever a slot is free; if its executor is lost, elsewhere."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from pyspark.sql import SparkSession

from sunspark.launch.trial import TrialTask, run_trial
from sunspark.spark.failures import cause_line

_MOST_LOSSES: Final = 4
logger = logging.getLogger(__name__)


def trial_on_spark(session: SparkSession) -> Callable[[TrialTask], str]:
    """`run_trial`, in a task of this session. It may be called from many threads at once."""

    def run(task: TrialTask) -> str:
        told, cause = asdict(task), ""

        def in_task(_: Iterable[Any]) -> Iterator[str]:
            yield run_trial(TrialTask(**told))

        for _ in range(_MOST_LOSSES):
            try:
                [reason] = session.sparkContext.parallelize([task.run], 1).mapPartitions(in_task).collect()
                return str(reason)
            except Exception as error:  # of whatever kind: its executor is lost, or Spark
                cause = cause_line(str(error))
                logger.warning("the task of %s was lost, and is started again: %s", task.run, cause)
        return f"its task was lost {_MOST_LOSSES} times: {cause}"

    return run
