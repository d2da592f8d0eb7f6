"""The seam to `pyarrow.fs`: the file system of a URI, and its errors as sunspark's own."""

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs as pafs

from sunspark.errors import FullDiskError, PathError, StorageError, first_line_of
from sunspark.storage.endpoint import refuse_silent_endpoint
from sunspark.storage.uri import as_local_path, is_google, is_hdfs, scheme_of, store_and_path

_MOST_SILENT_SECONDS: Final = 5.0
"""Without a connection, or without a byte on one, until S3's client gives a request up."""
_REPETITIONS: Final = 3
"""By the client itself, within half a second where it gets an answer: `retrying` tries for longer."""
_MOST_GOOGLE_SECONDS: Final = 20
"""Until Google's client gives a request up; its own 15 minutes are a long silence."""


@contextlib.contextmanager
def storage_errors(uri: str) -> Iterator[None]:
    """Turn what file systems raise into StorageError that names `uri`; the cause is kept.

    Where the path itself is the mistake (permission, a file for a folder) it is PathError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{uri} does not exist; check the path") from error
    except PermissionError as error:
        raise PathError(f"{uri} may not be accessed ({first_line_of(error)}); check its owner and mode") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise PathError(
            f"{uri}: there is a file where a folder is needed ({first_line_of(error)}); choose another path"
        ) from error
    except IsADirectoryError as error:
        raise PathError(
            f"{uri}: there is a folder where a file is needed ({first_line_of(error)}); choose another path"
        ) from error
    except (OSError, pa.ArrowException, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno == errno.EROFS:
            raise PathError(f"{uri} is on a disk that may only be read; choose another path") from error
        if is_full(error):
            raise FullDiskError(
                f"{uri}: its disk is full ({first_line_of(error)}); free some of it, or choose another path"
            ) from error
        raise StorageError(f"{uri}: {first_line_of(error)}{_remedy(uri)}") from error


def is_full(error: Exception) -> bool:
    """Whether a disk, or one's share of it, has no room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def resolve(uri: str) -> tuple[Any, Any]:
    """The Arrow file system of a URI and the path in it: text; bytes where it is local, since names may be no text."""
    path = as_local_path(uri)
    if path is not None:
        return _local_filesystem(), os.fsencode(path)
    authority, tail, options = store_and_path(uri)
    if scheme_of(authority) == "s3":
        refuse_silent_endpoint(options)
    filesystem, root = _remote_filesystem(authority, options)
    return filesystem, f"{root.rstrip('/')}/{tail.strip('/')}".rstrip("/") or "/"


def _remedy(uri: str) -> str:
    if is_hdfs(uri):
        return "; hdfs:// needs libhdfs, JAVA_HOME and CLASSPATH=$(hadoop classpath --glob) on this machine"
    if scheme_of(uri) in ("s3", "gs", "gcs"):
        return "; check the bucket's name, its region and the credentials in the environment"
    return ""


@lru_cache(maxsize=1)
def _local_filesystem() -> Any:
    return pafs.LocalFileSystem()


def forget_clients() -> None:
    """Make new clients from now on, with the credentials that there are then."""
    _remote_filesystem.cache_clear()


@lru_cache(maxsize=32)
def _remote_filesystem(authority: str, options: str) -> tuple[Any, str]:
    """One client per bucket or name node and process: making one costs requests."""
    if is_google(authority) and "retry_limit_seconds=" not in options:
        options += f"{'&' if options else '?'}retry_limit_seconds={_MOST_GOOGLE_SECONDS}"
    filesystem, root = pafs.FileSystem.from_uri(f"{authority}/{options}")
    if isinstance(filesystem, pafs.S3FileSystem):
        _, (settings,) = filesystem.__reduce__()  # as it is pickled: no URI says how long to wait
        filesystem = pafs.S3FileSystem(
            **settings | {"connect_timeout": _MOST_SILENT_SECONDS, "request_timeout": _MOST_SILENT_SECONDS},
            retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=_REPETITIONS),
        )
    return filesystem, root
