"""Spark gives each worker a GPU: real scheduling of made-up addresses, since no GPU is needed to be told of one."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sunspark.errors import ConfigError
from sunspark.launch import roster
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.roster import Roster
from sunspark.launch.train import train
from tests.launch.short import interrupt_when, short_config
from tests.spark.executors import session_with

pytestmark = [pytest.mark.spark, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One executor of two slots and two GPUs, and tasks that ask for one."""
    script = tmp_path_factory.mktemp("gpus") / "discover.sh"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["made-up-5", "made-up-7"]}'\n""")
    script.chmod(0o755)
    settings = {"spark.task.resource.gpu.amount": "1"}
    for of in ("worker", "executor"):
        settings[f"spark.{of}.resource.gpu.amount"] = "2"
        settings[f"spark.{of}.resource.gpu.discoveryScript"] = str(script)
    with session_with("local-cluster[1,2,1024]", settings) as session:
        yield session


def on_spark(**launch: object) -> TrainConfig:
    return replace(short_config(), launch=LaunchConfig(workers=2, **launch))  # type: ignore[arg-type]


@pytest.mark.usefixtures("session")
def test_two_workers_get_two_gpus(law_dataset: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither can use its own, and both say which it is with their last words."""
    told: dict[int, set[str]] = {0: set(), 1: set()}
    hear = Roster.process_ended

    def listen(self: Roster, worker: int, supervisor: str, incarnation: int, code: int, cause: str) -> None:
        told[worker].update(re.findall(r"CUDA_VISIBLE_DEVICES=(\S+)", cause))
        hear(self, worker, supervisor, incarnation, code, cause)

    monkeypatch.setattr(Roster, "process_ended", listen)
    for limit in ("_MOST_FAILURES", "_MOST_LOSSES"):
        monkeypatch.setattr(roster, limit, 10**9)  # neither gives up before the other has begun
    interrupt_when(lambda: all(told.values()))
    with pytest.raises(KeyboardInterrupt):
        train(law_dataset, str(run_folder), on_spark())
    assert sorted(map(sorted, told.values())) == [["made-up-5"], ["made-up-7"]]


@pytest.mark.laws
@pytest.mark.usefixtures("session")
def test_workers_stay_on_the_processor_when_asked_to(law_dataset: str, run_folder: Path) -> None:
    assert train(law_dataset, str(run_folder), on_spark(device="cpu")).finished


def test_tasks_that_ask_for_no_gpu_are_told_from_those_that_do(
    session: SparkSession, law_dataset: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = session.sparkContext.getConf().set("spark.task.resource.gpu.amount", "")
    monkeypatch.setattr(session.sparkContext, "getConf", lambda: settings)
    with pytest.raises(ConfigError, match="amount is 2, but tasks ask for no GPU"):
        train(law_dataset, str(run_folder), on_spark())
