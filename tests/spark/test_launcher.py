"""The Spark launcher at the end of a run."""

import contextlib
import threading
import time

import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sunspark.launch.spark import SparkLauncher
from sunspark.training.spec import WorkerSpec
from tests.distributed.harness import wait_until

pytestmark = [pytest.mark.spark, pytest.mark.timeout(180)]

JOIN_SECONDS = 60.0


def occupy_all_slots(session: SparkSession) -> None:
    session.sparkContext.setJobGroup("others", "whoever has the slots", interruptOnCancel=True)
    with contextlib.suppress(Py4JError, PySparkException):
        session.sparkContext.parallelize([0, 1], 2).foreach(lambda _: time.sleep(150))


def test_the_end_does_not_wait_for_tasks_that_have_no_slot(two_core_session: SparkSession) -> None:
    context, others = two_core_session.sparkContext, threading.Thread(target=occupy_all_slots, args=[two_core_session])
    others.start()
    has_ended, causes = threading.Event(), list[str]()
    launcher = SparkLauncher(
        two_core_session, has_ended=has_ended.is_set, give_up=causes.append, is_deserted=lambda _: has_ended.is_set()
    )
    try:
        wait_until(lambda: bool(context.statusTracker().getJobIdsForGroup("others")), 60, "the others' job")
        launcher.start(spec(), 2)
        for worker in range(2):
            group = f"sunspark-worker-{worker}"
            wait_until(lambda: bool(context.statusTracker().getJobIdsForGroup(group)), 60, group)  # noqa: B023
        has_ended.set()
        started = time.monotonic()
        launcher.join(JOIN_SECONDS)
        assert time.monotonic() - started < JOIN_SECONDS / 2
    finally:
        has_ended.set()
        context.cancelJobGroup("others")
        others.join(30)
    assert not causes


def spec() -> WorkerSpec:
    """Of a worker that never starts."""
    nowhere = "grpc://127.0.0.1:1"
    return WorkerSpec(
        task="train",
        coordinator=nowhere,
        lighthouse=nowhere,
        token="",
        run="",
        dataset="",
        split="",
        cores=1,
        gradient_path="auto",
        work={},
    )
