"""Files by URI: local paths, `file://`, `s3://`, `gs://` and `hdfs://`, all through `pyarrow.fs`.

This is the one place where the errors of file systems and object stores become sunspark's own. A URI is a
plain path (relative paths are allowed) or `scheme://host/path?options`; the options are those that Arrow
knows, for instance `s3://bucket/data?endpoint_override=minio:9000&scheme=http`. Credentials come from the
environment, as Arrow reads it; URIs are printed and stored, so keep them out of there.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import re
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from sunspark.errors import ConfigError, PlaceError, StorageError, SunsparkError, first_line_of

_log = logging.getLogger(__name__)
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_PIECE_BYTES = 8 * 2**20
_SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file or directory of a listing."""

    uri: str
    name: str
    """Its name in the listed directory; from `list_tree`, its path below it, parts separated by `/`."""
    is_directory: bool
    is_file: bool
    """False for a directory, and for a pipe, socket or device, which must not be read."""
    size_bytes: int
    """0 for a directory."""


def join(uri: str, *parts: str) -> str:
    """The URI of something below `uri`; options behind a `?` stay at the end."""
    base, mark, options = uri.partition("?") if _SCHEME.match(uri) else (uri, "", "")
    for part in parts:
        base = f"{base.rstrip('/')}/{part.strip('/')}"
    return base + mark + options


def as_local_path(uri: str) -> Path | None:
    """The path of a URI on this machine's own file system, absolute; None for every other URI."""
    if not uri:
        raise ConfigError("a path or URI is empty; give a directory, for instance ./dataset or s3://bucket/dataset")
    scheme = _scheme_of(uri)
    if scheme is None:
        return Path(os.path.abspath(uri))
    if scheme == "file":
        return Path(os.path.abspath("/" + unquote(uri[len("file://") :]).lstrip("/")))
    return None


def absolute(uri: str) -> str:
    """`uri` in a form that means the same from every working directory."""
    path = as_local_path(uri)
    return uri if path is None else str(path)


def lie_in_each_other(one: str, other: str) -> bool:
    """Whether one of two absolute URIs is the other, or a folder above it."""
    inner, outer = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return inner.startswith(outer) or outer.startswith(inner)


def exists(uri: str) -> bool:
    """Whether there is a file or directory."""
    with storage_errors(uri):
        return bool(_info(uri).type != pafs.FileType.NotFound)


def entry_at(uri: str) -> FileEntry | None:
    """The file or directory at `uri` itself; None when there is neither."""
    with storage_errors(uri):
        info = _info(uri)
    if info.type == pafs.FileType.NotFound:
        return None
    return FileEntry(
        uri=uri,
        name=info.base_name,
        is_directory=info.type == pafs.FileType.Directory,
        is_file=info.type == pafs.FileType.File,
        size_bytes=info.size or 0,
    )


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""
    with storage_errors(uri):
        filesystem, path = _resolve(uri)
        with filesystem.open_input_file(path) as file:
            content: bytes = file.read()
            return content


def read_json(uri: str) -> Any:
    """The content of a JSON file; StorageError when it is not JSON."""
    body = read_bytes(uri)
    try:
        return json.loads(body)
    except ValueError as error:
        raise StorageError(f"{uri} is not JSON ({error}); it was damaged or written by something else") from error


def write_bytes_atomic(uri: str, data: bytes) -> None:
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
        elif _scheme_of(uri) in ("hdfs", "viewfs"):
            _write_and_move(uri, [data])
        else:
            _put(uri, [data])


