"""Tar archives: one pass over the headers tells where each member's bytes are.

A tar is passed over by seeking; a tar.gz is decompressed once, on all cores, and gives an index of places where
decompression can begin (rapidgzip). Nothing is unpacked. Tars that `cat` has joined are one.

Cost: of a tar.gz 3 to 4 ms of a core per MB (benchmarks/stages.py); the index takes some 120 bytes per 4 MB.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, final

from sunspark import storage
from sunspark.data.image_format import what_begins_with
from sunspark.data.sources.listing import Container, is_hidden, is_image_name
from sunspark.data.sources.scan import NotedFile, Scan
from sunspark.errors import SourceError, first_line_of, plural

_GZIP_MAGIC: Final = b"\x1f\x8b"
_USTAR: Final = slice(257, 262)
"""Where the header of a tar says `ustar`; those of before 1988 do not, and are read all the same if they are whole."""
_ZIP_MAGIC: Final = b"PK\x03\x04"
_OTHER_COMPRESSIONS: Final = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_BLOCK_BYTES: Final = 4 * 2**20
"""Read at once from a store; as much as a thread of rapidgzip takes at once."""
_BLOCKS_A_THREAD: Final = 2
"""Each has a place of its own, and reads on into the next block."""

_ZEROS_BYTES: Final = 2**20
"""Read at once behind the end of an archive."""
_NAMES: Final = (b"L", b"K", b"x", b"g", b"X")
_MOST_NAME_BYTES: Final = 2**20
_ENDS_EARLY: Final = re.compile("end of (data|file)|truncated|empty file|end is missing", re.IGNORECASE)
"""What Python's tarfile, rapidgzip and `_start_of_next` say of an archive that was cut."""

Kept = bytes | str | int | None
"""What is kept of the content of a member."""
Wants = Callable[[str, int], Callable[[bytes], Kept] | None]
"""By the path and size of a member: what makes of its content what is kept; None where it is not to be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of an archive."""

    path: str
    offset: int
    """Of its first byte in the archive, decompressed."""
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """What one pass over an archive tells."""

    container: Container
    members: dict[str, Member]
    """By path; of two with one path, the later counts, as when unpacking."""
    kept: dict[str, Kept]
    """Of the members that were wanted."""
    left_out: tuple[str, ...]
    """Members that are no files in it: links that lead nowhere, devices, paths that lead outside."""


