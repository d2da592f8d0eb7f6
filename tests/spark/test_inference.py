"""Laws of batch prediction: it agrees with evaluation, and no number of tasks and no kill changes a byte of it."""

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pytest
from PIL import Image
from pyspark.sql import SparkSession

import sunspark
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset, read_quarantine
from sunspark.data.image_files import ImageFile
from sunspark.data.ingest import IngestConfig
from sunspark.data.loader import LoaderConfig
from sunspark.data.scenes import draw_scenes
from sunspark.errors import WorkerError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.predict import PredictConfig, PredictTableResult, spec_of
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.spark.inference import predict_in_session
from sunspark.spark.ingest import ingest
from sunspark.training.config import TrainingConfig
from tests.large_images import make_large_files, peak_of_memory
from tests.spark.test_ingest import num_failed_tasks, python_workers

pytestmark = [pytest.mark.spark, pytest.mark.timeout(240)]

DEADLINE_SECONDS = 90.0
LOCAL = PredictConfig(launcher="local")
NUM_CLASSES, IMAGES_PER_CLASS = 3, 60


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample scenes in all formats, one of them turned by its EXIF data, and four files that are no images."""
    folder = tmp_path_factory.mktemp("predict") / "scenes"
    draw_scenes(str(folder), num_classes=NUM_CLASSES, images_per_class=IMAGES_PER_CLASS)
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        with Image.open(path) as image:
            match number % 6:
                case 0:
                    image.save(path, "PNG")
                case 1:
                    image.convert("P").save(path, "GIF")
                case 2:
                    image.convert("CMYK").save(path, "JPEG")
                case 3:
                    exif = Image.Exif()
                    exif[0x0112] = 6
                    image.save(path, "JPEG", exif=exif)
    whole = (folder / "coast" / "scene_00004.jpg").read_bytes()
    for name, body in {"empty": b"", "page": b"<html>", "zeros": bytes(99), "cut": whole[: len(whole) // 2]}.items():
        (folder / "forest" / f"{name}.jpg").write_bytes(body)
    return folder


@pytest.fixture(scope="module")
def dataset(scenes: Path, two_core_session: SparkSession) -> str:
    uri = str(scenes.parent / "dataset")
    config = IngestConfig(short_side=64, test_fraction=0.6, max_bad_fraction=1)
    ingest(str(scenes), uri, config, two_core_session)
    return uri


@pytest.fixture(scope="module")
def run(dataset: str) -> str:
    """A model that has learned a little, so that its mistakes are many and its answers differ."""
    config = TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8, "wide_units": 64}),
        data=LoaderConfig(image_size=32),
        optim=OptimConfig(optimizer="adam", learning_rate=1e-3, schedule="cosine"),
        training=TrainingConfig(epochs=12, global_batch_size=8),
        launch=LaunchConfig(launcher="local", workers=1),
    )
    folder = str(Path(dataset).parent / "run")
    train(dataset, folder, config)
    return folder


@pytest.fixture(scope="module")
def reference(run: str, scenes: Path) -> Path:
    """The table of all images, computed without Spark."""
    out = scenes.parent / "reference.csv"
    sunspark.predict_table(run, [str(scenes)], str(out), LOCAL)
    return out


def test_predictions_for_the_images_of_a_split_are_those_that_evaluate_counts(
    run: str, dataset: str, scenes: Path
) -> None:
    """Exactly, class by class, though these are the source images and those the stored ones."""
    opened = Dataset.open(dataset)
    rows = opened.rows("test")
    found = sunspark.predict(run, [str(scenes / opened.path_of(int(row))) for row in rows])
    guessed = [one.top[0].name for one in found]
    labels = [opened.classes[opened.labels[row]] for row in rows]
    evaluation = sunspark.evaluate(run)
    assert evaluation.samples == len(rows) >= 100
    assert len(set(guessed)) > 1, "a model that always says the same proves nothing"
    for one in evaluation.per_class:
        assert one.correct == sum(guess == label == one.name for guess, label in zip(guessed, labels, strict=True))


def test_spark_writes_the_very_table_that_one_process_writes(
    run: str, scenes: Path, reference: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    assert two_core_session.sparkContext.defaultParallelism == 2
    result = sunspark.predict_table(run, [str(scenes)], str(tmp_path / "t.csv"))
    assert (result.images, result.predicted, result.failed) == (184, 180, 4)
    assert (tmp_path / "t.csv").read_bytes() == reference.read_bytes()
    assert sunspark.predict_table(run, [str(scenes)], str(tmp_path / "t.csv")).reused


def test_a_bad_image_has_the_reason_for_which_ingest_has_quarantined_it(
    dataset: str, scenes: Path, reference: Path
) -> None:
    quarantine = {f"{scenes}/{one.path}": one.reason for one in read_quarantine(Dataset.open(dataset))}
    assert len(quarantine) == 4
    assert {row["path"]: row["error"] for row in pa_csv.read_csv(reference).to_pylist() if row["error"]} == quarantine


def test_a_killed_task_changes_nothing(run: str, tmp_path: Path, two_core_session: SparkSession) -> None:
    large = encode_jpeg(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8))
    for number in range(200):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{number}.jpg").write_bytes(large[:2] + _comment(number) + large[2:])
    failed_before = num_failed_tasks(two_core_session)
    with ThreadPoolExecutor(1) as pool:
        images = [str(tmp_path / "images")]
        running = pool.submit(sunspark.predict_table, run, images, str(tmp_path / "spark.csv"))
        _kill_one_while_it_works(two_core_session, running)
        result = running.result(timeout=DEADLINE_SECONDS)
    assert num_failed_tasks(two_core_session) > failed_before
    assert (result.images, result.predicted) == (200, 200)
    sunspark.predict_table(run, images, str(tmp_path / "local.csv"), LOCAL)
    assert (tmp_path / "spark.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_the_drivers_memory_does_not_grow_with_the_number_of_images(
    run: str, tmp_path: Path, two_core_session: SparkSession
) -> None:
    """Images of 1 MB each; held, the larger set would be 600 MB."""
    make_large_files(tmp_path / "few", 70)
    make_large_files(tmp_path / "many", 600)
    assert two_core_session.sparkContext.defaultParallelism == 2
    sunspark.predict_table(run, [str(tmp_path / "few")], str(tmp_path / "few.csv"))
    with peak_of_memory() as grown:
        result = sunspark.predict_table(run, [str(tmp_path / "many")], str(tmp_path / "many.csv"))
    assert result.predicted == 600
    assert grown[0] < 100e6


@pytest.mark.laws
def test_a_task_that_fails_for_good_ends_the_job_with_its_cause_and_no_table(
    run: str, scenes: Path, tmp_path: Path, two_core_session: SparkSession
) -> None:
    """A folder that takes the place of an image is trouble with storage, not the image's fault.

    Four attempts, each in a Python that imports torch anew: a law for its time.
    """
    folder = tmp_path / "images"
    folder.mkdir()
    image = folder / "image.jpg"
    image.write_bytes((scenes / "coast" / "scene_00004.jpg").read_bytes())

    def engine(spec: object, batches: object) -> object:
        from sunspark.spark.inference import predict_in_session

        taken = list(batches)  # type: ignore[call-overload]
        image.unlink()
        image.mkdir()
        return predict_in_session(two_core_session, spec, taken)  # type: ignore[arg-type]

    from sunspark.launch.predict import predict_table

    with pytest.raises(WorkerError, match=r"predict failed on Spark: .*image\.jpg"):
        predict_table(run, [str(folder)], str(tmp_path / "t.csv"), PredictConfig(), engine)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


class Deadly(ImageFile):
    """Ends the Python process that gets it, as a decoder with a bug would."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("__import__('os').kill(__import__('os').getpid(), 11)",)


