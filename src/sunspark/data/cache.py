"""The node's cache: each block of a dataset fetched once per machine, any sample of it one `pread` away.

A block (one Parquet row group) becomes one blob on local disk, shared by all processes of a user:

    DIRECTORY/<dataset id>/block-00000012.blob    see `sunspark.data.blob`
    DIRECTORY/<dataset id>/block-00000012.part    a blob that is being written
    DIRECTORY/<dataset id>/locks/                 one writer at a time: flock, which ends with its process

A blob is written under another name and renamed, so it is there whole or not at all; what does not match its
checksums is fetched again. What a killed writer leaves is overwritten or removed by the next one. Nothing is
mapped into memory: mapped pages would count against the memory limit of a container.
Cost: one ranged read of the dataset per block and machine, then one `pread` per sample.
"""

import contextlib
import hashlib
import logging
import os
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from sunspark.data.blob import Blob, BlobDamagedError, BlobKey, Sample, blob_parts, blob_size_bytes
from sunspark.data.cache_directory import prepare_directory
from sunspark.data.dataset import Block, Dataset
from sunspark.data.locks import try_lock, wait_for_lock
from sunspark.errors import DeadlineError

logger = logging.getLogger(__name__)

_NUM_BLOCK_LOCKS = 64  # blocks share them, so that their files do not grow in number
_MAX_OPEN_BLOBS = 256
_RETRY_WRITING_SECONDS = 60.0
_BLOB_ATTEMPTS = 2


