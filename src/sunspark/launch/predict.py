"""Predict with the model of a finished run: a few images at once, or any number of them into a table."""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, final

from sunspark import run_directory, storage
from sunspark.config import from_dict
from sunspark.data.image_files import ImageFile, find_images
from sunspark.data.prediction_table import (
    Prediction,
    TableWriter,
    counts_if_done,
    refuse_other_suffixes,
    write_receipt,
)
from sunspark.errors import ConfigError, SourceError
from sunspark.launch.count_display import CountDisplay
from sunspark.limits import usable_cores
from sunspark.training.config import WorkConfig
from sunspark.training.predict import BATCH_SIZE, Predictor, PredictSpec

T = TypeVar("T")
Engine = Callable[[PredictSpec, Iterable[Sequence[ImageFile]]], Generator[list[Prediction]]]
"""Computes batches somewhere: predictions in the order of the images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """Where a table of predictions is computed, and what is in it."""

    top: int = 5
    """Classes per image, the most probable first."""
    launcher: Literal["spark", "local"] = "spark"
    """spark: as tasks of a Spark cluster. local: in this process, without Spark and Java."""
    master: str | None = None
    """Spark master, for instance local[4]; if not given, the one Spark is configured with, else local[*]."""

    def __post_init__(self) -> None:
        if self.launcher == "local" and self.master:
            raise ConfigError(f"--master {self.master} has no effect with --launcher local; leave one of them out")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictTableResult:
    """What came into a table of predictions."""

    out: str
    images: int
    predicted: int
    failed: int
    """predicted + failed = images; the others have their reason in the column `error`."""
    seconds: float
    images_per_second: float
    """0 when the table was there already."""
    reused: bool
    """Whether the table was there already, from the same images, model and settings."""


def predict(run: str, places: Sequence[str], top: int) -> list[Prediction]:
    """What the model of `run` sees in the images at `places` (files, folders, URIs), in this process.

    An image that cannot be decoded has its reason. Raises SourceError when there is nothing at a place.
    """
    spec = spec_of(run, top)
    return list(itertools.chain.from_iterable(predict_here(spec, batches_of(find_images(places)))))


def predict_here(spec: PredictSpec, batches: Iterable[Sequence[ImageFile]]) -> Generator[list[Prediction]]:
    """The engine that needs no Spark."""
    with contextlib.closing(Predictor(spec, usable_cores())) as predictor:
        yield from predictor.predict(batches)


def predict_table(
    run: str, places: Sequence[str], out: str, config: PredictConfig, engine: Engine
) -> PredictTableResult:
    """Write what the model of `run` sees in the images at `places` as a table, one row per image, in their order.

    The same job again leaves its table as it is; another table at `out` is refused (ConfigError).
    Raises SourceError when there is nothing at a place, no image can be seen, or images change while they are read.
    """
    started = time.monotonic()
    out = storage.absolute(out)
    refuse_other_suffixes(out)
    spec = spec_of(run, config.top)
    before = _count(find_images(places))
    job = _job_of(spec, before)
    counts = counts_if_done(out, job)
    if counts is not None:
        return _result(out, counts, started, reused=True)
    after, tally = _Count(), _Tally()
    with storage.open_atomic(out) as file:
        writer = TableWriter(out, file, spec.top)
        with contextlib.closing(engine(spec, batches_of(after.counted(find_images(places))))) as rows:
            for predictions in _with_progress(rows, before.num_images):
                writer.write(predictions)
                tally.add(predictions)
        writer.close()
        if after.digest() != before.digest():
            raise SourceError("images came, went or changed while they were read; start again when they stay")
        if not tally.predicted:
            raise SourceError(f"none of the {tally.failed} images could be seen; the first is {tally.first_failure}")
        counts = {"images": before.num_images, "predicted": tally.predicted, "failed": tally.failed}
        write_receipt(out, job, counts, file.tell())
    return _result(out, counts, started, reused=False)


def spec_of(run: str, top: int) -> PredictSpec:
    """How the images are to be seen. Raises RunError when `run` is not there or not finished."""
    if top < 1:
        raise ConfigError(f"top must be at least 1, got {top}; use 1 for the most probable class alone")
    run = storage.absolute(run)
    stored = run_directory.read_config(run)
    uri = run_directory.model_description_file(run)
    if not storage.exists(uri):
        raise run_directory.not_finished(run)
    description = run_directory.read_object(uri)
    work = from_dict(WorkConfig, stored["work"])
    weights = storage.read_bytes(run_directory.model_weights_file(run))
    return PredictSpec(
        run=run,
        model_digest=hashlib.sha256(weights).hexdigest(),
        image_size=work.data.image_size,
        short_side=int(description["short_side"]),
        jpeg_quality=int(description["jpeg_quality"]),
        augment=work.data.augment,
        top=min(top, len(description["classes"])),
    )


def batches_of(images: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    """The images in their order, `BATCH_SIZE` at a time."""
    source = iter(images)
    while batch := list(itertools.islice(source, BATCH_SIZE)):
        yield batch


@final
class _Count:
    """How many images there are and which, without keeping them."""

    def __init__(self) -> None:
        self.num_images = 0
        self._hash = hashlib.sha256()

    def counted(self, images: Iterable[ImageFile]) -> Iterator[ImageFile]:
        """The same images, counted while they pass."""
        for image in images:
            self.num_images += 1
            self._hash.update(f"{image.path}\0{image.uri}\0{image.size_bytes}\0{image.modified_ns}\n".encode())
            yield image

    def digest(self) -> str:
        return self._hash.hexdigest()


@final
@dataclass(slots=True)
class _Tally:
    """What has come of the images so far."""

    predicted: int = 0
    failed: int = 0
    first_failure: str = ""

    def add(self, predictions: Sequence[Prediction]) -> None:
        failed = [one for one in predictions if one.error is not None]
        if failed and not self.failed:
            self.first_failure = f"{failed[0].path}: {failed[0].error}"
        self.failed += len(failed)
        self.predicted += len(predictions) - len(failed)


def _count(images: Iterable[ImageFile]) -> _Count:
    count = _Count()
    for _ in count.counted(images):
        pass
    return count


def _job_of(spec: PredictSpec, images: _Count) -> dict[str, Any]:
    """All that decides what is in the table, as JSON holds it."""
    return {
        "images": images.digest(),
        "model": spec.model_digest,
        "top": spec.top,
        "settings": {
            "image_size": spec.image_size,
            "short_side": spec.short_side,
            "jpeg_quality": spec.jpeg_quality,
            "evaluation_crop": spec.augment.evaluation_crop,
        },
    }


def _with_progress(rows: Iterable[list[T]], num_images: int) -> Iterator[list[T]]:
    """The same rows; how far they are is shown on standard error."""
    done = 0
    with contextlib.closing(CountDisplay("images", num_images)) as display:
        for part in rows:
            yield part
            done += len(part)
            display.update(done)


def _result(out: str, counts: dict[str, int], started: float, *, reused: bool) -> PredictTableResult:
    seconds = time.monotonic() - started
    speed = 0.0 if reused else counts["images"] / seconds
    return PredictTableResult(out=out, **counts, seconds=seconds, images_per_second=speed, reused=reused)
