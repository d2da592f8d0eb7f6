"""A cluster that has no executor to give: Spark would wait for ever."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark import SparkConf
from pyspark.sql import SparkSession

from sunspark.data.augment import AugmentConfig
from sunspark.data.image_files import find_images
from sunspark.data.scenes import draw_scenes
from sunspark.errors import SetupError
from sunspark.launch.predict import batches_of
from sunspark.spark import executors
from sunspark.spark.inference import predict_in_session
from sunspark.spark.ingest import IngestConfig, ingest
from sunspark.training.predict import PredictSpec

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def empty_cluster() -> Iterator[SparkSession]:
    """Its one worker has one core, and executors ask for two."""
    conf = SparkConf().setMaster("local-cluster[1,1,1024]").setAppName("sunspark tests")
    conf.set("spark.executor.cores", "2").set("spark.ui.enabled", "false").set("spark.driver.host", "127.0.0.1")
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    yield session
    session.stop()


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
    with pytest.raises(SetupError, match=r"Spark \(local-cluster\[.*\) has had no executor for 3 s; start one"):
        work(empty_cluster, tmp_path)
    assert caplog.text.count("has no executor; waiting for one") == 1
