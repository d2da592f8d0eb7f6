"""A cluster that has no executor to give: Spark would wait for ever."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyspark
import pytest
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import SparkSession

from sunspark.data.augment import AugmentConfig
from sunspark.data.image_files import find_images
from sunspark.data.ingest import IngestConfig
from sunspark.data.scenes import draw_scenes
from sunspark.errors import SetupError
from sunspark.launch import session as session_module
from sunspark.launch.config import LaunchConfig
from sunspark.launch.java import find_java
from sunspark.launch.job import Job
from sunspark.launch.predict import batches_of
from sunspark.spark import executors
from sunspark.spark.inference import predict_in_session
from sunspark.spark.ingest import ingest
from sunspark.training.predict import PredictSpec
from tests.distributed.harness import wait_until
from tests.spark.executors import session_with

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def empty_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A master without workers."""
    log = tmp_path_factory.mktemp("master") / "log"
    command = [f"{_find_spark_home()}/bin/spark-class", "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1"]
    os.environ["JAVA_HOME"] = str(find_java(pyspark.__version__).home)
    with (
        log.open("wb") as stream,
        subprocess.Popen([*command, "--port", "0"], stdout=stream, stderr=stream) as master,
    ):
        try:
            wait_until(lambda: bool(uri_in(log)), 90, "the master's address")
            with session_with(uri_in(log), {"spark.executor.cores": "4"}) as session:
                yield session
        finally:
            master.kill()


def uri_in(log: Path) -> str:
    found = re.search(r"spark://[\d.]+:\d+", log.read_text(errors="replace"))
    return found[0] if found else ""


def ingest_there(session: SparkSession, folder: Path) -> None:
    ingest(str(folder / "scenes"), str(folder / "dataset"), IngestConfig(), session)


def predict_there(session: SparkSession, folder: Path) -> None:
    spec = PredictSpec(
        run="", model_digest="", image_size=8, short_side=8, jpeg_quality=90, augment=AugmentConfig(), top=1
    )
    list(predict_in_session(session, spec, batches_of(find_images([str(folder / "scenes")]))))


@pytest.mark.parametrize("work", [ingest_there, predict_there])
def test_work_ends_where_no_executor_ever_comes(
    work: Callable[[SparkSession, Path], None],
    empty_cluster: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(executors, "EXECUTORS_SECONDS", 1.0)
    monkeypatch.setattr(executors, "_GIVE_UP_SECONDS", 3.0)
    draw_scenes(str(tmp_path / "scenes"), num_classes=2, images_per_class=2)
    with pytest.raises(SetupError, match=r"Spark \(spark://.*\) has had no executor for 3 s; start one"):
        work(empty_cluster, tmp_path)
    assert caplog.text.count("has no executor; waiting for one") == 1


def test_executors_that_are_late_are_waited_for_and_those_that_are_too_small_are_not(
    empty_cluster: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Spark starts executors when the first job asks for one, there is none before."""
    monkeypatch.setattr(session_module, "EXECUTORS_SECONDS", 0.5)
    assert empty_cluster.sparkContext.master
    with Job(LaunchConfig(workers=3, cores_per_worker=4), str(tmp_path)) as job:
        assert (job.num_workers, job._num_expected) == (3, 3)
    assert "has no executor yet" in caplog.text
    with (
        pytest.raises(SetupError, match="has no slot for a worker of 5 cores"),
        Job(LaunchConfig(workers=3, cores_per_worker=5), str(tmp_path)),
    ):
        pass
