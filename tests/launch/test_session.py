"""A Spark session that is there already stays as it was; one that sunspark opened is stopped, whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from sunspark.errors import ConfigError, SetupError
from sunspark.launch.session import _MASTER_SECONDS, _refuse_silent, open_session
from tests.distributed.harness import descendants, name_of, wait_until

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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_while_spark_starts_leaves_no_java_behind(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.jpg").write_bytes(b"")
    program = "from sunspark.cli import console; console()"
    words = ["ingest", str(tmp_path / "images"), str(tmp_path / "dataset"), "--master", "local[1]"]
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as driver:
        wait_until(lambda: bool(javas_below(driver.pid)), 60, "Java's start")
        os.killpg(driver.pid, number)
        output, _ = driver.communicate(timeout=50)  # Java holds the pipe too
    assert driver.returncode == 130
    assert output.decode().endswith("sunspark: interrupted\n")


def javas_below(pid: int) -> list[int]:
    return [child for child in descendants(pid) if name_of(child) == "java"]


@pytest.mark.parametrize(
    ("master", "cause"), [("foo", "Could not parse Master URL: 'foo'"), ("local[many]", "Could not parse Master URL")]
)
def test_a_master_that_spark_does_not_take_is_named_with_its_cause(master: str, cause: str) -> None:
    with pytest.raises(SetupError, match=cause), open_session(master, "a test"):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_master_at_which_nobody_answers_is_told_at_once(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = time.monotonic()
    with (
        pytest.raises(SetupError, match=rf"no Spark master answers at spark://{host}:{port} \({host}:{port}: "),
        open_session(f"spark://{host}:{port}", "a test"),
    ):
        pass
    assert time.monotonic() - started < _MASTER_SECONDS + 10, "Spark alone takes 60 s"


def test_of_several_masters_one_has_to_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _refuse_silent(f"spark://127.0.0.1:1,127.0.0.1:{port}")
    for other in ("local[2]", "yarn", "k8s://https://127.0.0.1:1", "spark://odd"):
        _refuse_silent(other)
    with pytest.raises(SetupError, match=r"\(127\.0\.0\.1:1: .*; 127\.0\.0\.1:2: "):
        _refuse_silent("spark://127.0.0.1:1,127.0.0.1:2")
