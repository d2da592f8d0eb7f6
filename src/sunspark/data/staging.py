"""Images out of archives that are read from end to end, by way of a place where each can be read by itself.

The blocks of a dataset mix the images of a source. From a tar.gz or Parquet, 256 images from anywhere cost 256
decompressions of megabytes; read in order, an image costs its own bytes. So there are two steps:

    stage      a piece of an archive at a time: read in order, decode, resize, encode; the small images go to one file
    assemble   a block at a time: its images out of the files of all pieces, as they are

Both are repeated freely: a file's name belongs to one attempt, and results name the files that count. Cost: each
stored image is written twice and read once, about a tenth of the bytes of the source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from sunspark import storage
from sunspark.data.containers import read_in_order
from sunspark.data.dataset import Quarantined
from sunspark.data.ingest import BlockResult, IngestConfig, normalised
from sunspark.data.sources import Container, ListedImage, Listing
from sunspark.data.writer import StoredSample, in_blocks, write_block
from sunspark.errors import StorageError

_PIECE_IMAGES: Final = 256
_PIECE_BYTES: Final = 64 * 2**20
_MOST_PIECES: Final = 1000
"""Of one archive, by the number of its images or by their bytes: each piece reads the archive's index."""
_READS_AT_ONCE: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class PiecePlan:
    """Some images that follow each other in one archive."""

    piece: int
    staging: str
    """URI of the folder that its file goes to."""
    short_side: int
    jpeg_quality: int
    images: tuple[ListedImage, ...]
    seek_index: str
    """URI of the archive's index; empty where it has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedImage:
    """An image in its stored form, on its way into a block."""

    uri: str
    offset: int
    num_bytes: int
    sample: StoredSample
    """All but its bytes."""

    @property
    def path(self) -> str:
        """Of the image, in its source."""
        return self.sample.path


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedPiece:
    """What comes back about one piece."""

    images: tuple[StagedImage, ...]
    quarantine: tuple[Quarantined, ...]

    @property
    def block_name(self) -> str:
        """None: its file lies in a folder that is deleted as a whole."""
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssemblyPlan:
    """A block to be made of staged images."""

    block: int
    dataset: str
    images: tuple[StagedImage, ...]
    quarantine: tuple[Quarantined, ...]
    """Its images that could not be decoded."""


def plan_pieces(listing: Listing, staging: str, config: IngestConfig) -> list[PiecePlan]:
    """All images of all archives in pieces, to be staged in the folder `staging`.

    Writes the archives' indexes there, where all tasks can read them.
    """
    by_place = sorted(listing.images, key=lambda image: (image.container.uri, image.position))
    plans: list[PiecePlan] = []
    for number, (_, group) in enumerate(groupby(by_place, key=lambda image: image.container.uri)):
        images = list(group)
        container = images[0].container
        index = ""
        if container.seek_index:
            index = storage.join(staging, storage.attempt_name(f"seek-{number:06d}", ".gztool"))
            storage.write_bytes_atomic(index, container.seek_index)
        bare = replace(container, seek_index=b"")
        for piece in _pieces(container, images):
            plans.append(
                PiecePlan(
                    piece=len(plans),
                    staging=staging,
                    short_side=config.short_side,
                    jpeg_quality=config.jpeg_quality,
                    images=tuple(replace(image, container=bare) for image in piece),
                    seek_index=index,
                )
            )
    return plans


def stage_piece(plan: PiecePlan) -> StagedPiece:
    """Read a piece in order, and put its images in their stored form into one file."""
    index = storage.read_bytes(plan.seek_index) if plan.seek_index else b""
    uri = storage.join(plan.staging, storage.attempt_name(f"piece-{plan.piece:06d}", ".bin"))
    staged: list[StagedImage] = []
    quarantine: list[Quarantined] = []
    with storage.open_atomic(uri) as file:
        for sample in normalised(read_in_order(plan.images, index), plan.short_side, plan.jpeg_quality):
            if isinstance(sample, Quarantined):
                quarantine.append(sample)
                continue
            about = replace(sample, image=b"")
            staged.append(StagedImage(uri=uri, offset=file.tell(), num_bytes=len(sample.image), sample=about))
            with storage.storage_errors(uri):
                file.write(sample.image)
    return StagedPiece(images=tuple(staged), quarantine=tuple(quarantine))


def plan_assembly(
    listing: Listing, dataset: str, config: IngestConfig, pieces: Iterable[StagedPiece]
) -> list[AssemblyPlan]:
    """The blocks that `plan_blocks` gives for the same listing, of staged images."""
    pieces = list(pieces)
    staged = {image.path: image for piece in pieces for image in piece.images}
    bad = {entry.path: entry for piece in pieces for entry in piece.quarantine}
    blocks = in_blocks((image.path for image in listing.images), str, config.seed, config.block_size)
    return [
        AssemblyPlan(
            block=number,
            dataset=dataset,
            images=tuple(staged[path] for path in paths if path in staged),
            quarantine=tuple(bad[path] for path in paths if path not in staged),
        )
        for number, paths in enumerate(blocks)
    ]


def assemble_block(plan: AssemblyPlan) -> BlockResult:
    """Write one block of images that are staged."""
    of_files: dict[str, list[StagedImage]] = defaultdict(list)
    for image in plan.images:
        of_files[image.uri].append(image)
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="staged") as pool:
        read = {sample.path: sample for samples in pool.map(_read_staged, of_files.values()) for sample in samples}
    samples = [read[image.path] for image in plan.images]
    return BlockResult(written=write_block(plan.dataset, plan.block, samples), quarantine=plan.quarantine)


def _read_staged(images: Sequence[StagedImage]) -> list[StoredSample]:
    """Some images of one file."""
    uri, samples = images[0].uri, []
    with storage.storage_errors(uri), storage.open_random_access(uri) as file:
        for image in images:
            data = file.read_at(image.num_bytes, image.offset)
            if len(data) < image.num_bytes:
                raise StorageError(f"{uri} ended within {image.path}: it has changed since it was written; start again")
            samples.append(replace(image.sample, image=data))
    return samples


def _pieces(container: Container, images: Sequence[ListedImage]) -> Iterator[list[ListedImage]]:
    """Runs of images; of Parquet, whole row groups, since a part of one is reached through the rest."""
    most_images = max(_PIECE_IMAGES, len(images) // _MOST_PIECES)
    unpacked_bytes = sum(image.size_bytes for image in images) or container.size_bytes
    most_bytes = max(_PIECE_BYTES, unpacked_bytes // _MOST_PIECES)
    firsts = set(container.row_groups)
    piece: list[ListedImage] = []
    num_bytes = 0
    for image in images:
        is_full = len(piece) >= most_images or num_bytes >= most_bytes
        if is_full and (not firsts or image.position in firsts):
            yield piece
            piece, num_bytes = [], 0
        piece.append(image)
        num_bytes += image.size_bytes or container.size_bytes // len(images)
    yield piece