class _Header(tarfile.TarInfo):
    """One that cannot send the reader backwards, nor have it read a name of gigabytes."""

    def _proc_member(self, tarfile_: Any) -> Any:
        if self.size < 0 or (not self.isfile() and self.type in _NAMES and self.size > _MOST_NAME_BYTES):
            raise tarfile.ReadError(f"a header says {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]  # what every header goes through


def scan_archive(uri: str, scan: Scan, wants: Wants, num_threads: int) -> Archive:
    """Pass once over the headers of a tar or tar.gz, and read the members that are wanted.

    `num_threads` decompress a tar.gz; `scan` has its size, and tells meanwhile how far the pass is.
    """
    members: dict[str, Member] = {}
    decompressed, head = "", b""
    size_bytes = scan.size_bytes

    def damaged(why: str) -> SourceError:
        if head and not members and head[_USTAR] != b"ustar":
            return SourceError(
                f"{uri} is no archive: {decompressed}it {what_begins_with(head)}; get it again, or check that it is "
                "the file that you mean"
            )
        return SourceError(
            f"{uri} is no whole archive: {why}, after {plural(len(members), 'file')}; get it again, and compare its "
            f"{size_bytes:,} bytes with the size of the original"
        )

    with storage.storage_errors(uri), storage.open_in_blocks(uri, _BLOCK_BYTES, _BLOCKS_A_THREAD * num_threads) as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(_GZIP_MAGIC):
            with opened_gzip(NotedFile(file, scan), num_threads, damaged) as reader:
                decompressed, head = "decompressed, ", reader.read(tarfile.BLOCKSIZE)
                reader.seek(0)
                kept, left_out = _scan(reader, scan, wants, members, damaged)
                reader.seek(0, io.SEEK_END)
                seek_index = _exported(reader)
            container = Container(kind="tar.gz", uri=uri, size_bytes=size_bytes, seek_index=seek_index)
        elif magic.startswith(_ZIP_MAGIC):
            raise SourceError(f"{uri} is a zip archive; unpack it and give the folder, or make a tar of it")
        else:
            for other, name in _OTHER_COMPRESSIONS.items():
                if magic.startswith(other):
                    raise SourceError(f"{uri} is compressed with {name}; unpack it, or compress it with gzip")
            head = file.read(tarfile.BLOCKSIZE)
            file.seek(0)
            kept, left_out = _scan(NotedFile(file, scan), scan, wants, members, damaged)
            container = Container(kind="tar", uri=uri, size_bytes=size_bytes)
    return Archive(container=container, members=members, kept=kept, left_out=left_out)


@contextlib.contextmanager
def opened_gzip(
    file: Any, num_threads: int, refusal: Callable[[str], Exception], seek_index: bytes = b""
) -> Iterator[Any]:
    """A gzip file as one that is not compressed, and can be sought; raises `refusal` of the reason if it is damaged.

    Where `file` cannot be read, raises what it has raised.
    """
    import rapidgzip

    source = _Source(file)
    reader = rapidgzip.RapidgzipFile(source, parallelization=num_threads)
    try:
        told = _Told(reader, refusal)
        if seek_index:
            told.import_index(io.BytesIO(seek_index))
        yield told
    except Exception:
        if source.error is not None:
            raise source.error from None
        raise
    finally:
        reader.close()


@final
class _Source:
    """A file that keeps what it raises: rapidgzip raises something else, about its own insides."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        try:
            body: bytes = self._file.read(size)
        except Exception as error:
            self.error = error
            raise
        return body


@final
class _Told:
    """A reader of rapidgzip whose methods raise `refusal` of the reason, where they find the file damaged."""

    def __init__(self, reader: Any, refusal: Callable[[str], Exception]) -> None:
        self._reader = reader
        self._refusal = refusal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)

        def told(*args: Any) -> Any:
            try:
                return found(*args)
            except (ValueError, RuntimeError) as error:
                raise self._refusal(_why(error)) from error

        return told if callable(found) else found


def _why(error: Exception) -> str:
    """In words of ours: what decompresses speaks of its own threads and bits, which stay the error's cause."""
    text = first_line_of(error)
    if _ENDS_EARLY.search(text):
        return "it ends too early"
    return text if isinstance(error, tarfile.TarError | OverflowError) else "it is damaged, or ends too early"


def _exported(reader: Any) -> bytes:
    import rapidgzip

    index = io.BytesIO()
    reader.export_index(index, rapidgzip.IndexFormat.GZTOOL)
    return index.getvalue()


def _scan(
    file: Any, scan: Scan, wants: Wants, members: dict[str, Member], damaged: Callable[[str], Exception]
) -> tuple[dict[str, Kept], tuple[str, ...]]:
    """Fill `members`, by their paths; what is kept of them, and what is left out."""
    kept: dict[str, Kept] = {}
    links: list[tuple[str, str]] = []
    left_out: list[str] = []
    for tar, info in _headers(file, damaged):
        path = _path_of(info.name)
        if path.split("/")[0] == "..":
            left_out.append(path)
        elif info.islnk():
            links.append((path, _path_of(info.linkname)))
        elif info.issym():
            links.append((path, os.path.normpath(os.path.join(os.path.dirname(path), info.linkname))))
        elif info.isreg() and not info.sparse:
            members[path] = Member(path=path, offset=info.offset_data, size_bytes=info.size)
            scan.num_images += is_image_name(path) and not is_hidden(path)
            if (parse := wants(path, info.size)) is not None:
                with _tar_errors(damaged):
                    member = tar.extractfile(info)
                    assert member is not None, path
                    body = member.read()
                kept[path] = parse(body)
        elif not info.isdir():
            left_out.append(path)
    for path, target in links:
        if target in members:
            members[path] = Member(path=path, offset=members[target].offset, size_bytes=members[target].size_bytes)
        else:
            left_out.append(path)
    return kept, tuple(left_out)


@contextlib.contextmanager
def _tar_errors(damaged: Callable[[str], Exception]) -> Iterator[None]:
    """What the reading of a tar raises, as `damaged` of the reason."""
    try:
        yield
    except (tarfile.TarError, ValueError, RuntimeError, OverflowError) as error:
        raise damaged(_why(error)) from error


def _headers(file: BinaryIO, damaged: Callable[[str], Exception]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Those of an archive, and of the archives that follow it in the same file, as `cat` joins them."""
    start: int | None = 0
    with _tar_errors(damaged):
        while start is not None:
            file.seek(start)
            with tarfile.open(
                fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape", tarinfo=_Header
            ) as tar:
                for info in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                    if info.size < 0:
                        raise tarfile.ReadError(f"{info.name} has {info.size} bytes")
                    yield tar, info
            start = _start_of_next(file, tar.offset)


def _start_of_next(file: BinaryIO, end: int) -> int | None:
    """Where another archive begins behind the zeros that end one; None where nothing follows."""
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if any(block) or not block:  # tarfile ends quietly at a header it cannot read
        raise tarfile.ReadError(f"a header is damaged at byte {end}" if block else "its end is missing")
    place = end + len(block)
    while zeros := file.read(_ZEROS_BYTES):
        if rest := zeros.lstrip(b"\0"):
            return place + len(zeros) - len(rest)
        place += len(zeros)
    return None


def _path_of(name: str) -> str:
    return storage.in_letters(os.path.normpath(name).lstrip("/"))
