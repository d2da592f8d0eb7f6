"""Ingest on Spark: a task takes whole blocks and returns what it wrote, never pixels.

A task that fails is tried again by Spark. Blocks are fixed before the first task starts, so the number of
partitions, retries, speculation and lost executors change nothing in the dataset or its id.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence

from pyspark.sql import SparkSession

from sunspark.data.ingest import BlockPlan, BlockResult, IngestConfig, ingest_block
from sunspark.errors import WorkerError
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest import IngestResult
from sunspark.launch.ingest import ingest as ingest_with
from sunspark.launch.session import open_session
from sunspark.spark.executors import executors_awaited
from sunspark.spark.failures import cause_line
from sunspark.spark.progress import progress


def ingest(source: str, dataset: str, config: IngestConfig, session: SparkSession | None = None) -> IngestResult:
    """Make the dataset `dataset` from the images in `source`, on the Spark cluster of `session`.

    Without one, Spark is started when there is something to do for it: not for a mistake that the listing shows.
    The rest is as `sunspark.launch.ingest.ingest` says.
    """
    return ingest_with(source, dataset, config, functools.partial(_run, session, config))


def _run(
    session: SparkSession | None, config: IngestConfig, plans: Sequence[BlockPlan], display: CountDisplay
) -> list[BlockResult]:
    with _opened(session, config) as opened:
        context = opened.sparkContext
        tasks = context.parallelize(plans, min(config.partitions or len(plans), len(plans)))
        num_images = sum(len(plan.images) for plan in plans)
        with progress(context, num_images, display) as group, executors_awaited(context, group):
            try:
                return tasks.mapPartitions(_ingest_blocks).collect()
            except Exception as error:
                raise WorkerError(f"ingest failed on Spark: {cause_line(str(error))}") from error


def _opened(session: SparkSession | None, config: IngestConfig) -> contextlib.AbstractContextManager[SparkSession]:
    return contextlib.nullcontext(session) if session else open_session(config.master, "sunspark ingest")


def _ingest_blocks(plans: Iterable[BlockPlan]) -> Iterator[BlockResult]:
    """What a Spark partition does: block after block, one in memory at a time."""
    return map(ingest_block, plans)
