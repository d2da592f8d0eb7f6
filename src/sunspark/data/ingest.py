"""How images become a dataset, whoever does the work.

    plan     the listed images, ordered by hash of (seed, path), cut into blocks of a fixed count
    work     a block at a time: read each image, decode, convert, turn, resize once, encode; write the block
    finish   delete what dead attempts left behind; write index, quarantine table and manifest

Blocks are fixed before the first image is opened, so the number of processes, retries and speculation change
nothing in the dataset or its id. What cannot be decoded goes to quarantine with its stage and reason; a file that
cannot be read for a passing cause (network, object store) fails its block, which is tried again, because a dataset
must not depend on the weather.

Cost: 2 to 5 ms of one core per image of 1024x768 (benchmarks/ingest.py); docs/concepts/memory.md says what a block
takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sunspark.config import refuse_other_seeds
from sunspark.data.allocator import keep_freed_memory
from sunspark.data.codec import DEFAULT_JPEG_QUALITY, DEFAULT_SHORT_SIDE, to_stored_image
from sunspark.data.containers import ImageBytes, read_images
from sunspark.data.dataset import Dataset, Quarantined
from sunspark.data.dataset_folder import delete_blocks, delete_orphans, is_finished, reuse
from sunspark.data.early_end import SoFar
from sunspark.data.image_files import failures_named
from sunspark.data.image_format import DecodeError
from sunspark.data.quarantine import refuse_too_many
from sunspark.data.sources import ListedImage, Listing, SourceFormat
from sunspark.data.writer import (
    Recipe,
    StoredSample,
    WrittenBlock,
    finish_dataset,
    in_blocks,
    write_block,
    write_quarantine,
)
from sunspark.errors import ConfigError, SourceError


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """How images become a dataset."""

    source_format: SourceFormat = "auto"
    """What the source is. auto: recognised. folder: class folders, or SUN397's layout. tar: such a folder in a .tar or
    .tar.gz. parquet: images in Parquet. webdataset: tars of KEY.jpg and KEY.cls. table: path,label[,split]."""
    labels: str | None = None
    """File that names the classes in the order of their labels, one a line; if not given, the source decides."""
    endpoint_url: str | None = None
    """Of a store that answers as S3 does, for instance http://minio:9000; for all s3:// URIs given here."""
    short_side: int = DEFAULT_SHORT_SIDE
    """Short side of the stored images in pixels; smaller images keep their size."""
    jpeg_quality: int = DEFAULT_JPEG_QUALITY
    """Quality of the stored JPEGs, 1 to 100."""
    test_fraction: float | None = None
    """Share of each class that goes to the split `test`; 0.2 if not given. Only where source and lists tell no
    split, or `train` alone: of that a part is set aside if this is given."""
    seed: int = 0
    """Decides the order of the samples and the split by `test_fraction`."""
    split_list: tuple[str, ...] = ()
    """Splits by list, each as NAME=FILE; a file names one image a line, relative to the source."""
    block_size: int = 256
    """Images per block, the unit that is read at once: about 8 MB at a short side of 256 pixels."""
    max_bad_fraction: float = 0.01
    """Share of the images that may be bad; with more there is no dataset, and the commonest reasons are told."""
    drop_leaks: bool = False
    """Take images out of the training split whose exact copies are in its test split."""
    launcher: Literal["spark", "local"] = "spark"
    """spark: as tasks of a Spark cluster. local: on all cores of this machine, without Spark and Java."""
    partitions: int | None = None
    """Spark partitions; if not given, one per block. Does not change the dataset."""
    master: str | None = None
    """Spark master, for instance local[4]; if not given, the one Spark is configured with, else local[*]."""

    def __post_init__(self) -> None:
        refuse_other_seeds(self.seed)
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
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(
                f"max_bad_fraction must be 0 to 1, got {self.max_bad_fraction}; use 1 to leave out whatever is bad"
            )
        if self.partitions is not None and self.partitions < 1:
            raise ConfigError(f"partitions must be at least 1, got {self.partitions}; leave it out if in doubt")
        for name in ("partitions", "master"):
            if self.launcher == "local" and (given := getattr(self, name)) is not None:
                raise ConfigError(f"--{name} {given} has no effect with --launcher local; leave one of them out")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """The work of one block, as it travels to whoever does it."""

    block: int
    dataset: str
    short_side: int
    jpeg_quality: int
    images: tuple[ListedImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockResult:
    """What comes back about one block: never pixels."""

    written: WrittenBlock
    quarantine: tuple[Quarantined, ...]

    @property
    def block_name(self) -> str:
        """Empty where none was written."""
        return self.written.name


def plan_blocks(listing: Listing, dataset: str, config: IngestConfig) -> list[BlockPlan]:
    """All blocks, in order. Depends on the listing and the configuration alone."""
    blocks = in_blocks(listing.images, lambda image: image.path, config.seed, config.block_size)
    return [
        BlockPlan(
            block=block,
            dataset=dataset,
            short_side=config.short_side,
            jpeg_quality=config.jpeg_quality,
            images=tuple(images),
        )
        for block, images in enumerate(blocks)
    ]


def ingest_block(plan: BlockPlan) -> BlockResult:
    """Read, normalise and write one block; one image at a time is decoded."""
    samples: list[StoredSample] = []
    quarantine: list[Quarantined] = []
    for sample in normalised(read_images(plan.images), plan.short_side, plan.jpeg_quality):
        if isinstance(sample, Quarantined):
            quarantine.append(sample)
        else:
            samples.append(sample)
    written = write_block(plan.dataset, plan.block, samples)
    return BlockResult(written=written, quarantine=tuple(quarantine))


def finish(
    dataset: str, recipe: Recipe, results: Sequence[BlockResult], max_bad_fraction: float
) -> tuple[Dataset, bool]:
    """Make the blocks that were written a dataset, unless another has finished one here; whether it was another.

    That can be where there are no locks: then the other's dataset stays as it is, and these blocks go. They go too when
    too many images are bad (SourceError); the table of those stays.

    Two that come here at the same moment may write index, quarantine table and manifest in turns. Of one source and
    configuration, with the same libraries, both write the same two tables, byte for byte: only the manifest names
    blocks. So the manifest that is written last fits, and its blocks are there, since nobody deletes young blocks of
    another; those of the other stay, for whoever opened the dataset in between. Where two differ, the tables of one may
    lie beside the manifest of the other: it holds their hashes, so such a dataset is refused when it is opened, as the
    last of the two does here.
    """
    quarantine = [entry for result in results for entry in result.quarantine]
    written = [result.written for result in results]
    refuse_and_leave_table(dataset, quarantine, recipe.num_listed, max_bad_fraction, written)
    if not is_finished(dataset):
        delete_orphans(dataset, written)
    if is_finished(dataset):
        delete_blocks(dataset, [block.name for block in written])
        return reuse(dataset, recipe), True
    return finish_dataset(dataset, recipe, written, quarantine), False


def refuse_and_leave_table(
    dataset: str,
    quarantine: Sequence[Quarantined],
    num_listed: int,
    max_bad_fraction: float,
    written: Sequence[WrittenBlock] = (),
) -> None:
    """SourceError when too many images are bad; then what was `written` is gone, and the table of them is there."""
    try:
        refuse_too_many(dataset, quarantine, num_listed, max_bad_fraction)
    except SourceError:
        delete_blocks(dataset, [block.name for block in written])
        if not is_finished(dataset):
            write_quarantine(dataset, quarantine)
        raise


def clear_away(dataset: str, so_far: SoFar) -> None:
    """Delete what an ingest has written that ended early; the table of its bad images stays."""
    delete_blocks(dataset, so_far.block_names)
    if not is_finished(dataset):
        delete_orphans(dataset, [])
        write_quarantine(dataset, so_far.bad.values())


def recipe_of(listing: Listing, config: IngestConfig) -> Recipe:
    """What the dataset's id is made from, besides its samples."""
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
        drop_leaks=config.drop_leaks,
        left_out=listing.left_out,
    )


def normalised(
    images: Iterable[ImageBytes], short_side: int, jpeg_quality: int
) -> Iterator[StoredSample | Quarantined]:
    """Each image as it is stored, or why it cannot be; one at a time is decoded."""
    keep_freed_memory()
    for image, data in images:
        try:
            if isinstance(data, DecodeError):
                raise data
            yield _sample(image, data, short_side, jpeg_quality)
        except DecodeError as error:
            yield Quarantined(path=image.path, stage=error.stage, reason=error.reason)


def _sample(image: ListedImage, data: bytes, short_side: int, jpeg_quality: int) -> StoredSample:
    with failures_named(image.path):
        stored = to_stored_image(data, short_side=short_side, jpeg_quality=jpeg_quality)
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
