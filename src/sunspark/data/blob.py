"""One block of a dataset as a flat file, from which any sample is one `pread` away.

    header    magic, dataset, first row, number of samples, size of the file, CRC-32 of the table, of the header
    table     for each sample: where its JPEG is, how long, its CRC-32, sample id, label
    images    the JPEGs, one after the other

A file that is cut short, overwritten or rotten is noticed: when it is opened, or when the sample is read.
Cost: 28 bytes of memory per sample of an open blob; a sample is one system call and a CRC-32.
"""

import contextlib
import itertools
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from sunspark.data.dataset import Block

_MAGIC = b"SUNBLOB1"  # ends with the version of the layout
_HEADER = struct.Struct("<8s16sQQQII")
_ENTRY = struct.Struct("<QIIQi")  # offset, size in bytes, CRC-32, sample id, label
_TOUCH_SECONDS = 1.0  # how exact "least recently used" is


class BlobDamagedError(Exception):
    """A blob is not what was written; the cache fetches its block again."""


class BlobKey(NamedTuple):
    """What a blob must say it is, to be taken for it."""

    dataset: bytes
    """16 bytes that stand for the dataset id."""
    first_row: int
    """Of the block, in the dataset. Its number is not enough: where a source lost a bad file, the same samples, which
    have the same dataset id, lie in other blocks."""
    num_samples: int


class Sample(NamedTuple):
    """One image as it is stored, with the identity that is stored beside it."""

    sample_id: int
    label: int
    jpeg: bytes


@final
class Blob:
    """An open blob. Works on after another process has removed the file; closed by its last reader."""

    def __init__(self, path: Path, key: BlobKey) -> None:
        """Open and check it: FileNotFoundError when there is none, BlobDamagedError when it is not whole."""
        self._descriptor = os.open(path, os.O_RDONLY)
        self._touched_at = -_TOUCH_SECONDS
        size_bytes, table_crc = _check_header(self._read(_HEADER.size, 0), key)
        if os.fstat(self._descriptor).st_size != size_bytes:
            raise BlobDamagedError(f"{path} does not have {size_bytes} bytes")
        self._table = self._read(key.num_samples * _ENTRY.size, _HEADER.size)
        if zlib.crc32(self._table) != table_crc:
            raise BlobDamagedError(f"the table of {path} does not match its checksum")

    def __del__(self) -> None:  # not `close`: threads may still read when the cache lets go
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def sample(self, index: int) -> Sample:
        """The sample at `index`; BlobDamagedError when its bytes are not those that were written."""
        offset, size_bytes, crc, sample_id, label = _ENTRY.unpack_from(self._table, index * _ENTRY.size)
        jpeg = self._read(size_bytes, offset)
        if zlib.crc32(jpeg) != crc:
            raise BlobDamagedError(f"image {index} does not match its checksum")
        return Sample(sample_id, label, jpeg)

    def touch(self) -> bool:
        """Note in the file's times that it is in use; False when it has been removed."""
        now = time.monotonic()
        if now - self._touched_at < _TOUCH_SECONDS:
            return True
        self._touched_at = now
        with contextlib.suppress(OSError):  # a disk that takes no writes can still be read from
            os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_nlink > 0

    def _read(self, size_bytes: int, offset: int) -> bytes:
        try:
            content = os.pread(self._descriptor, size_bytes, offset)
        except OSError as error:  # a bad sector
            raise BlobDamagedError(f"{size_bytes} bytes at offset {offset} cannot be read: {error}") from error
        if len(content) != size_bytes:
            raise BlobDamagedError(f"only {len(content)} of {size_bytes} bytes at offset {offset}")
        return content


def blob_size_bytes(content: Block) -> int:
    """Size of the blob of a block."""
    return _images_start(len(content.images)) + sum(map(len, content.images))


def blob_parts(content: Block, key: BlobKey) -> Iterator[bytes]:
    """The bytes of the blob of a block, piece by piece."""
    images = content.images
    sizes = [len(image) for image in images]
    *offsets, _end = itertools.accumulate(sizes, initial=_images_start(key.num_samples))
    crcs = map(zlib.crc32, images)
    entries = zip(offsets, sizes, crcs, content.sample_ids.tolist(), content.labels.tolist(), strict=True)
    table = b"".join(itertools.starmap(_ENTRY.pack, entries))
    yield _header_of(key, blob_size_bytes(content), zlib.crc32(table))
    yield table
    yield from images


def _images_start(num_samples: int) -> int:
    return _HEADER.size + num_samples * _ENTRY.size


def _header_of(key: BlobKey, size_bytes: int, table_crc: int) -> bytes:
    unsigned = _HEADER.pack(_MAGIC, *key, size_bytes, table_crc, 0)[:-4]
    return unsigned + struct.pack("<I", zlib.crc32(unsigned))


def _check_header(header: bytes, key: BlobKey) -> tuple[int, int]:
    """The size of the blob in bytes, and the checksum of its table."""
    size_bytes, table_crc = _HEADER.unpack(header)[4:6]
    if header != _header_of(key, size_bytes, table_crc):
        raise BlobDamagedError("the header is damaged, or belongs to another block")
    return size_bytes, table_crc
