"""Files read: whole, as JSON, by ranges."""

import json
from typing import Any

from sunspark.errors import StorageError
from sunspark.storage.filesystem import resolve, storage_errors


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""
    with storage_errors(uri):
        filesystem, path = resolve(uri)
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


def open_random_access(uri: str) -> Any:
    """A `pyarrow.NativeFile` for ranged reads (`seek`, `read`, `read_at`); close it after use."""
    with storage_errors(uri):
        filesystem, path = resolve(uri)
        return filesystem.open_input_file(path)
