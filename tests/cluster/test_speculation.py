"""Speculation, as a cluster may have it on: Spark starts a second task for a worker that runs, on another host."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.launch.config import LaunchConfig
from sunspark.training.verify import verify
from tests.cluster.standalone import Standalone, training_command
from tests.cluster.test_hosts import START_SECONDS, Training
from tests.distributed.harness import events, holds_until
from tests.distributed.strategies import STRATEGIES, config_of

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(600)]

HOLD = 80
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.task.duration.threshold": "3s",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_speculative_copy_of_a_worker_changes_nothing(
    standalone: Standalone, law_dataset: str, run_folder: Path, tmp_path: Path, strategy: str
) -> None:
    standalone.have_workers(3)
    release, log = run_folder.with_suffix(".release"), tmp_path / "events"
    log.mkdir()
    config = replace(config_of(strategy, workers=2), launch=LaunchConfig(workers=2))
    command = training_command(
        tmp_path, law_dataset, run_folder, config, holds_until(release, 2, START_SECONDS, step=HOLD)
    )
    driver = standalone.drive(command, PYSPARK_SUBMIT_ARGS=submit_arguments(log))
    training = Training(driver, run_folder, release)
    try:
        training.wait_for(lambda: "duplicate" in event_names(run_folder), "a second task")
        training.wait_for(lambda: event_names(run_folder).count("joined") >= 2, "both workers")
        training.end()
    finally:
        driver.kill()
    assert speculative_attempts(log), "Spark did not speculate"
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems
    assert event_names(run_folder).count("joined") == 2, "a worker was killed for its copy"


def submit_arguments(log: Path) -> str:
    settings = SPECULATION | {"spark.eventLog.dir": log.as_uri()}
    return " ".join([*(f"--conf {key}={value}" for key, value in settings.items()), "pyspark-shell"])


def speculative_attempts(log: Path) -> list[int]:
    """The ids of Spark's speculative tasks, by its own log of events."""
    lines = [line for file in log.iterdir() for line in file.read_text().splitlines() if '"Speculative":true' in line]
    starts = [event for event in map(json.loads, lines) if event["Event"] == "SparkListenerTaskStart"]
    return [event["Task Info"]["Task ID"] for event in starts]


def event_names(run: Path) -> list[str]:
    return [str(event["event"]) for event in events(run)]