@contextlib.contextmanager
def open_atomic(uri: str) -> Iterator[BinaryIO]:
    """A file to write, of any length; it is at `uri`, whole, when the block ends without an error, else not at all.

    Local: written beside `uri`, then renamed. Elsewhere: written to this machine's temporary folder, then put there.
    """
    path = as_local_path(uri)
    if path is not None:
        with _renamed_at_the_end(uri, path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
        with storage_errors(uri):
            if _scheme_of(uri) in ("hdfs", "viewfs"):
                _write_and_move(uri, pieces)
            else:
                _put(uri, pieces)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file plainly: for what can be made again, since a crash may leave a part of it."""
    path = as_local_path(uri)
    with storage_errors(uri):
        if path is None:
            _put(uri, [data])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def write_json_atomic(uri: str, value: Any) -> None:
    """Write `value` as JSON (indented, keys in the order given), atomically."""
    write_bytes_atomic(uri, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def list_directory(uri: str) -> list[FileEntry]:
    """The entries of a directory, sorted by name; a directory that does not exist has none."""
    return _list(uri, recursive=False)


def list_tree(uri: str) -> list[FileEntry]:
    """Everything below a directory, sorted by path; `name` is the path below `uri`.

    Local: no folder is listed twice, so a link to one that is in the tree, or above it, is not followed.
    """
    path = as_local_path(uri)
    return _list(uri, recursive=True) if path is None else _list_local_tree(uri, path)


def make_directory(uri: str) -> None:
    """Make a directory and those above it; one that exists is fine."""
    with storage_errors(uri):
        filesystem, path = _resolve(uri)
        filesystem.create_dir(path, recursive=True)


@contextlib.contextmanager
def only_holder(directory: str, lock_name: str, refusal: SunsparkError) -> Iterator[None]:
    """Make `directory` and hold its lock `lock_name`; raises `refusal` where another holds it already.

    The lock goes with the process that holds it, however that ends. Object stores, hdfs:// and some network file
    systems have no locks: there nobody is refused.
    """
    import fcntl

    make_directory(directory)
    local = as_local_path(directory)
    if local is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        with storage_errors(directory):
            lock = stack.enter_context(open(local / lock_name, "a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise StorageError(f"{directory} cannot be locked: {first_line_of(error)}") from error
        yield


def delete(uri: str) -> None:
    """Delete a file, or a directory with all it holds; nothing there is fine."""
    with storage_errors(uri):
        filesystem, path = _resolve(uri)
        kind = filesystem.get_file_info(path).type
        with contextlib.suppress(FileNotFoundError):
            if kind == pafs.FileType.Directory:
                filesystem.delete_dir(path)
            elif kind != pafs.FileType.NotFound:
                filesystem.delete_file(path)


def open_random_access(uri: str) -> Any:
    """A `pyarrow.NativeFile` for ranged reads (`seek`, `read`, `read_at`); close it after use."""
    with storage_errors(uri):
        filesystem, path = _resolve(uri)
        return filesystem.open_input_file(path)


def append_text(uri: str) -> TextIO:
    """A UTF-8 text stream that writes at the end of a file; object stores cannot append (ConfigError)."""
    path = as_local_path(uri)
    with storage_errors(uri):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a", encoding="utf-8")
        if _scheme_of(uri) not in ("hdfs", "viewfs"):
            raise ConfigError(f"{uri} cannot be appended to: object stores have no append; use a local or hdfs:// path")
        filesystem, remote = _resolve(uri)
        filesystem.create_dir(os.path.dirname(remote), recursive=True)
        return io.TextIOWrapper(filesystem.open_append_stream(remote), encoding="utf-8")


@contextlib.contextmanager
def storage_errors(uri: str) -> Iterator[None]:
    """Turn what file systems raise into StorageError that names `uri`; the cause is kept.

    Where the path itself is the mistake (permission, a file for a folder) it is PlaceError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{uri} does not exist; check the path") from error
    except PermissionError as error:
        raise PlaceError(f"{uri} may not be accessed ({first_line_of(error)}); check its owner and mode") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise PlaceError(
            f"{uri}: there is a file where a folder is needed ({first_line_of(error)}); choose another path"
        ) from error
    except IsADirectoryError as error:
        raise PlaceError(
            f"{uri}: there is a folder where a file is needed ({first_line_of(error)}); choose another path"
        ) from error
    except UnicodeError as error:
        raise StorageError(f"{uri} holds a file name that is not UTF-8 ({error}); rename it") from error
    except (OSError, pa.ArrowException, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno == errno.EROFS:
            raise PlaceError(f"{uri} is on a disk that may only be read; choose another path") from error
        raise StorageError(f"{uri}: {first_line_of(error)}{_remedy(uri)}") from error


def _remedy(uri: str) -> str:
    if _scheme_of(uri) in ("hdfs", "viewfs"):
        return "; hdfs:// needs libhdfs, JAVA_HOME and CLASSPATH=$(hadoop classpath --glob) on this machine"
    if _scheme_of(uri) in ("s3", "gs", "gcs"):
        return "; check the bucket's name, its region and the credentials in the environment"
    return ""


def _scheme_of(uri: str) -> str | None:
    match = _SCHEME.match(uri)
    if match is None:
        return None
    scheme = match.group(1).lower()
    if scheme not in _SCHEMES:
        allowed = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ConfigError(f"{uri}: {scheme}:// is not supported; use a local path or one of {allowed}")
    return scheme


def _resolve(uri: str) -> tuple[Any, str]:
    """The Arrow file system of a URI and the path in it."""
    path = as_local_path(uri)
    if path is not None:
        return _local_filesystem(), str(path)
    match = re.match(r"^([^:]+://[^/?]*)([^?]*)(\?.*)?$", uri)
    assert match is not None, uri
    authority, tail, options = match.group(1), match.group(2), match.group(3) or ""
    filesystem, root = _remote_filesystem(authority, options)
    return filesystem, f"{root.rstrip('/')}/{tail.strip('/')}".rstrip("/") or "/"


@lru_cache(maxsize=1)
def _local_filesystem() -> Any:
    return pafs.LocalFileSystem()


@lru_cache(maxsize=32)
def _remote_filesystem(authority: str, options: str) -> tuple[Any, str]:
    """One client per bucket or name node and process: making one costs requests."""
    filesystem, root = pafs.FileSystem.from_uri(f"{authority}/{options}")
    return filesystem, root


def _info(uri: str) -> Any:
    filesystem, path = _resolve(uri)
    return filesystem.get_file_info(path)


def _list(uri: str, *, recursive: bool) -> list[FileEntry]:
    with storage_errors(uri):
        filesystem, path = _resolve(uri)
        infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True, recursive=recursive))
        prefix = len(path.rstrip("/")) + 1
        names = [info.path[prefix:] for info in infos]
        entries = [
            FileEntry(
                uri=join(uri, name),
                name=name,
                is_directory=info.type == pafs.FileType.Directory,
                is_file=info.type == pafs.FileType.File,
                size_bytes=info.size or 0,
            )
            for name, info in zip(names, infos, strict=True)
            if name and info.type != pafs.FileType.NotFound
        ]
    return sorted(entries, key=lambda entry: entry.name)


