"""The seam to `pyarrow.fs`: the file system of a URI, and its errors as sunspark's own."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from sunspark.errors import PathError, StorageError, first_line_of
from sunspark.storage.endpoint import refuse_silent_endpoint
from sunspark.storage.uri import as_local_path, is_hdfs, scheme_of


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
        raise StorageError(f"{uri}: {first_line_of(error)}{_remedy(uri)}") from error


def resolve(uri: str) -> tuple[Any, Any]:
    """The Arrow file system of a URI and the path in it: text; bytes where it is local, since names may be no text."""
    path = as_local_path(uri)
    if path is not None:
        return _local_filesystem(), os.fsencode(path)
    match = re.match(r"^([^:]+://[^/?]*)([^?]*)(\?.*)?$", uri)
    assert match is not None, uri
    authority, tail, options = match.group(1), match.group(2), match.group(3) or ""
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
    filesystem, root = pafs.FileSystem.from_uri(f"{authority}/{options}")
    return filesystem, root
