"""Speculation on ingest: a second attempt at the same blocks, on another host, changes nothing in the dataset."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.launch.ingest import ingest
from sunspark.launch.processes import process_engine
from tests.cluster.standalone import Standalone
from tests.cluster.test_speculation import SPECULATION, speculative_attempts
from tests.data.source_kinds import images, write_tar, write_tree
from tests.distributed.harness import wait_until

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(600)]

END_SECONDS = 400.0
SOONER = {"spark.speculation.task.duration.threshold": "500ms"}


@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_a_speculative_attempt_at_a_task_changes_nothing(kind: str, standalone: Standalone, tmp_path: Path) -> None:
    """All blocks are one task, which lasts: Spark starts it a second time where the other host is idle."""
    standalone.have_workers(2)
    drawn = list(images(6, height=800).values())
    bodies = {f"class {number % 3}/{number}.jpg": drawn[number % 6] for number in range(400)}
    source = tmp_path / "source"
    if kind == "folder":
        write_tree(source, bodies)
    else:
        source = tmp_path / "source.tar.gz"
        write_tar(source, bodies)
    log = tmp_path / "events"
    log.mkdir()
    settings = SPECULATION | SOONER | {"spark.eventLog.dir": log.as_uri()}
    arguments = " ".join([*(f"--conf {key}={value}" for key, value in settings.items()), "pyspark-shell"])
    command = [
        sys.executable, "-m", "sunspark.cli", "ingest", str(source), str(tmp_path / "dataset"),
        "--partitions", "1", "--block-size", "40", "--json",
    ]  # fmt: skip
    driver = standalone.drive(command, PYSPARK_SUBMIT_ARGS=arguments)
    try:
        wait_until(lambda: driver.process.poll() is not None, END_SECONDS, "the end of the ingest")
    finally:
        driver.kill()
    result = driver.result(1)
    assert speculative_attempts(log), "Spark did not speculate"
    config = IngestConfig(launcher="local", block_size=40)
    alone = ingest(str(source), str(tmp_path / "alone"), config, partial(process_engine, 2))
    assert result["dataset_id"] == alone.dataset_id
    assert (result["listed"], result["accepted"], result["quarantined"]) == (400, 400, 0)
    dataset = Dataset.open(str(tmp_path / "dataset"))
    assert sum(len(dataset.read_block(block).images) for block in range(dataset.num_blocks)) == 400
    assert json.loads((tmp_path / "dataset" / "manifest.json").read_text())["images"] == 400