def _list_local_tree(uri: str, root: Path) -> list[FileEntry]:
    """Real folders first, then what links lead to, so that it is the link that is left out."""
    top = root.resolve()
    seen, found, links = {top}, [], deque[str]()

    def walk(folder: str) -> None:
        for entry in _list(str(root / folder), recursive=False):
            name = f"{folder}/{entry.name}" if folder else entry.name
            found.append(replace(entry, uri=join(uri, name), name=name))
            if not entry.is_directory:
                continue
            if (root / name).is_symlink():
                links.append(name)
            elif (root / name).resolve() not in seen:
                seen.add((root / name).resolve())
                walk(name)

    walk("")
    while links:
        link = links.popleft()
        target = (root / link).resolve()
        if target in seen or target in top.parents:
            _log.warning("%s is a link to %s, which is listed already; it is not followed", root / link, target)
        else:
            seen.add(target)
            walk(link)
    return sorted(found, key=lambda entry: entry.name)


@contextlib.contextmanager
def _renamed_at_the_end(uri: str, path: Path) -> Iterator[BinaryIO]:
    """A file beside `path`, which takes its place when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with storage_errors(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w+b")
    try:
        with file:
            yield file
            with storage_errors(uri):
                file.flush()
                os.fsync(file.fileno())
        with storage_errors(uri):
            temporary.replace(path)
            _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_and_move(uri: str, pieces: Iterable[bytes]) -> None:
    filesystem, path = _resolve(uri)
    parent, name = os.path.split(path)
    temporary = f"{parent}/.{name}.{uuid.uuid4().hex}.tmp"
    filesystem.create_dir(parent, recursive=True)
    with filesystem.open_output_stream(temporary) as stream:
        for piece in pieces:
            stream.write(piece)
    if filesystem.get_file_info(path).type != pafs.FileType.NotFound:
        filesystem.delete_file(path)
    filesystem.move(temporary, path)


def _put(uri: str, pieces: Iterable[bytes]) -> None:
    filesystem, path = _resolve(uri)
    with filesystem.open_output_stream(path) as stream:
        for piece in pieces:
            stream.write(piece)
