"""What a failed Spark job says: the mistake that a task met is told as it would be without Spark."""

import pytest

from sunspark.errors import ConfigError, PathError, StorageError, SunsparkError, WorkerError
from sunspark.spark.failures import told_by_task

PAGES = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 4 times
  File "/opt/sunspark/data/writer.py", line 168, in write_block
{cause}

\tat org.apache.spark.api.python.BasePythonRunner.handlePythonException(PythonRunner.scala:572)
"""


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        ("sunspark.errors.ConfigError: lower block_size", ConfigError, "lower block_size"),
        ("sunspark.errors.PathError: /d: no space: free some", PathError, "/d: no space: free some"),
        ("sunspark.errors.StorageError: s3://b: 503", WorkerError, "failed: sunspark.errors.StorageError: s3://b: 503"),
        ("ZeroDivisionError: division", WorkerError, "failed: ZeroDivisionError: division"),
    ],
)
def test_mistakes_keep_their_class_and_words(cause: str, kind: type[SunsparkError], words: str) -> None:
    told = told_by_task(PAGES.format(cause=cause), "failed")
    assert type(told) is kind
    assert str(told) == words
    assert not isinstance(told, StorageError) or kind is PathError
