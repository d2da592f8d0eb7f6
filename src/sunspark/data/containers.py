"""The bytes of images, read out of what holds them: a folder, a tar, a tar.gz, a Parquet file.

From a folder or a tar, any image is read by itself. From a tar.gz or Parquet, images are best read in the order of
their positions: what lies between two of them is decompressed or skipped.
"""

from __future__ import annotations

import contextlib
import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pyarrow as pa

from sunspark import storage
from sunspark.data.decoder import MAX_SOURCE_BYTES
from sunspark.data.image_files import read_image
from sunspark.data.image_format import DecodeError
from sunspark.data.kept_archive import kept_open
from sunspark.data.sources.listing import Container, ListedImage
from sunspark.data.sources.parquet import image_columns, opened_parquet
from sunspark.errors import StorageError

_MOST_ROWS_AT_ONCE: Final = 16
_BUFFER_BYTES: Final = 8 * 2**20
_MOST_OPEN_TARS: Final = 64
"""By one task: the images of a block may lie in thousands, and a process may open a thousand files."""

ImageBytes = tuple[ListedImage, bytes | DecodeError]
"""An image, and its bytes or why it has none and never will."""


def read_images(images: Iterable[ListedImage]) -> Iterator[ImageBytes]:
    """The bytes of each image, in the order given, one at a time.

    Raises StorageError for trouble that may pass.
    """
    with _opened_tars() as opened:
        for image in images:
            container = image.container
            try:
                _refuse_large(image.size_bytes)
                if container.kind == "folder":
                    yield image, _as_listed(image, storage.beside(container.uri, image.path))
                    continue
                assert container.kind == "tar", container.kind
                yield image, _range(opened(container), image)
            except DecodeError as error:
                yield image, error


def _as_listed(image: ListedImage, uri: str) -> bytes:
    """The bytes of a file; StorageError where it is gone, or of another size: that says nothing about the image."""
    try:
        data = read_image(uri)
    except DecodeError:
        if image.size_bytes and storage.entry_at(uri) is None:
            raise StorageError(f"{uri} was listed and is gone; start again when the images are there") from None
        raise
    if image.size_bytes and len(data) != image.size_bytes:
        raise StorageError(
            f"{uri} had {image.size_bytes} bytes and has {len(data)}: it has changed since it was listed; start again"
        )
    return data


def read_in_order(images: Iterable[ListedImage], seek_index: bytes) -> Iterator[ImageBytes]:
    """The same for images of one tar, tar.gz or Parquet file, which come in the order of their positions."""
    images = list(images)
    container = images[0].container
    if container.kind == "tar":
        yield from read_images(images)
        return
    if container.kind == "parquet":
        yield from _rows(container, images)
        return
    assert container.kind == "tar.gz", container.kind
    entry = storage.entry_at(container.uri)
    if entry is None:
        raise StorageError(f"{container.uri} was listed and is gone; start again when it is there")
    _refuse_other_size(container, entry.size_bytes)
    with kept_open(container, seek_index, entry.modified_ns, lambda why: _damaged(container.uri, why)) as reader:
        for image in images:
            try:
                _refuse_large(image.size_bytes)
            except DecodeError as error:
                yield image, error
                continue
            reader.seek(image.position)
            yield image, _whole(image, reader.read(image.size_bytes))


@contextlib.contextmanager
def _opened_tars() -> Iterator[Callable[[Container], Any]]:
    """Opens files, and keeps those open that were used last."""
    tars: OrderedDict[str, Any] = OrderedDict()

    def opened(container: Container) -> Any:
        uri = container.uri
        if uri not in tars:
            if len(tars) == _MOST_OPEN_TARS:
                tars.popitem(last=False)[1].close()
            tars[uri] = storage.open_random_access(uri)
            _refuse_changed(container, tars[uri])
        tars.move_to_end(uri)
        return tars[uri]

    try:
        yield opened
    finally:
        for tar in tars.values():
            tar.close()


def _refuse_changed(container: Container, file: Any) -> None:
    """A file of another size is another one: at the places that were listed lie other images."""
    with storage.storage_errors(container.uri):
        place = file.tell()
        size_bytes = file.seek(0, io.SEEK_END)
        file.seek(place)
    _refuse_other_size(container, size_bytes)


def _refuse_other_size(container: Container, size_bytes: int) -> None:
    if size_bytes != container.size_bytes:
        raise StorageError(
            f"{container.uri} has {size_bytes} bytes, not {container.size_bytes}: it has changed since it was listed; "
            "start again"
        )


def _damaged(uri: str, why: str) -> StorageError:
    return StorageError(f"{uri} cannot be decompressed ({why}); get it again, or start again if it was replaced")


def _refuse_large(size_bytes: int) -> None:
    if size_bytes > MAX_SOURCE_BYTES:
        raise DecodeError("size", f"{size_bytes} bytes are more than {MAX_SOURCE_BYTES}")


def _range(file: Any, image: ListedImage) -> bytes:
    with storage.storage_errors(image.container.uri):
        file.seek(image.position)
        return _whole(image, file.read(image.size_bytes))


def _whole(image: ListedImage, data: bytes) -> bytes:
    if len(data) < image.size_bytes:
        raise StorageError(
            f"{image.container.uri} ended within {image.path}: it has changed since it was listed; start again"
        )
    return data


def _rows(container: Container, images: list[ListedImage]) -> Iterator[ImageBytes]:
    """Row groups are passed page by page, a few rows at a time, so that memory does not depend on their size."""
    wanted = {image.position: image for image in images}
    first, last = (bisect_right(container.row_groups, image.position) - 1 for image in (images[0], images[-1]))
    row, num_rows = container.row_groups[first], 0
    with storage.open_random_access(container.uri) as file:
        _refuse_changed(container, file)
    with opened_parquet(container.uri, buffer_size=_BUFFER_BYTES) as parquet:
        columns = image_columns(container.uri, parquet.schema_arrow)
        assert columns is not None, container.uri
        row_groups = range(first, min(last + 1, parquet.num_row_groups))
        sizes = (parquet.metadata.row_group(number).total_byte_size for number in row_groups)
        with storage.storage_errors(container.uri):
            for batch in parquet.iter_batches(
                batch_size=rows_at_once(max(sizes, default=0)),
                row_groups=row_groups,
                columns=[columns.data],
                use_threads=False,
            ):
                column = pa.Table.from_batches([batch]).flatten().column(columns.data)
                for value in column:
                    if row in wanted:
                        yield wanted[row], _bytes_of(value)
                        num_rows += 1
                    row += 1
    if num_rows < len(wanted):
        raise StorageError(
            f"{container.uri} has changed since it was listed: {num_rows} of {len(wanted)} rows came; start again"
        )


def rows_at_once(row_group_bytes: int) -> int:
    """So few rows of a row group of that size that together they have no more bytes than one image may have.

    None of them has more than the group, of which one value may stand in many rows.
    """
    return min(_MOST_ROWS_AT_ONCE, max(1, MAX_SOURCE_BYTES // max(1, row_group_bytes)))


def _bytes_of(value: pa.BinaryScalar) -> bytes | DecodeError:
    """Measured before they are copied."""
    body = value.as_buffer()
    if body is None:
        return DecodeError("read", "the row holds no bytes")
    try:
        _refuse_large(body.size)
    except DecodeError as error:
        return error
    data: bytes = value.as_py()
    return data
