"""Ingest on Spark: a folder of images becomes a dataset.

    driver   list the source -> order by hash of (seed, path) -> cut into blocks of a fixed count
    tasks    take whole blocks: read each image, decode, convert, turn, resize once, encode; write the block
    driver   delete what dead attempts left behind; write index, quarantine table and manifest

A task returns what it wrote, never pixels. Blocks are fixed before the first task starts, so the number of
partitions, retries, speculation and lost executors change nothing in the dataset or its id. What cannot be
decoded goes to quarantine with its stage and reason; a file that cannot be read for a passing cause (network,
object store) fails its task, which Spark tries again, because a dataset must not depend on the weather.

Cost: about 10 ms of one core per image of 1024x768; docs/concepts/memory.md says what a task holds.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from sunspark import storage
from sunspark.data.codec import DEFAULT_JPEG_QUALITY, DEFAULT_SHORT_SIDE, DecodeError, to_stored_image
from sunspark.data.dataset import Dataset, Quarantined
from sunspark.data.image_files import failures_named, read_image
from sunspark.data.sources import ListedImage, Listing, list_source
from sunspark.data.target import LOCK_NAME, delete_blocks, delete_orphans, is_finished, refuse_foreign_files, reuse
from sunspark.data.writer import (
    Recipe,
    StoredSample,
    WrittenBlock,
    finish_dataset,
    order_key,
    refuse_equal_ids,
    write_block,
)
from sunspark.errors import ConfigError, DatasetError, SourceError, WorkerError
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.session import open_session
from sunspark.spark.executors import executors_awaited
from sunspark.spark.failures import cause_line
from sunspark.spark.progress import progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """How images become a dataset."""

    short_side: int = DEFAULT_SHORT_SIDE
    """Short side of the stored images in pixels; smaller images keep their size."""
    jpeg_quality: int = DEFAULT_JPEG_QUALITY
    """Quality of the stored JPEGs, 1 to 100."""
    test_fraction: float | None = None
    """Share of each class that goes to the split `test`; 0.2 if not given. Only where there are no lists."""
    seed: int = 0
    """Decides the order of the samples and the split by `test_fraction`."""
    split_list: tuple[str, ...] = ()
    """Splits by list, each as NAME=FILE; a file names one image a line, relative to the source."""
    block_size: int = 256
    """Images per block, the unit that is read at once: about 8 MB at a short side of 256 pixels."""
    partitions: int | None = None
    """Spark partitions; if not given, one per block. Does not change the dataset."""
    master: str | None = None
    """Spark master, for instance local[4]; if not given, the one Spark is configured with, else local[*]."""

    def __post_init__(self) -> None:
        if not 8 <= self.short_side <= 4096:
            raise ConfigError(f"short_side must be 8 to 4096 pixels, got {self.short_side}; use 256 if in doubt")
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}; use 92 if in doubt")
        if self.test_fraction is not None and not 0 <= self.test_fraction < 1:
            raise ConfigError(
                f"test_fraction must be at least 0 and below 1, got {self.test_fraction}; use 0.2 for a fifth"
            )
        if not 1 <= self.block_size <= 65_536:
            raise ConfigError(f"block_size must be 1 to 65536 images, got {self.block_size}; use 256 if in doubt")
        if self.partitions is not None and self.partitions < 1:
            raise ConfigError(f"partitions must be at least 1, got {self.partitions}; leave it out if in doubt")


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestResult:
    """What an ingest did."""

    dataset: str
    listed: int
    accepted: int
    quarantined: int
    """accepted + quarantined = listed"""
    classes: int
    splits: dict[str, int]
    dataset_id: str
    seconds: float
    images_per_second: float
    """The mean, Spark's start included; 0 when the dataset was there already."""
    reused: bool
    """Whether the dataset was there already, made from the same images in the same way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """The work of one block, as it travels to a task."""

    block: int
    source: str
    dataset: str
    short_side: int
    jpeg_quality: int
    images: tuple[ListedImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockResult:
    """What a task hands back about one block."""

    written: WrittenBlock
    quarantine: tuple[Quarantined, ...]


def ingest(source: str, dataset: str, config: IngestConfig, session: SparkSession | None = None) -> IngestResult:
    """Make the dataset `dataset` from the images in `source`, on the Spark cluster of `session`.

    Without one, Spark is started when there is something to do for it: not for a mistake that the listing shows.
    A finished dataset of the same images and configuration is left as it is and reported as reused; of
    anything else, DatasetError. What an unfinished ingest left there is replaced; while another ingest works there,
    DatasetError. Raises SourceError for
    sources that cannot be used as they are, ConfigError for options that contradict each other.
    """
    started = time.monotonic()
    source, dataset = storage.absolute(source), storage.absolute(dataset)
    _refuse_nesting(source, dataset)
    listing = list_source(source, split_lists=config.split_list, test_fraction=config.test_fraction, seed=config.seed)
    refuse_equal_ids([image.path for image in listing.images])
    recipe = _recipe(listing, config)
    if is_finished(dataset):
        return _warned(listing, _result(reuse(dataset, recipe), started, reused=True))
    refuse_foreign_files(dataset)
    refusal = DatasetError(f"another `sunspark ingest` works on {dataset}; wait for it, or choose another directory")
    with storage.only_holder(dataset, LOCK_NAME, refusal):
        if is_finished(dataset):
            return _warned(listing, _result(reuse(dataset, recipe), started, reused=True))
        display = CountDisplay("images", len(listing.images))
        display.event(f"{len(listing.images)} images of {len(listing.classes)} classes listed in {source}")
        with _opened(session, config) as opened, contextlib.closing(display):
            results = _run(opened, list(_plan(listing, dataset, config)), config.partitions, display)
        return _warned(listing, _finish(dataset, recipe, results, started))


def _opened(session: SparkSession | None, config: IngestConfig) -> contextlib.AbstractContextManager[SparkSession]:
    return contextlib.nullcontext(session) if session else open_session(config.master, "sunspark ingest")


def _finish(dataset: str, recipe: Recipe, results: Sequence[BlockResult], started: float) -> IngestResult:
    """Make the blocks that were written a dataset, unless another has finished one here.

    That can be where there are no locks: then the other's dataset stays as it is, and these blocks go.
    """
    quarantine = [entry for result in results for entry in result.quarantine]
    if len(quarantine) == recipe.num_listed:
        first = quarantine[0]
        raise SourceError(
            f"none of the {len(quarantine)} images in {recipe.source} could be decoded; "
            f"the first is {first.path}: {first.reason}"
        )
    written = [result.written for result in results]
    if not is_finished(dataset):
        delete_orphans(dataset, written)
    if is_finished(dataset):
        delete_blocks(dataset, written)
        return _result(reuse(dataset, recipe), started, reused=True)
    return _result(finish_dataset(dataset, recipe, written, quarantine), started, reused=False)


def _warned(listing: Listing, result: IngestResult) -> IngestResult:
    """`result`, and a word on each split that came out empty."""
    for number, (split, num_images) in enumerate(result.splits.items()):
        if num_images:
            continue
        num_listed = sum(image.splits >> number & 1 for image in listing.images)
        if num_listed:
            why = f"none of its {num_listed} images could be decoded; `sunspark inspect {result.dataset}` names them"
        else:
            why = "no class has two images, of which one could be set aside; add images, or give lists (--split-list)"
        logger.warning("the split %s is empty: %s", split, why)
    return result


def ingest_block(plan: BlockPlan) -> BlockResult:
    """Read, normalise and write one block; runs in a task."""
    samples: list[StoredSample] = []
    quarantine: list[Quarantined] = []
    for image in plan.images:
        try:
            samples.append(_sample(plan, image))
        except DecodeError as error:
            quarantine.append(Quarantined(path=image.path, stage=error.stage, reason=error.reason))
    written = write_block(plan.dataset, plan.block, samples)
    return BlockResult(written=written, quarantine=tuple(quarantine))


def _sample(plan: BlockPlan, image: ListedImage) -> StoredSample:
    data = read_image(storage.join(plan.source, image.path))
    with failures_named(image.path):
        stored = to_stored_image(data, short_side=plan.short_side, jpeg_quality=plan.jpeg_quality)
    return StoredSample(
        path=image.path,
        label=image.label,
        splits=image.splits,
        image=stored.jpeg,
        width=stored.width,
        height=stored.height,
        source_format=stored.source_format,
        source_width=stored.source_width,
        source_height=stored.source_height,
        source_bytes=len(data),
    )


def _ingest_blocks(plans: Iterable[BlockPlan]) -> Iterator[BlockResult]:
    """What a Spark partition does: block after block, one in memory at a time."""
    return map(ingest_block, plans)


def _run(
    session: SparkSession, plans: Sequence[BlockPlan], partitions: int | None, display: CountDisplay
) -> list[BlockResult]:
    context = session.sparkContext
    tasks = context.parallelize(plans, min(partitions or len(plans), len(plans)))
    num_images = sum(len(plan.images) for plan in plans)
    with progress(context, num_images, display) as group, executors_awaited(context, group):
        try:
            return tasks.mapPartitions(_ingest_blocks).collect()
        except Exception as error:
            raise WorkerError(f"ingest failed on Spark: {cause_line(str(error))}") from error


def _plan(listing: Listing, dataset: str, config: IngestConfig) -> Iterator[BlockPlan]:
    ordered = sorted(listing.images, key=lambda image: order_key(config.seed, image.path))
    for block, start in enumerate(range(0, len(ordered), config.block_size)):
        yield BlockPlan(
            block=block,
            source=listing.source,
            dataset=dataset,
            short_side=config.short_side,
            jpeg_quality=config.jpeg_quality,
            images=tuple(ordered[start : start + config.block_size]),
        )


def _recipe(listing: Listing, config: IngestConfig) -> Recipe:
    return Recipe(
        classes=listing.classes,
        split_names=listing.split_names,
        configuration={
            "short_side": config.short_side,
            "jpeg_quality": config.jpeg_quality,
            "test_fraction": listing.test_fraction,
            "seed": config.seed,
            "block_size": config.block_size,
        },
        num_listed=len(listing.images),
        source=listing.source,
        listing=listing.fingerprint,
    )


def _refuse_nesting(source: str, dataset: str) -> None:
    if storage.lie_in_each_other(dataset, source):
        raise ConfigError(
            f"the dataset {dataset} and the source {source} lie in each other; give the dataset a directory of its own"
        )


def _result(dataset: Dataset, started: float, *, reused: bool) -> IngestResult:
    seconds = time.monotonic() - started
    listed = int(dataset.manifest["listed"])
    return IngestResult(
        dataset=dataset.uri,
        listed=listed,
        accepted=len(dataset),
        quarantined=int(dataset.manifest["quarantined"]),
        classes=len(dataset.classes),
        splits={split: len(dataset.rows(split)) for split in dataset.split_names},
        dataset_id=dataset.id,
        seconds=seconds,
        images_per_second=0.0 if reused else listed / seconds,
        reused=reused,
    )
