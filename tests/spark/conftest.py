"""A Spark session per test module."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from sunspark.launch.session import open_session


@pytest.fixture(scope="module")
def two_core_session() -> Iterator[SparkSession]:
    """`local[2, 4]`: two slots, and a task may fail three times (`local[2]` never tries again)."""
    with open_session("local[2, 4]", "sunspark tests") as session:
        yield session
