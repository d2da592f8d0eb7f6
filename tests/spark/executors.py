"""The executors of this process's Spark application: who they are, and how a test has them come and go."""

from pyspark import SparkContext

from tests.distributed.harness import wait_until


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
