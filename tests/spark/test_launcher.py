"""The Spark launcher at the end of a run."""

import contextlib
import re
import threading
import time
from dataclasses import replace

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
    launcher = launcher_until(has_ended, two_core_session, causes)
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


def test_why_a_task_cannot_run_is_told_with_its_host(
    two_core_session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_core_session.sparkContext, "pythonExec", "nowhere/python")
    cause = cause_of_lost_task(two_core_session, spec())
    assert re.fullmatch(r'.*Cannot run program "nowhere/python".* \(\S+ executor driver\)', cause)


def test_why_python_failed_is_told_without_the_stack(two_core_session: SparkSession) -> None:
    cause = cause_of_lost_task(two_core_session, replace(spec(), work={"task": "none"}))
    assert cause.startswith("KeyError: 'model'")


def test_a_place_is_not_lost_for_an_error_that_nobody_foresaw(
    two_core_session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> None:
        raise EOFError  # as where Spark closes the line on which it hands over a result

    monkeypatch.setattr(SparkLauncher, "_one_task", break_off)
    assert cause_of_lost_task(two_core_session, spec()) == "EOFError"


def cause_of_lost_task(session: SparkSession, spec: WorkerSpec) -> str:
    has_ended, causes = threading.Event(), list[str]()
    launcher = launcher_until(has_ended, session, causes)
    launcher.start(spec, 1)
    try:
        wait_until(lambda: bool(causes), 60, "the loss of a task")
    finally:
        has_ended.set()
        launcher.join(JOIN_SECONDS)
    return causes[0]


def launcher_until(has_ended: threading.Event, session: SparkSession, causes: list[str]) -> SparkLauncher:
    return SparkLauncher(
        session,
        has_ended=has_ended.is_set,
        give_up=causes.append,
        task_was_lost=causes.append,
        is_deserted=lambda _: has_ended.is_set(),
    )


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
