"""Files read: whole, as JSON, by ranges."""

import json
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from sunspark.errors import StorageError
from sunspark.storage.filesystem import resolve, storage_errors
from sunspark.storage.retrying import retried

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
    """A `pyarrow.NativeFile` for ranged reads (`seek`, `read`, `read_at`); close it after use."""
    with storage_errors(uri):
        filesystem, path = resolve(uri)
        return filesystem.open_input_file(path)


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
