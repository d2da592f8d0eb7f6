"""Prediction without Spark: few images and many, bad ones and mistakes; and memory that does not grow with them."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import sunspark
from sunspark import run_directory
from sunspark.data.codec import encode_jpeg
from sunspark.errors import ConfigError, RunError, SourceError, StorageError, WorkerError
from sunspark.launch import predict as module
from sunspark.launch.predict import PredictConfig, predict_here, predict_table, spec_of
from tests.large_images import make_large_files, peak_of_memory

pytestmark = pytest.mark.timeout(180)

LOCAL = PredictConfig(launcher="local")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 images, which is more than a batch, and three bad ones."""
    folder = tmp_path_factory.mktemp("predict") / "images"
    rng = np.random.default_rng(3)
    for number in range(70):
        path = folder / f"class{number % 4}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(rng.integers(0, 256, (40, 50, 3), np.uint8)))
    (folder / "bad").mkdir()
    (folder / "bad" / "empty.jpg").touch()
    (folder / "bad" / "page.jpg").write_bytes(b"<!DOCTYPE html><html>429 Too Many Requests</html>")
    (folder / "bad" / "zeros.png").write_bytes(bytes(5000))
    return folder


def test_a_few_images_have_their_classes_and_a_bad_one_its_reason(finished: str, images: Path) -> None:
    good, bad = str(images / "class0" / "00.jpg"), str(images / "bad" / "page.jpg")
    first, second = sunspark.predict(finished, [good, bad], top=3)
    assert (first.path, first.error, second.path) == (good, None, bad)
    probabilities = [one.probability for one in first.top]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) < 1
    assert {one.name for one in first.top} <= {f"class{label}" for label in range(6)}
    assert (second.top, second.error) == ((), "an HTML page, not an image")
    assert sum(one.probability for one in sunspark.predict(finished, [good], top=99)[0].top) == pytest.approx(1)


def test_one_path_needs_no_list(finished: str, images: Path) -> None:
    one = str(images / "class0" / "00.jpg")
    assert sunspark.predict(finished, one) == sunspark.predict(finished, [one])


def test_a_table_holds_every_image_once_in_order(finished: str, images: Path, tmp_path: Path) -> None:
    result = sunspark.predict_table(finished, [str(images)], str(tmp_path / "t.parquet"), LOCAL)
    assert (result.images, result.predicted, result.failed, result.reused) == (73, 70, 3, False)
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["path"] for row in table] == sorted(str(path) for path in images.rglob("*.*"))
    assert {Path(row["path"]).name: row["error"] for row in table if row["error"]} == {
        "empty.jpg": "the file is empty",
        "page.jpg": "an HTML page, not an image",
        "zeros.png": "zero bytes only, not an image",
    }
    few = sunspark.predict(finished, [str(images)])
    assert [row["class_1"] for row in table] == [one.top[0].name if one.top else None for one in few]
    assert [row["probability_1"] for row in table] == [one.top[0].probability if one.top else None for one in few]
    sunspark.predict_table(finished, [str(images)], str(tmp_path / "t.csv"), LOCAL)
    as_csv = pa_csv.read_csv(tmp_path / "t.csv").to_pylist()
    assert [row["probability_2"] for row in as_csv] == [row["probability_2"] for row in table]


