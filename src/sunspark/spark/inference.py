"""Batch prediction on Spark: batches of images out to tasks, rows of predictions back, in order.

A task is one batch. The driver lists, sends paths, and receives rows: never an image. Two windows of tasks are on their
way at any time, so that the slots stay busy while memory stays that of two windows. What a task returns is a function
of its batch alone, and Spark hands back one result of each task, so retries, speculation, lost executors and the
number of slots change nothing.

Cost: a Python worker of Spark loads the model once and keeps it for the next tasks.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import torch
from py4j.protocol import Py4JError
from pyspark import TaskContext
from pyspark.sql import SparkSession

from sunspark.data.image_files import ImageFile
from sunspark.data.prediction_table import Prediction
from sunspark.errors import WorkerError
from sunspark.launch.session import open_session
from sunspark.limits import usable_cores
from sunspark.spark.executors import executors_awaited
from sunspark.spark.failures import task_that_died, told_by_task
from sunspark.training.predict import Predictor, PredictSpec

_TASKS_PER_SLOT: Final = 2
"""In a window; with two windows under way, four."""
_WINDOWS_UNDER_WAY: Final = 2


def predict_on_spark(
    master: str | None, spec: PredictSpec, batches: Iterable[Sequence[ImageFile]]
) -> Generator[list[Prediction]]:
    """What is in the images of each batch, in order. Raises WorkerError, with its cause, when a task fails for good."""
    with open_session(master, "sunspark predict") as session:
        yield from predict_in_session(session, spec, batches)


def predict_in_session(
    session: SparkSession, spec: PredictSpec, batches: Iterable[Sequence[ImageFile]]
) -> Generator[list[Prediction]]:
    """The same on a session that is there."""
    group = f"sunspark-predict-{uuid.uuid4().hex}"
    size = _TASKS_PER_SLOT * max(1, session.sparkContext.defaultParallelism)
    upcoming: deque[Future[list[list[Prediction]]]] = deque()
    source = iter(batches)
    pool = ThreadPoolExecutor(_WINDOWS_UNDER_WAY, thread_name_prefix="sunspark-window")
    try:
        with executors_awaited(session.sparkContext, group):
            while window := list(itertools.islice(source, size)):
                upcoming.append(pool.submit(_run_window, session, group, spec, window))
                if len(upcoming) == _WINDOWS_UNDER_WAY:
                    yield from upcoming.popleft().result()
            while upcoming:
                yield from upcoming.popleft().result()
    except BaseException:
        with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone: so are its tasks
            session.sparkContext.cancelJobGroup(group)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _run_window(
    session: SparkSession, group: str, spec: PredictSpec, window: Sequence[Sequence[ImageFile]]
) -> list[list[Prediction]]:
    context = session.sparkContext
    context.setJobGroup(group, "sunspark predict", interruptOnCancel=True)
    try:
        return context.parallelize(window, len(window)).map(functools.partial(_predict_batch, spec)).collect()
    except Exception as error:
        task = task_that_died(str(error))
        if task is None:
            raise told_by_task(str(error), "predict failed on Spark") from error
        first, last = window[task][0].path, window[task][-1].path
        raise WorkerError(
            f"predict failed on Spark: the Python process died that looked at {first} to {last} "
            f"({len(window[task])} images), each time; an image kills its decoder, or memory ran out: predict halves "
            "of them until one is left, and leave it out, or raise spark.executor.memoryOverhead"
        ) from error


def _predict_batch(spec: PredictSpec, batch: Sequence[ImageFile]) -> list[Prediction]:
    """What a task does."""
    context = TaskContext.get()
    return next(_predictor(spec, usable_cores(context.cpus() if context else 1)).predict([batch]))


@functools.lru_cache(maxsize=1)
def _predictor(spec: PredictSpec, num_threads: int) -> Predictor:
    """The model of this Python worker, which outlives its tasks."""
    torch.set_num_threads(num_threads)
    return Predictor(spec, num_threads)