@final
class NodeCache:
    """Samples of a dataset by row, from local disk where they are there, else from the dataset.

    May be used by many threads and, with the same directory, by many processes at once. When the capacity
    does not hold the dataset, the least recently used blocks go; when the disk is full, samples come from the
    dataset without being kept.
    """

    def __init__(
        self,
        dataset: Dataset,
        directory: str | None,
        capacity_bytes: int,
        *,
        lock_deadline_seconds: float = 60.0,
    ) -> None:
        """Use `directory` (None: one per user below the system's temporary directory), made when missing.

        Raises ConfigError when it cannot be used or belongs to somebody else.
        """
        self.directory = prepare_directory(dataset.id, directory)
        self._base_directory = directory
        self._dataset = dataset
        self._capacity_bytes = capacity_bytes
        self._lock_deadline_seconds = lock_deadline_seconds
        self._dataset_key = hashlib.blake2b(dataset.id.encode(), digest_size=16).digest()
        self._mutex = threading.Lock()
        self._open: OrderedDict[int, Blob] = OrderedDict()  # guarded by the mutex
        self._no_writing_before = 0.0
        self._warned = threading.Event()
        self._closing = threading.Event()
        self._unkept = threading.local()
        self._max_open = _max_open_blobs()
        self._warn_when_too_small()

    def sample(self, row: int) -> Sample:
        """The sample of a row of the dataset, fetching its block when it is not here.

        What is returned, identity included, is what was stored: it is not looked up in the index.
        Raises DeadlineError when another process holds the block's lock for too long, and whatever reading
        the dataset raises.
        """
        block, index = self._place_of(row)
        for _ in range(_BLOB_ATTEMPTS):
            try:
                return self._fetch(block).sample(index)
            except BlobDamagedError:
                self._discard(block)
        return _Unkept(self._dataset.read_block(block)).sample(index)

    def cached_sample(self, row: int) -> Sample | None:
        """The sample of a row if it is on local disk; never waits for a lock or for the dataset's storage."""
        block, index = self._place_of(row)
        blob = self._cached(block)
        with contextlib.suppress(BlobDamagedError):
            return blob.sample(index) if blob else None
        return None

    def close(self) -> None:
        """Let go of all files; who waits for a lock gets StorageError. The blobs stay for the next run."""
        self._closing.set()
        with self._mutex:
            self._open.clear()

    def _place_of(self, row: int) -> tuple[int, int]:
        block = self._dataset.block_of(row)
        return block, row - self._dataset.first_rows[block]

    def _fetch(self, block: int) -> "Blob | _Unkept":
        """The block, from local disk, else from the dataset, and then kept if there is room."""
        if blob := self._cached(block):
            return blob
        if self._recently_unkept(block) or time.monotonic() < self._no_writing_before:
            return self._read_through(block)
        try:
            with self._locked(_lock_name(block), f"block {block} of {self._dataset.uri}"):
                return self._cached(block) or self._fetch_and_keep(block)  # another may have been faster
        except OSError as error:
            self._stop_writing(f"no lock can be had: {error}")
            return self._read_through(block)

    def _cached(self, block: int) -> "Blob | None":
        """The block's blob if it is on local disk and whole."""
        with self._mutex:
            blob = self._open.get(block)
            if blob:
                self._open.move_to_end(block)
        if blob is None:
            blob = self._open_blob(block)
        if blob and not blob.touch():  # removed by another process: let its space go
            with self._mutex:
                self._open.pop(block, None)
        return blob

    def _open_blob(self, block: int) -> "Blob | None":
        try:
            blob = Blob(self._path_of(block), self._key_of(block))
        except FileNotFoundError:
            return None
        except (BlobDamagedError, OSError) as error:
            logger.warning("fetching block %d again, its blob cannot be used: %s", block, error)
            return None
        with self._mutex:
            self._open[block] = blob
            while len(self._open) > max(1, self._max_open):
                self._open.popitem(last=False)  # closed by its last reader
        return blob

    def _fetch_and_keep(self, block: int) -> "Blob | _Unkept":
        """Fetch a block and keep it if that can be done; the caller holds the block's lock."""
        content = self._dataset.read_block(block)
        part = self._path_of(block).with_suffix(".part")
        try:
            self._write(part, content, block)
        except (OSError, DeadlineError) as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            self._stop_writing(str(error))
        return self._cached(block) or self._keep_in_thread(block, _Unkept(content))

    def _write(self, part: Path, content: Block, block: int) -> None:
        size_bytes = blob_size_bytes(content)
        with self._room():
            part.unlink(missing_ok=True)
            if not self._make_room(size_bytes):
                return
            descriptor = _allocate(part, size_bytes)
        with open(descriptor, "wb") as file:
            file.writelines(blob_parts(content, self._key_of(block)))
        with self._room():  # a listing taken meanwhile might see the blob under both names, or under none
            part.rename(self._path_of(block))

    def _make_room(self, size_bytes: int) -> bool:
        """Remove least recently used blobs until `size_bytes` fit; the caller holds the lock on room."""
        if size_bytes > self._capacity_bytes:
            self._stop_writing(f"a block of {size_bytes} bytes is larger than cache_bytes ({self._capacity_bytes})")
            return False
        entries = [entry for entry in self._entries() if not self._removed_leftover(entry)]
        used_bytes = sum(entry.size_bytes for entry in entries)
        for entry in sorted(entries, key=lambda entry: entry.used_at):
            if used_bytes + size_bytes <= self._capacity_bytes:
                break
            if not entry.is_part:
                entry.path.unlink(missing_ok=True)
                used_bytes -= entry.size_bytes
                with self._mutex:
                    self._open.pop(entry.block, None)
        return used_bytes + size_bytes <= self._capacity_bytes

    def _removed_leftover(self, entry: "_Entry") -> bool:
        """Remove what a killed writer left: a part whose lock nobody holds."""
        if not entry.is_part:
            return False
        descriptor = try_lock(self.directory / "locks" / _lock_name(entry.block))
        if descriptor is None:
            return False
        try:
            entry.path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        return True

    def _entries(self) -> "list[_Entry]":
        entries = []
        with os.scandir(self.directory) as listing:
            for item in listing:
                name, _, kind = item.name.partition(".")
                if kind in ("blob", "part"):
                    with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
                        status = item.stat()
                        block = int(name.removeprefix("block-"))
                        used_at = status.st_mtime_ns
                        entries.append(_Entry(Path(item.path), block, kind == "part", status.st_size, used_at))
        return entries

    def _discard(self, block: int) -> None:
        logger.warning("fetching block %d again, its blob in %s is damaged", block, self.directory)
        with self._mutex:
            self._open.pop(block, None)
        with contextlib.suppress(OSError):
            self._path_of(block).unlink(missing_ok=True)

    def _read_through(self, block: int) -> "_Unkept":
        recent = self._recently_unkept(block)
        return recent or self._keep_in_thread(block, _Unkept(self._dataset.read_block(block)))

    def _recently_unkept(self, block: int) -> "_Unkept | None":
        number, unkept = getattr(self._unkept, "recent", (None, None))
        return unkept if number == block else None

    def _keep_in_thread(self, block: int, unkept: "_Unkept") -> "_Unkept":
        """Samples of one block are asked for one after the other: keep one block per thread, no more."""
        self._unkept.recent = (block, unkept)
        return unkept

    def _stop_writing(self, reason: str) -> None:
        self._no_writing_before = time.monotonic() + _RETRY_WRITING_SECONDS
        if not self._warned.is_set():
            self._warned.set()
            logger.warning(
                "reading %s without keeping it on local disk, which is slow: %s; "
                "free some space or choose another cache_directory",
                self._dataset.uri,
                reason,
            )

    def _warn_when_too_small(self) -> None:
        needed_bytes = sum(entry["size_bytes"] for entry in self._dataset.manifest["blocks"])
        if needed_bytes > self._capacity_bytes:
            logger.warning(
                "the cache in %s may hold %d bytes, the dataset has %d: blocks will be fetched repeatedly; "
                "raise cache_bytes to at least %d",
                self.directory,
                self._capacity_bytes,
                needed_bytes,
                needed_bytes,
            )

    def _key_of(self, block: int) -> BlobKey:
        rows = self._dataset.block_rows(block)
        return BlobKey(self._dataset_key, rows.start, len(rows))

    def _path_of(self, block: int) -> Path:
        return self.directory / f"block-{block:08d}.blob"

    def _room(self) -> contextlib.AbstractContextManager[None]:
        """The lock without which nothing is added to the directory."""
        return self._locked("room", f"room in {self.directory}")

    @contextlib.contextmanager
    def _locked(self, name: str, what: str) -> Iterator[None]:
        """Hold a lock that all processes of the machine see; DeadlineError says who holds it."""
        path = self.directory / "locks" / name
        if not path.parent.is_dir():  # somebody tidied up
            prepare_directory(self._dataset.id, self._base_directory)
        descriptor = wait_for_lock(path, what, self._lock_deadline_seconds, self._closing)
        try:
            yield
        finally:
            os.close(descriptor)


@final
class _Unkept:
    """A block in memory, for when there is no room on local disk."""

    def __init__(self, content: Block) -> None:
        self._content = content

    def sample(self, index: int) -> Sample:
        content = self._content
        return Sample(int(content.sample_ids[index]), int(content.labels[index]), content.images[index])


class _Entry(NamedTuple):
    """A file of the cache: a blob, or a part of one that is being written or was left."""

    path: Path
    block: int
    is_part: bool
    size_bytes: int
    used_at: int


def _allocate(path: Path, size_bytes: int) -> int:
    """A new file of that size, its space reserved: a disk that is too full says so now."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size_bytes)
        else:
            os.ftruncate(descriptor, size_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock_name(block: int) -> str:
    return f"block-{block % _NUM_BLOCK_LOCKS:02d}"


def _max_open_blobs() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAX_OPEN_BLOBS if limit == resource.RLIM_INFINITY else max(1, min(_MAX_OPEN_BLOBS, limit // 4))
