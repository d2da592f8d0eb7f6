"""Sessions with settings of a test's own; their executors: who they are, and how a test has them come and go."""

import contextlib
import sys
from collections.abc import Iterator

import pyspark
import pytest
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from sunspark.launch.java import find_java
from tests.distributed.harness import wait_until


@contextlib.contextmanager
def session_with(master: str, settings: dict[str, str]) -> Iterator[SparkSession]:
    """A session with such settings; no later session of this process has them."""
    conf = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", **settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_HOME", str(find_java(pyspark.__version__).home))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        SparkContext._ensure_initialized()  # started with these settings, Java would keep them for all later sessions
        of_this = SparkConf().setMaster(master).setAppName("sunspark tests").setAll(list(conf.items()))
        session = SparkSession.builder.config(conf=of_this).getOrCreate()
    yield session
    session.stop()


def executor_ids(context: SparkContext) -> set[str]:
    """As Spark names them: of those that come, each has a new one."""
    return set(filter(None, str(context._jsc.sc().getExecutorIds().mkString(",")).split(",")))


def have_executors(context: SparkContext, count: int) -> None:
    """Set how many Spark shall have, and wait until so many are there; those that are too many are killed."""
    there = sorted(executor_ids(context), key=int)
    _set_total(context, count)
    for executor in there[count:]:
        context._jsc.sc().killExecutor(executor)
    _set_total(context, count)  # each that was killed has lowered it
    wait_until(lambda: len(executor_ids(context)) == count, 90, f"{count} executors")


def _set_total(context: SparkContext, count: int) -> None:
    no_wishes = context._jvm.org.apache.spark.api.python.PythonUtils.toScalaMap(context._jvm.java.util.HashMap())
    context._jsc.sc().requestTotalExecutors(count, 0, no_wishes)
