"""What is there: one file or directory, a directory, a whole tree.

Local names that are not UTF-8 come with their odd bytes in letters (`storage.in_letters`). A link that leads nowhere,
or in a circle, is listed as an empty file: what reads it says what is wrong with it.
"""

import contextlib
import logging
import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow.fs as pafs

from sunspark.storage.filesystem import resolve, storage_errors
from sunspark.storage.retrying import retried
from sunspark.storage.uri import as_local_path, in_letters, is_google, join, name_of

_PREFIXES_AT_ONCE: Final = 16
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
    return _entry(uri, name_of(uri), info)


def without_links(uri: str) -> str:
    """A local path with all links in it followed, also where nothing is at its end yet; other URIs as they are."""
    path = as_local_path(uri)
    return uri if path is None else in_letters(os.path.realpath(path))


def list_directory(uri: str) -> list[FileEntry]:
    """The entries of a directory, sorted by name; a directory that does not exist has none."""
    path = as_local_path(uri)
    if path is not None:
        return _list_local(uri, path)
    return _top_of(uri, _list(uri, recursive=True)) if is_google(uri) else _list(uri, recursive=False)


def list_tree(uri: str) -> list[FileEntry]:
    """Everything below a directory, sorted by path; `name` is the path below `uri`.

    Local: no folder is listed twice, so a link to one that is in the tree, or above it, is not followed. Elsewhere: the
    folders directly below `uri` are listed at the same time, since a store answers with 1,000 names at once.
    """
    path = as_local_path(uri)
    if path is not None:
        return _list_local_tree(uri, path)
    return _list(uri, recursive=True) if is_google(uri) else _list_remote_tree(uri)


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


def _top_of(uri: str, tree: list[FileEntry]) -> list[FileEntry]:
    """What of a tree is directly below `uri`.

    Google's storage has no folders, and Arrow names only those that somebody made as an empty object.
    """
    files = [entry for entry in tree if "/" not in entry.name and entry.is_file]
    folders = {entry.name.partition("/")[0] for entry in tree if "/" in entry.name or entry.is_directory}
    below = [
        FileEntry(uri=join(uri, name), name=name, is_directory=True, is_file=False, size_bytes=0, modified_ns=0)
        for name in folders
    ]
    return sorted(files + below, key=lambda entry: entry.name)


def _list_remote_tree(uri: str) -> list[FileEntry]:
    entries = _list(uri, recursive=False)
    folders = [entry for entry in entries if entry.is_directory]
    with ThreadPoolExecutor(_PREFIXES_AT_ONCE, thread_name_prefix="listing") as pool:
        below = pool.map(lambda folder: _list(folder.uri, recursive=True), folders)
        found = [
            replace(entry, name=f"{folder.name}/{entry.name}")
            for folder, tree in zip(folders, below, strict=True)
            for entry in tree
        ]
    return sorted(entries + found, key=lambda entry: entry.name)


def _list_local(uri: str, folder: Path) -> list[FileEntry]:
    with storage_errors(uri), contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(os.scandir(folder))
        except FileNotFoundError:
            return []
        entries = [_local_entry(uri, one) for one in found]
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.name)


def _local_entry(uri: str, found: os.DirEntry[str]) -> FileEntry | None:
    """None for what has been deleted since it was found."""
    try:
        about = found.stat()
    except OSError:
        if not found.is_symlink():
            if os.path.lexists(found):
                raise
            return None
        about = None
    name, mode = in_letters(found.name), about.st_mode if about else stat.S_IFREG
    return FileEntry(
        uri=join(uri, name),
        name=name,
        is_directory=stat.S_ISDIR(mode),
        is_file=stat.S_ISREG(mode),
        size_bytes=about.st_size if about and stat.S_ISREG(mode) else 0,
        modified_ns=about.st_mtime_ns if about else 0,
    )


def _list_local_tree(uri: str, root: Path) -> list[FileEntry]:
    """Real folders first, then what links lead to, so that it is the link that is left out."""
    top = root.resolve()
    seen, found, links = {top}, [], deque[str]()

    def entries_in(folder: str) -> Iterator[FileEntry]:
        for entry in list_directory(join(uri, folder)):
            yield replace(entry, name=f"{folder}/{entry.name}" if folder else entry.name)

    def walk(folder: str, real: Path) -> None:
        entered = [(real, entries_in(folder))]
        while entered:  # no recursion: folders may be deeper than Python's goes
            real, entries = entered[-1]
            entry = next(entries, None)
            if entry is None:
                entered.pop()
                continue
            found.append(entry)
            if not entry.is_directory:
                continue
            path = as_local_path(entry.uri)
            assert path is not None, entry.uri
            if path.is_symlink():
                links.append(entry.name)
            elif (below := real / path.name) not in seen:
                seen.add(below)
                entered.append((below, entries_in(entry.name)))

    walk("", top)
    while links:
        link = links.popleft()
        path = as_local_path(join(uri, link))
        assert path is not None, link
        target = path.resolve()
        if target in seen or target in top.parents:
            logger.warning("%s is a link to %s, which is listed already; it is not followed", path, target)
        else:
            seen.add(target)
            walk(link, target)
    return sorted(found, key=lambda entry: entry.name)
