"""The folder that a dataset is made in: finished already, free, or somebody else's; what dead attempts left there.

Who holds the lock works here alone, and all that others left is dead. Object stores and some network file systems have
no locks: there several may work at once, so each stages in a folder of its own, and deletes only what it has written
itself, or what nobody has added to for a day. So does who finds the dataset finished: it holds no lock then.
"""

import contextlib
import logging
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from sunspark import storage
from sunspark.data.dataset import INDEX_SCHEMA, QUARANTINE_SCHEMA, Dataset
from sunspark.data.leaks import Leak, contents_of, find_leaks
from sunspark.data.manifest import DATA_NAME, INDEX_NAME, MANIFEST_NAME, QUARANTINE_NAME, read_manifest
from sunspark.data.writer import Recipe, WrittenBlock, is_block_file
from sunspark.errors import DatasetError, StorageError, first_five, plural
from sunspark.storage import FileEntry

LOCK_NAME = ".ingest.lock"

_ABANDONED_SECONDS: Final = 86_400.0
"""Where there are no locks, since an ingest wrote its last file: it is dead, then."""
_STAGING_FOLDER = re.compile(r"staging(-[0-9a-f]{32})?")
"""Without a number: as older versions named it."""
_STAGED = re.compile(r"piece-\d{6,}-[0-9a-f]{16}\.bin|seek-\d{6,}-[0-9a-f]{16}\.gztool")
_LAST_WRITTEN: Final = (INDEX_NAME, QUARANTINE_NAME, MANIFEST_NAME)
logger = logging.getLogger(__name__)


def is_finished(dataset: str) -> bool:
    """Whether there is a whole dataset: its manifest is written last."""
    return storage.exists(storage.join(dataset, MANIFEST_NAME))


def reuse(uri: str, recipe: Recipe) -> Dataset:
    """The finished dataset at `uri` if it is the one that would be made; DatasetError if it is another."""
    manifest = read_manifest(uri)
    there, wanted = manifest["configuration"], recipe.configuration
    differences = [
        f"{key} is {there.get(key)}, not {wanted.get(key)}"
        for key in sorted(there.keys() | wanted.keys())
        if there.get(key) != wanted.get(key)
    ]
    if manifest["split_names"] != list(recipe.split_names):
        differences.append(f"its splits are {first_five(manifest['split_names'])}")
    if manifest.get("leaks_dropped", 0) and not recipe.drop_leaks:
        differences.append(f"--drop-leaks took {plural(manifest['leaks_dropped'], 'image')} out of its training splits")
    if not differences and manifest["listing"] != recipe.listing:
        differences.append(
            f"it was made from other images, labels or split lists ({plural(manifest['listed'], 'image')})"
        )
    if differences:
        raise DatasetError(
            f"{uri} holds a dataset that differs from the one asked for: {'; '.join(differences)}; "
            "choose another directory, or delete that one first"
        )
    there_already = Dataset.open(uri)
    if recipe.drop_leaks and (leaks := _leaks_in(there_already)):
        raise DatasetError(
            f"{uri} holds a dataset of the same images without --drop-leaks: its split {leaks[0].train} has "
            f"{plural(leaks[0].images, 'image')} of {leaks[0].test}; choose another directory, or delete that one first"
        )
    logger.info("%s holds this dataset already; nothing to do", uri)
    return there_already


def refuse_foreign_files(dataset: str) -> None:
    """Only an empty directory, or what an unfinished ingest left, may be written to."""
    foreign: list[str] = []
    for entry in storage.list_directory(dataset):
        if entry.name == DATA_NAME and entry.is_directory:
            inside = storage.list_directory(storage.join(dataset, DATA_NAME))
            foreign += [f"{DATA_NAME}/{one.name}" for one in inside if not _is_block(one)]
        elif _is_staging_folder(entry):
            inside = storage.list_directory(entry.uri)
            foreign += [f"{entry.name}/{one.name}" for one in inside if not _is_staged(one)]
        elif entry.is_directory or not _is_ours(dataset, entry.name):
            foreign.append(entry.name)
    if foreign:
        raise DatasetError(
            f"{dataset} is not empty and not a dataset (it holds {first_five(foreign)}); choose another directory"
        )


@contextlib.contextmanager
def staging_folder(dataset: str) -> Iterator[str]:
    """The URI of a folder of this ingest alone, for images on their way from archives into blocks; gone at the end.

    That it cannot be deleted is told and not raised: it must not hide what made the ingest fail.
    """
    folder = storage.join(dataset, f"staging-{uuid.uuid4().hex}")
    try:
        yield folder
    finally:
        try:
            storage.delete(folder)
        except StorageError as error:
            logger.warning("%s means nothing any more, but could not be deleted: %s", folder, error)


def delete_leavings(dataset: str) -> None:
    """Delete what killed ingests left beside `data`: images on their way into blocks, files that were not yet whole.

    Without the lock, nothing goes while blocks are young: who writes these still reads what is staged.
    """
    blocks = _blocks_in(dataset)
    for entry, files in _left_beside(dataset):
        if _is_abandoned(dataset, [*files, *blocks], entry.name):
            storage.delete(entry.uri)


