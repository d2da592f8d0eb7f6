"""Files read: whole, as JSON, by ranges."""

import io
import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, final

import pyarrow as pa

from sunspark.errors import StorageError
from sunspark.storage.filesystem import resolve, storage_errors
from sunspark.storage.retrying import retried
from sunspark.storage.uri import as_local_path

T = TypeVar("T")

_MOST_RANGE_BYTES: Final = 16 * 2**20
_RANGES_AT_ONCE: Final = 4


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""

    def read() -> bytes:
        filesystem, path = resolve(uri)
        with filesystem.open_input_file(path) as file:
            content: bytes = file.read()
            if len(content) != file.size():
                raise OSError(f"only {len(content)} of {file.size()} bytes came")
            return content

    with storage_errors(uri):
        return retried(uri, read)


def read_json(uri: str) -> Any:
    """The content of a JSON file; StorageError when it is not JSON."""
    body = read_bytes(uri)
    try:
        return json.loads(body)
    except ValueError as error:
        raise StorageError(f"{uri} is not JSON ({error}); it was damaged or written by something else") from error


def read_whole(uri: str, size_bytes: int) -> pa.Buffer:
    """The first `size_bytes` of a file, which is all of it, in ranges of 8 to 16 MiB, four at a time.

    A range that fails is asked for again; a file that is shorter is StorageError.
    Cost: its size in memory, once.
    """
    body = pa.allocate_buffer(size_bytes)
    with storage_errors(uri):
        _read_ranges(uri, ranges_of(size_bytes), memoryview(body))
    return body


def open_random_access(uri: str) -> Any:
    """A file for ranged reads (`seek`, `read`, `read_at`, `size`); close it after use."""
    with storage_errors(uri):
        if as_local_path(uri) is None:
            return _StoredFile(uri)
        filesystem, path = resolve(uri)
        return filesystem.open_input_file(path)


class RangedFile(io.RawIOBase, ABC):
    """A file that is read by ranges, as one that is read from place to place; it takes `pyarrow.NativeFile`'s part."""

    def __init__(self) -> None:
        super().__init__()
        self._place = 0

    @abstractmethod
    def size(self) -> int:
        """Bytes."""

    @abstractmethod
    def read_at(self, num_bytes: int, offset: int) -> bytes:
        """As many bytes, fewer at the end of the file; the place in the file stays."""

    def read(self, size: int | None = -1, /) -> bytes:
        body = self.read_at(self.size() if size is None or size < 0 else size, self._place)
        self._place += len(body)
        return body

    def readinto(self, buffer: Any, /) -> int:
        body = self.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size()}[whence]
        return self._place


@final
class _StoredFile(RangedFile):
    """A file in a store, of which each range that is read is tried again by a new client if need be.

    Raises as `pyarrow.NativeFile` does.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri
        self._file: Any = None
        self._size: int = self._ask(lambda file: file.size())

    def size(self) -> int:
        return self._size

    def read_at(self, num_bytes: int, offset: int) -> bytes:
        wanted = max(0, min(num_bytes, self._size - offset))

        def read(file: Any) -> bytes:
            body: bytes = file.read_at(wanted, offset)
            if len(body) < wanted:
                raise OSError(f"only {len(body)} of {wanted} bytes at {offset} came")
            return body

        return self._ask(read) if wanted else b""

    def _ask(self, ask: Callable[[Any], T]) -> T:
        def once() -> T:
            if self._file is None:
                filesystem, path = resolve(self._uri)
                self._file = filesystem.open_input_file(path)
            try:
                return ask(self._file)
            except BaseException:
                self._file = None
                raise

        return retried(self._uri, once)


def ranges_of(size_bytes: int) -> list[range]:
    """`range(size_bytes)` in as few parts as have 16 MiB at most; none has less than 8 where there are several."""
    count = -(-size_bytes // _MOST_RANGE_BYTES)
    return [range(number * size_bytes // count, (number + 1) * size_bytes // count) for number in range(count)]


def _read_ranges(uri: str, ranges: Sequence[range], body: memoryview) -> None:
    waiting, errors = deque(ranges), list[Exception]()

    def work() -> None:
        while not errors:
            try:
                part = waiting.popleft()
            except IndexError:  # all are taken
                return
            try:
                _read_range(uri, part, body)
            except Exception as error:
                errors.append(error)

    # Not a pool: its threads are waited for at the end of the process, and storage may hang.
    helpers = [threading.Thread(target=work, daemon=True) for _ in ranges[1:_RANGES_AT_ONCE]]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


def _read_range(uri: str, part: range, body: memoryview) -> None:
    def read() -> None:
        filesystem, path = resolve(uri)
        with filesystem.open_input_file(path) as file:
            file.seek(part.start)
            num_bytes = file.readinto(body[part.start : part.stop])
        if num_bytes != len(part):
            raise OSError(f"only {num_bytes} of {len(part)} bytes at {part.start} came")

    retried(uri, read)
