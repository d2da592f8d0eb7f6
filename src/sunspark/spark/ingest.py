"""Ingest on Spark: tasks take plans of work and return what they wrote, never pixels.

A task that fails is tried again by Spark. The driver makes all plans of a job before its first task starts (an archive
takes two jobs), and what is written has a name of its attempt, so the number of partitions, retries, speculation and
lost executors change nothing in the dataset or its id.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from pyspark import Accumulator
from pyspark.sql import SparkSession

from sunspark.data.early_end import Hopeless, SoFar
from sunspark.data.ingest import IngestConfig
from sunspark.errors import plural
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest import Engine, IngestResult, PlanT, ResultT
from sunspark.launch.ingest import ingest as ingest_with
from sunspark.launch.session import open_session
from sunspark.spark.early_end import Adding, ended_when_hopeless
from sunspark.spark.executors import executors_awaited
from sunspark.spark.failures import told_by_task
from sunspark.spark.progress import progress


def ingest(source: str, dataset: str, config: IngestConfig, session: SparkSession | None = None) -> IngestResult:
    """Make the dataset `dataset` from the images in `source`, on the Spark cluster of `session`.

    Without one, Spark is started when there is something to do for it: not for a mistake that the listing shows.
    The rest is as `sunspark.launch.ingest.ingest` says.
    """
    return ingest_with(source, dataset, config, functools.partial(_opened_engine, session, config))


@contextlib.contextmanager
def _opened_engine(session: SparkSession | None, config: IngestConfig) -> Iterator[Engine]:
    with contextlib.nullcontext(session) if session else open_session(config.master, "sunspark ingest") as opened:
        yield functools.partial(_run, opened, config.partitions)


def _run(
    session: SparkSession,
    partitions: int | None,
    work: Callable[[PlanT], ResultT],
    plans: Sequence[PlanT],
    display: CountDisplay,
    hopeless: Hopeless,
) -> list[ResultT]:
    context = session.sparkContext
    num_tasks = min(partitions or len(plans), len(plans))
    tasks = context.parallelize(plans, num_tasks)
    num_images = sum(len(plan.images) for plan in plans)
    display.event(f"{plural(num_tasks, 'task')} on Spark; the images of a task are counted when it is done")
    so_far = context.accumulator(SoFar(), Adding())
    with (
        progress(context, num_images, display) as group,
        ended_when_hopeless(context, group, so_far, hopeless),
        executors_awaited(context, group),
    ):
        try:
            return tasks.mapPartitions(functools.partial(_work_through, work, so_far)).collect()
        except Exception as error:
            raise told_by_task(str(error), "ingest failed on Spark") from error


def _work_through(
    work: Callable[[PlanT], ResultT], so_far: Accumulator[SoFar], plans: Iterable[PlanT]
) -> Iterator[ResultT]:
    """What a Spark partition does: plan after plan, one in memory at a time."""
    for plan in plans:
        result = work(plan)
        noted = SoFar()
        noted.note(result)
        so_far.add(noted)
        yield result
