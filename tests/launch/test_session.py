"""A Spark session that is there already stays as it was; one that sunspark opened is stopped, whatever happens."""

from collections.abc import Iterator

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from sunspark.errors import ConfigError, SetupError
from sunspark.launch.session import open_session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(180)]


@pytest.fixture
def opened_before() -> Iterator[SparkSession]:
    with open_session("local[1]", "sunspark tests") as session:
        yield session
    assert SparkContext._active_spark_context is None


def works(session: SparkSession) -> bool:
    return int(session.sparkContext.parallelize([1, 2], 1).sum()) == 3


def test_a_session_that_was_there_is_not_stopped(opened_before: SparkSession) -> None:
    with open_session(None, "another") as session:
        assert session.sparkContext is opened_before.sparkContext
    assert works(opened_before)
    with pytest.raises(ConfigError, match=r"--master is local\[7\]"), open_session("local[7]", "another"):
        pass
    assert works(opened_before)


def test_a_session_that_sunspark_opened_is_stopped_when_it_does_not_suit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(session: SparkSession) -> None:
        raise ConfigError(f"{session.sparkContext.master} does not suit")

    monkeypatch.setattr("sunspark.launch.session._check", refuse)
    with pytest.raises(ConfigError, match="does not suit"), open_session("local[1]", "sunspark tests"):
        pass
    assert SparkContext._active_spark_context is None


def test_a_spark_that_does_not_start_is_told_also_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError

    monkeypatch.setattr(SparkContext, "_ensure_initialized", fail)
    with (
        pytest.raises(SetupError, match=r"did not start on master local\[1\]: OSError$"),
        open_session("local[1]", "x"),
    ):
        pass
