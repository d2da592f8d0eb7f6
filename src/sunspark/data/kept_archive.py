"""The archive that a process has read last, kept open for its next task.

rapidgzip never gives back what it takes to import a seek index, 2.4 MB where an archive has 35 GB (version 0.16.2): a
process that opened it for each of hundreds of tasks would grow by a gigabyte.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from sunspark import storage
from sunspark.data.sources.archive import opened_gzip
from sunspark.data.sources.listing import Container

_BLOCK_BYTES: Final = 2 * 2**20
"""Read at once from a store; less than where all of it is read, since a task begins and ends within blocks."""
_NUM_BLOCKS: Final = 2

_Key = tuple[Container, bytes, int]
_kept: Final = dict[_Key, tuple[contextlib.ExitStack, Any]]()
"""One at most, while nobody reads it."""


@contextlib.contextmanager
def kept_open(
    container: Container, seek_index: bytes, modified_ns: int, refusal: Callable[[str], Exception]
) -> Iterator[Any]:
    """A tar.gz as one that is not compressed, and can be sought; after an error it is closed.

    `modified_ns` says when it was changed last: one that was changed since it was opened is opened anew. Raises
    `refusal` of the reason if it is damaged, StorageError where it cannot be read.
    """
    key = (container, seek_index, modified_ns)
    kept = _kept.pop(key, None)  # nobody else reads it meanwhile
    if kept is None:
        close_kept()
    stack, reader = kept or _opened(container, seek_index, refusal)
    try:
        yield reader
    except BaseException as error:
        stack.__exit__(type(error), error, error.__traceback__)
        raise
    close_kept()
    _kept[key] = stack, reader


def _opened(
    container: Container, seek_index: bytes, refusal: Callable[[str], Exception]
) -> tuple[contextlib.ExitStack, Any]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(storage.storage_errors(container.uri))
        file = stack.enter_context(storage.open_in_blocks(container.uri, _BLOCK_BYTES, _NUM_BLOCKS))
        reader = stack.enter_context(opened_gzip(file, 1, refusal, seek_index))
        return stack.pop_all(), reader


@atexit.register
def close_kept() -> None:
    """Close it; at the end of Python too, since a thread of rapidgzip's would end that by SIGABRT."""
    while _kept:
        _, (stack, _) = _kept.popitem()
        stack.close()


os.register_at_fork(before=close_kept)  # two processes would share the place in an open file