@pytest.mark.laws
def test_the_images_of_a_process_that_dies_are_named(run: str, two_core_session: SparkSession) -> None:
    """Four attempts, each in a Python that imports torch anew: a law for its time."""
    one, deadly = (
        kind(path=f"{name}.jpg", uri=f"/nowhere/{name}.jpg", size_bytes=1, modified_ns=0)
        for kind, name in ((ImageFile, "first"), (Deadly, "last"))
    )
    with pytest.raises(WorkerError, match=r"died that looked at first\.jpg to last\.jpg \(2 images\), each time; an"):
        list(predict_in_session(two_core_session, spec_of(run, 1), [[], [one, deadly]]))


def _comment(number: int) -> bytes:
    """A JPEG comment, so that no two files are equal."""
    text = str(number).encode()
    return b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text


def _kill_one_while_it_works(session: SparkSession, running: "Future[PredictTableResult]") -> None:
    """SIGKILL a Python worker once a task runs."""
    tracker = session.sparkContext.statusTracker()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not any(tracker.getStageInfo(stage).numActiveTasks for stage in tracker.getActiveStageIds()):  # type: ignore[union-attr]
        assert not running.done(), "over before the kill"
        assert time.monotonic() < deadline, "no task ran in time"
        time.sleep(0.01)
    for worker in python_workers():
        os.kill(worker, signal.SIGKILL)
    assert not running.done(), "over before the kill"