def tidy(there: Dataset) -> None:
    """Delete what killed ingests left beside a finished dataset and in it, unless one of these files is young.

    No lock is asked for: who works there writes more often than once a day. That something cannot be deleted is told
    and not raised: the dataset is as it should be. The manifest is read after the files are listed: who replaces it
    meanwhile, where there are no locks, names blocks that the one before did not.
    """
    try:
        blocks = _blocks_in(there.uri)
        named = {block["name"] for block in read_manifest(there.uri)["blocks"]}
        orphans = [entry for entry in blocks if f"{DATA_NAME}/{entry.name}" not in named]
        beside = [(entry, files) for entry, files in _left_beside(there.uri) if _holds_nothing_foreign(entry, files)]
        if _are_old([*orphans, *(file for _, files in beside for file in files)]):
            for entry in (*orphans, *(entry for entry, _ in beside)):
                storage.delete(entry.uri)
    except (StorageError, DatasetError) as error:
        logger.warning("%s holds files that mean nothing, which could not be deleted: %s", there.uri, error)


def delete_orphans(dataset: str, written: Iterable[WrittenBlock]) -> None:
    """Delete the blocks that attempts left behind whose results did not count, and nothing else.

    Their names do not tell whose they are. So without the lock, all of them stay if one of them is young, beside those
    that were written too: these tell the time by the clock of their storage.
    """
    kept = {block.name for block in written}
    blocks = _blocks_in(dataset)
    orphans = [entry for entry in blocks if f"{DATA_NAME}/{entry.name}" not in kept]
    latest_ns = max((block.modified_ns for block in blocks), default=0)
    if _is_abandoned(dataset, orphans, f"{len(orphans)} blocks that do not count", latest_ns):
        for entry in orphans:
            storage.delete(entry.uri)


def delete_blocks(dataset: str, names: Iterable[str]) -> None:
    """Delete blocks that this ingest wrote, and that no manifest names: only its own would."""
    for name in names:
        if name:
            storage.delete(storage.join(dataset, name))


def _leaks_in(dataset: Dataset) -> tuple[Leak, ...]:
    index = dataset.read_index(["path", "splits", "image_hash"])
    return find_leaks(index, contents_of(index), dataset.split_names)


def _is_abandoned(dataset: str, left: Iterable[FileEntry], what: str, now_ns: int | None = None) -> bool:
    """Whether those who wrote these files are dead: the lock is ours, or the last file was written a day ago."""
    if storage.is_held(dataset, LOCK_NAME) or _are_old(left, now_ns):
        return True
    logger.info("%s: %s stay, since another ingest may be at work there", dataset, what)
    return False


def _are_old(files: Iterable[FileEntry], now_ns: int | None = None) -> bool:
    """Whether all were written more than a day before `now_ns`, by the times of their storage; not where it tells none.

    If that is not given, it is now by the clock of this machine.
    """
    youngest_ns = (time.time_ns() if now_ns is None else now_ns) - int(_ABANDONED_SECONDS * 1e9)
    return all(0 < file.modified_ns < youngest_ns for file in files)


def _left_beside(dataset: str) -> Iterator[tuple[FileEntry, list[FileEntry]]]:
    """What ingests leave beside `data` that do not come to their end, each with the files in it."""
    for entry in storage.list_directory(dataset):
        if _is_staging_folder(entry):
            yield entry, storage.list_directory(entry.uri) or [entry]
        elif not entry.is_directory and storage.final_name(entry.name) in _LAST_WRITTEN:
            yield entry, [entry]


def _holds_nothing_foreign(entry: FileEntry, files: Iterable[FileEntry]) -> bool:
    """Whether only ingests put such files there, be the entry a staging folder or a file itself."""
    return all(file is entry or _is_staged(file) for file in files)


def _blocks_in(dataset: str) -> list[FileEntry]:
    """None where `data` is a link: the same folder may be that of another dataset too."""
    folder = storage.join(dataset, DATA_NAME)
    path = storage.as_local_path(folder)
    if path is not None and path.is_symlink():
        return []
    return [entry for entry in storage.list_directory(folder) if _is_block(entry)]


def _is_ours(dataset: str, name: str) -> bool:
    """What an ingest that did not come to its end leaves beside `data`."""
    schema = {INDEX_NAME: INDEX_SCHEMA, QUARANTINE_NAME: QUARANTINE_SCHEMA}.get(name)
    if schema is None:  # a manifest was not there before: somebody has finished the dataset meanwhile
        return name in (LOCK_NAME, MANIFEST_NAME) or storage.final_name(name) in _LAST_WRITTEN
    uri = storage.join(dataset, name)
    with storage.storage_errors(uri), storage.open_random_access(uri) as file:
        try:
            return bool(pq.read_schema(file).equals(schema))
        except pa.ArrowInvalid:
            return False


def _is_block(entry: FileEntry) -> bool:
    return not entry.is_directory and is_block_file(entry.name)


def _is_staging_folder(entry: FileEntry) -> bool:
    return entry.is_directory and _STAGING_FOLDER.fullmatch(entry.name) is not None


def _is_staged(entry: FileEntry) -> bool:
    name = storage.final_name(entry.name) or entry.name
    return not entry.is_directory and _STAGED.fullmatch(name) is not None
