"""The executors of this process's Spark application: who they are, and how a test has them come and go."""

from pyspark import SparkContext

from tests.distributed.harness import wait_until


def executor_ids(context: SparkContext) -> set[str]:
    """As Spark names them: of those that come, each has a new one."""
    return set(filter(None, str(context._jsc.sc().getExecutorIds().mkString(",")).split(",")))


def have_executors(context: SparkContext, count: int) -> None:
    """Ask Spark for that many, and wait until they are there; those that are too many are killed, the last first."""
    scala = context._jsc.sc()
    there = sorted(executor_ids(context), key=int)
    if missing := count - len(there):
        if missing > 0:
            scala.requestExecutors(missing)
        for executor in there[count:]:
            scala.killExecutor(executor)
    wait_until(lambda: len(executor_ids(context)) == count, 90, f"{count} executors")