def test_the_same_job_leaves_its_table_and_another_is_refused(finished: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    places = [str(images / "class0"), str(images / "bad")]
    first = sunspark.predict_table(finished, places, str(out), LOCAL)
    before = out.stat()
    again = sunspark.predict_table(finished, places, str(out), LOCAL)
    assert again.reused
    assert (again.images, again.predicted, again.failed) == (first.images, first.predicted, first.failed)
    assert (out.stat().st_mtime_ns, out.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    for other in (places[:1], [*places, str(images / "class1" / "01.jpg")]):
        with pytest.raises(ConfigError, match=r"t\.csv is there already, made with other images"):
            sunspark.predict_table(finished, other, str(out), LOCAL)
    with pytest.raises(ConfigError, match=r"made with other top"):
        sunspark.predict_table(finished, places, str(out), PredictConfig(launcher="local", top=1))
    assert out.stat().st_ino == before.st_ino


def test_an_image_that_was_changed_at_its_size_is_another_job(finished: str, images: Path, tmp_path: Path) -> None:
    image, out = tmp_path / "one.jpg", tmp_path / "t.csv"
    shutil.copy(images / "class0" / "00.jpg", image)
    sunspark.predict_table(finished, [str(image)], str(out), LOCAL)
    assert sunspark.predict_table(finished, [str(image)], str(out), LOCAL).reused
    body = image.read_bytes()
    image.write_bytes(body[:-9] + bytes(7) + body[-2:])
    with pytest.raises(ConfigError, match=r"t\.csv is there already, made with other images"):
        sunspark.predict_table(finished, [str(image)], str(out), LOCAL)


def test_images_that_change_while_they_are_read_give_no_table(finished: str, images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(images, tmp_path / "images")

    def engine(spec: object, batches: object) -> object:
        (folder / "class3" / "late.jpg").write_bytes(b"late")
        yield from predict_here(spec, batches)  # type: ignore[arg-type]

    with pytest.raises(SourceError, match="came, went or changed while they were read"):
        predict_table(finished, [str(folder)], str(tmp_path / "t.csv"), LOCAL, engine)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_failure_in_the_middle_leaves_nothing_behind(finished: str, images: Path, tmp_path: Path) -> None:
    def engine(spec: object, batches: object) -> object:
        yield next(predict_here(spec, batches))  # type: ignore[arg-type]
        raise StorageError("the weather")

    with pytest.raises(StorageError, match="the weather"):
        predict_table(finished, [str(images)], str(tmp_path / "t.csv"), LOCAL, engine)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_fails_as_nobody_expected_is_named(
    finished: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("too odd")

    monkeypatch.setattr("sunspark.training.predict.to_stored_image", fail)
    with pytest.raises(WorkerError, match=r"00\.jpg cannot be decoded: unexpected ValueError: too odd"):
        sunspark.predict(finished, [str(images / "class0" / "00.jpg")])


def test_mistakes_are_told_with_what_to_do(finished: str, images: Path, tmp_path: Path, run_folder: Path) -> None:
    good = [str(images / "class0" / "00.jpg")]
    with pytest.raises(RunError, match="is not a run"):
        sunspark.predict(str(run_folder), good)
    with pytest.raises(ConfigError, match="top must be at least 1, got 0; use 1"):
        sunspark.predict(finished, good, top=0)
    with pytest.raises(SourceError, match="there is nothing at nowhere"):
        sunspark.predict(finished, [*good, "nowhere"])
    with pytest.raises(ConfigError, match=r"t\.txt must end in"):
        sunspark.predict_table(finished, good, "t.txt", LOCAL)
    with pytest.raises(
        SourceError, match=r"none of the 3 images could be seen; the first is .*/empty\.jpg: the file is"
    ):
        sunspark.predict_table(finished, [str(images / "bad")], str(tmp_path / "t.csv"), LOCAL)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"--master local\[2\] has no effect with --launcher local"):
        PredictConfig(launcher="local", master="local[2]")
    unfinished = shutil.copytree(finished, run_folder)
    os.unlink(run_directory.model_description_file(str(unfinished)))
    with pytest.raises(RunError, match="is not finished; run `sunspark train` on it"):
        sunspark.predict(str(unfinished), good)


def test_a_run_predicts_where_its_dataset_is_gone(finished: str, images: Path, run_folder: Path) -> None:
    """A run that was copied to another machine."""
    shutil.copytree(finished, run_folder)
    configuration = Path(run_directory.config_file(str(run_folder)))
    configuration.write_text(json.dumps(json.loads(configuration.read_text()) | {"dataset": "/gone/away"}))
    good = [str(images / "class0" / "00.jpg")]
    assert sunspark.predict(str(run_folder), good) == sunspark.predict(finished, good)
    assert (spec_of(finished, 1).short_side, spec_of(finished, 1).jpeg_quality) == (256, 92)

    description = Path(run_directory.model_description_file(str(run_folder)))
    kept = json.loads(description.read_text())
    description.write_text(json.dumps(kept | {"short_side": 24, "jpeg_quality": 40}))
    spec = spec_of(str(run_folder), 1)
    assert (spec.short_side, spec.jpeg_quality) == (24, 40)
    assert sunspark.predict(str(run_folder), good) != sunspark.predict(finished, good)


def test_memory_does_not_grow_with_the_number_of_images(finished: str, tmp_path: Path) -> None:
    """Images of 1 MB each; held, the larger set would be 1.2 GB."""
    make_large_files(tmp_path / "few", 100)
    make_large_files(tmp_path / "many", 1200)
    sunspark.predict_table(finished, [str(tmp_path / "few")], str(tmp_path / "few.csv"), LOCAL)
    with peak_of_memory() as grown:
        result = sunspark.predict_table(finished, [str(tmp_path / "many")], str(tmp_path / "many.csv"), LOCAL)
    assert result.predicted == 1200
    assert grown[0] < 100e6


def test_a_batch_is_a_fixed_part_of_the_list() -> None:
    numbers = list(range(150))
    assert [len(batch) for batch in module.batches_of(numbers)] == [64, 64, 22]  # type: ignore[arg-type]
