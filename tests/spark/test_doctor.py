"""The doctor on a real cluster: every executor is visited, and what one of them lacks is told of that one."""

import contextlib
import random
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import sunspark
from sunspark.launch.doctor.cluster import ExecutorResult
from sunspark.launch.doctor.examine import DoctorConfig
from sunspark.launch.session import open_session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(400)]


def test_a_local_master_is_one_executor(two_core_session: SparkSession, law_dataset: str) -> None:
    assert two_core_session.sparkContext.defaultParallelism == 2
    result = sunspark.doctor(DoctorConfig(dataset=law_dataset))
    (executor,) = result.executors
    assert (executor.name, executor.host, executor.checks) == ("driver", "127.0.0.1", [])
    assert (executor.dataset_bytes_per_second or 0) > 0
    assert result.ready, result.checks
    assert not result.connections
    assert {"Spark", "slots", "Java"} <= {check.name for check in result.checks}


@pytest.fixture
def port_before_a_taken_one() -> Iterator[int]:
    """Below those that the system hands out, so that nobody takes the free one meanwhile."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            socket.create_server(("127.0.0.1", port)).close()
            yield port
            return


def test_a_port_that_is_taken_is_wrong_and_the_executors_are_examined_all_the_same(
    two_core_session: SparkSession, port_before_a_taken_one: int
) -> None:
    assert two_core_session.sparkContext.defaultParallelism == 2
    port = port_before_a_taken_one  # the lighthouse takes the next one
    result = sunspark.doctor(DoctorConfig(port=port, workers=9))
    assert not result.ready
    wrong = {check.name: check for check in result.checks if check.status != "ok"}
    assert wrong.keys() == {"ports", "slots"}
    assert f"cannot listen on 127.0.0.1:{port + 1}" in wrong["ports"].found
    assert "choose another --port" in wrong["ports"].remedy
    assert wrong["slots"].status == "warning"
    assert "for 2 workers of 1 cores, 9 asked for" in wrong["slots"].found
    assert [executor.checks for executor in result.executors] == [[]]


@pytest.fixture
def two_executors() -> Iterator[SparkSession]:
    """They need a cluster of their own, and there is one Spark per process."""
    if active := SparkSession.getActiveSession():
        active.stop()
    with open_session("local-cluster[2,1,1024]", "sunspark tests") as session:
        yield session


def python_of_executors(folder: Path, name: str, on_one: str) -> str:
    """A Python for executors that is as it should be on executor 0, and lacks modules on executor 1.

    Their working directories end in their ids. `dataset` is in that of executor 0 alone.
    """
    lacking = folder / f"lacking-{name}"
    lacking.mkdir()
    (lacking / f"{on_one}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{on_one}'\")\n")
    program = folder / f"python-{name}"
    program.write_text(
        f"""#!/bin/sh
case "$PWD" in
*/0) ln -sfn "{folder}/dataset" dataset ;;
*/1) export PYTHONPATH="{lacking}:$PYTHONPATH" ;;
esac
exec "{sys.executable}" "$@"
"""
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.laws
def test_what_one_executor_lacks_is_told_of_that_one(
    two_executors: SparkSession, law_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(law_dataset, tmp_path / "dataset")
    monkeypatch.chdir(tmp_path)
    config = DoctorConfig(master="local-cluster[2,1,1024]", dataset="/proc/self/cwd/dataset")

    two_executors.sparkContext.pythonExec = python_of_executors(tmp_path, "a", on_one="torchft")
    result = sunspark.doctor(config)
    assert {check.name: check.found for check in result.checks if check.status != "ok"} == {}
    good, bad = result.executors
    assert (good.name, good.checks, bad.name) == ("0", [], "1")
    assert (good.dataset_bytes_per_second or 0) > 0
    assert statuses(bad) == {"torchft": "wrong", "dataset": "wrong"}
    assert "No module named 'torchft'" in bad.checks[0].found
    assert "/proc/self/cwd/dataset is not a finished dataset" in bad.checks[1].found
    assert not result.ready
    assert {(way.source, way.target, way.error) for way in result.connections} == {("0", "1", ""), ("1", "0", "")}
    assert all(way.bytes_per_second for way in result.connections)

    two_executors.sparkContext.pythonExec = python_of_executors(tmp_path, "b", on_one="sunspark")
    good, bad = sunspark.doctor(config).executors
    assert (good.name, good.checks, bad.name, bad.python) == ("0", [], "1", None)
    assert statuses(bad) == {"executor": "wrong"}
    assert "No module named 'sunspark'" in bad.checks[0].found
    assert "install sunspark for the Python of the executors" in bad.checks[0].remedy


def statuses(executor: ExecutorResult) -> dict[str, str]:
    return {check.name: check.status for check in executor.checks}


def test_a_master_that_does_not_answer_is_wrong_and_this_machine_is_examined_all_the_same() -> None:
    if active := SparkSession.getActiveSession():
        active.stop()
    result = sunspark.doctor(DoctorConfig(master="nonsense"))
    assert not result.ready
    assert [check.name for check in result.checks if check.status == "wrong"] == ["Spark"]
    assert "Spark did not start on master nonsense" in result.checks[-1].found
    assert len(result.checks) > 8
