"""What is there: one file or directory, a directory, a whole tree."""

import logging
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from sunspark.storage.filesystem import resolve, storage_errors
from sunspark.storage.retrying import retried
from sunspark.storage.uri import as_local_path, join

logger = logging.getLogger(__name__)


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
    modified_ns: int
    """When it was changed last, in nanoseconds since 1970; 0 where the storage does not tell."""


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
    return _entry(uri, info.base_name, info)


def list_directory(uri: str) -> list[FileEntry]:
    """The entries of a directory, sorted by name; a directory that does not exist has none."""
    return _list(uri, recursive=False)


def list_tree(uri: str) -> list[FileEntry]:
    """Everything below a directory, sorted by path; `name` is the path below `uri`.

    Local: no folder is listed twice, so a link to one that is in the tree, or above it, is not followed.
    """
    path = as_local_path(uri)
    return _list(uri, recursive=True) if path is None else _list_local_tree(uri, path)


def _info(uri: str) -> Any:
    def ask() -> Any:
        filesystem, path = resolve(uri)
        return filesystem.get_file_info(path)

    return retried(uri, ask)


def _entry(uri: str, name: str, info: Any) -> FileEntry:
    return FileEntry(
        uri=uri,
        name=name,
        is_directory=info.type == pafs.FileType.Directory,
        is_file=info.type == pafs.FileType.File,
        size_bytes=info.size or 0,
        modified_ns=info.mtime_ns or 0,
    )


def _list(uri: str, *, recursive: bool) -> list[FileEntry]:
    def ask() -> tuple[Any, str]:
        filesystem, path = resolve(uri)
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
        return filesystem.get_file_info(selector), path

    with storage_errors(uri):
        infos, path = retried(uri, ask)
        prefix = len(path.rstrip("/")) + 1
        names = [info.path[prefix:] for info in infos]
        entries = [
            _entry(join(uri, name), name, info)
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
            logger.warning("%s is a link to %s, which is listed already; it is not followed", root / link, target)
        else:
            seen.add(target)
            walk(link)
    return sorted(found, key=lambda entry: entry.name)
