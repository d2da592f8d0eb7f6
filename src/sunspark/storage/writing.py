"""Files and directories written and deleted: atomically where a reader must never see a part."""

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, final

import pyarrow.fs as pafs

from sunspark.errors import ConfigError, FullDiskError, StorageError, first_line_of
from sunspark.storage.filesystem import is_full, resolve, storage_errors
from sunspark.storage.listing import list_directory
from sunspark.storage.retrying import retried
from sunspark.storage.temporary import temporary_directory
from sunspark.storage.unique_names import final_name, temporary_name
from sunspark.storage.uri import as_local_path, is_hdfs

_PIECE_BYTES = 8 * 2**20
_ABANDONED_SECONDS = 60.0
"""Since a temporary file was last written to; its writer is dead, then."""


def write_bytes_atomic(uri: str, data: bytes | memoryview) -> None:
    """Write a file so that a reader never sees a part of it: the old content or all of the new.

    Local: a temporary name beside it, fsync, rename. Object stores put a whole object or nothing. HDFS: a temporary
    name, then a rename, before which an old file is deleted: for that moment there is neither, and who dies in it
    leaves the new content under the temporary name only. Missing directories are made.
    """
    path = as_local_path(uri)
    with storage_errors(uri):
        if path is not None:
            with _renamed_at_the_end(uri, path) as file:
                file.write(data)
        elif is_hdfs(uri):
            _write_and_move(uri, [data])
        else:
            retried(uri, lambda: _put(uri, [data]))


@contextlib.contextmanager
def open_atomic(uri: str) -> Iterator[BinaryIO]:
    """A file to write, of any length; it is at `uri`, whole, when the block ends without an error, else not at all.

    Local: written beside `uri`, then renamed. Elsewhere: written to this machine's temporary folder, then put there;
    FullDiskError, which names that folder, where it has no room.
    """
    path = as_local_path(uri)
    if path is not None:
        with _renamed_at_the_end(uri, path) as file:
            yield file
        return
    with _draft_for(uri) as file:
        yield file
        file.flush()

        def put() -> None:
            file.seek(0)
            pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
            if is_hdfs(uri):
                _write_and_move(uri, pieces)
            else:
                _put(uri, pieces)

        with storage_errors(uri):
            retried(uri, put)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file plainly: for what can be made again, since a crash may leave a part of it."""
    path = as_local_path(uri)
    with storage_errors(uri):
        if path is None:
            retried(uri, lambda: _put(uri, [data]))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def write_json_atomic(uri: str, value: Any) -> None:
    """Write `value` as JSON (indented, keys in the order given), atomically."""
    write_bytes_atomic(uri, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def append_text(uri: str) -> TextIO:
    """A UTF-8 text stream that writes at the end of a file; object stores cannot append (ConfigError)."""
    path = as_local_path(uri)
    with storage_errors(uri):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a", encoding="utf-8")
        if not is_hdfs(uri):
            raise ConfigError(f"{uri} cannot be appended to: object stores have no append; use a local or hdfs:// path")
        filesystem, remote = resolve(uri)
        filesystem.create_dir(os.path.dirname(remote), recursive=True)
        is_there = (
            filesystem.get_file_info(remote).type != pafs.FileType.NotFound
        )  # what is not, HDFS does not append to
        open_stream = filesystem.open_append_stream if is_there else filesystem.open_output_stream
        return io.TextIOWrapper(open_stream(remote, compression=None), encoding="utf-8")


def make_directory(uri: str) -> None:
    """Make a directory and those above it; one that exists is fine."""

    def make() -> None:
        filesystem, path = resolve(uri)
        filesystem.create_dir(path, recursive=True)

    with storage_errors(uri):
        retried(uri, make)


def delete(uri: str) -> None:
    """Delete a file, or a directory with all it holds; nothing there is fine."""

    def drop() -> None:
        filesystem, path = resolve(uri)
        kind = filesystem.get_file_info(path).type
        with contextlib.suppress(FileNotFoundError):
            if kind == pafs.FileType.Directory:
                filesystem.delete_dir(path)
            elif kind != pafs.FileType.NotFound:
                filesystem.delete_file(path)

    with storage_errors(uri):
        retried(uri, drop)


def delete_abandoned(uri: str) -> None:
    """Delete the files of a directory that writers began and were killed over; a young one may have a living writer."""
    youngest_ns = time.time_ns() - int(_ABANDONED_SECONDS * 1e9)
    for entry in list_directory(uri):
        if entry.is_file and final_name(entry.name) and entry.modified_ns < youngest_ns:
            delete(entry.uri)


@contextlib.contextmanager
def _renamed_at_the_end(uri: str, path: Path) -> Iterator[BinaryIO]:
    """A file beside `path`, which takes its place when the block ends without an error."""
    temporary = path.with_name(temporary_name(path.name))
    with storage_errors(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w+b")
    try:
        yield file
        with storage_errors(uri):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.replace(path)
            _sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):  # what it still holds is not wanted: the block ended with an error
            file.close()
        with storage_errors(uri):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _draft_for(uri: str) -> Iterator[BinaryIO]:
    """A temporary file, to be put at `uri`."""
    with storage_errors(temporary_directory()):
        draft = io.BufferedRandom(_Draft(uri))
    try:
        yield draft
    finally:
        with contextlib.suppress(OSError, StorageError):  # what it still holds is not wanted
            draft.close()


@final
class _Draft(io.FileIO):
    """A temporary file without a name. Where its disk is full, it is that which is told, not the place it goes to."""

    def __init__(self, uri: str) -> None:
        self._uri, self._folder = uri, temporary_directory()
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        os.unlink(name)
        super().__init__(descriptor, "r+b")

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not is_full(error):
                raise
            raise FullDiskError(
                f"{self._folder}: its disk is full ({first_line_of(error)}), where a file is made that goes to "
                f"{self._uri}; free some of it, or name a folder on another disk (TMPDIR, on every machine)"
            ) from error


def _sync_directory(path: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_and_move(uri: str, pieces: Iterable[bytes | memoryview]) -> None:
    filesystem, path = resolve(uri)
    parent, name = os.path.split(path)
    temporary = f"{parent}/{temporary_name(name)}"
    filesystem.create_dir(parent, recursive=True)
    with filesystem.open_output_stream(temporary, compression=None) as stream:
        for piece in pieces:
            stream.write(piece)
    if filesystem.get_file_info(path).type != pafs.FileType.NotFound:
        filesystem.delete_file(path)
    filesystem.move(temporary, path)


def _put(uri: str, pieces: Iterable[bytes | memoryview]) -> None:
    """Arrow's stream cannot be aborted: when the pieces break off, to close it completes a part, which goes then."""
    filesystem, path = resolve(uri)
    num_bytes, is_whole = 0, False
    try:
        with filesystem.open_output_stream(path, compression=None) as stream:
            for piece in pieces:
                stream.write(piece)
                num_bytes += len(piece)
            is_whole = True
    except BaseException:
        with contextlib.suppress(OSError):  # where storage does not answer, nothing was completed
            if not is_whole and filesystem.get_file_info(path).size == num_bytes:
                filesystem.delete_file(path)
        raise
