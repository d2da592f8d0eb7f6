"""Files in stores, read in blocks of some MB, of which those that were used last are kept.

For readers that ask for little at a time, now here and now there: a request costs tens of milliseconds, whatever it
brings. Cost: the blocks that are kept.
"""

import io
from collections import OrderedDict
from typing import Any, final

from sunspark.storage.reading import open_random_access
from sunspark.storage.uri import as_local_path


def open_in_blocks(uri: str, block_bytes: int, num_blocks: int) -> Any:
    """A file to `seek` and `read`, of which so many blocks are kept where it lies in a store; close it after use."""
    file = open_random_access(uri)
    return file if as_local_path(uri) is not None else _BlockFile(file, block_bytes, num_blocks)


@final
class _BlockFile(io.RawIOBase):
    """A file of which each block is fetched once while it is used; for one thread at a time."""

    def __init__(self, file: Any, block_bytes: int, num_blocks: int) -> None:
        super().__init__()
        self._file = file
        self._block_bytes = block_bytes
        self._num_blocks = num_blocks
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        """By number; the one that was used last comes last."""
        self._place = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, fewer only at the end of the file."""
        left = max(0, self._file.size() - self._place)
        stop = self._place + (left if size is None or size < 0 else min(size, left))
        parts: list[bytes] = []
        while self._place < stop:
            number, start = divmod(self._place, self._block_bytes)
            part = self._block(number)[start : start + stop - self._place]
            parts.append(part)
            self._place += len(part)
        return b"".join(parts)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size()}[whence]
        return self._place

    def close(self) -> None:
        self._blocks.clear()
        self._file.close()
        super().close()

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if len(self._blocks) == self._num_blocks:
                self._blocks.popitem(last=False)
            self._blocks[number] = self._file.read_at(self._block_bytes, number * self._block_bytes)
        self._blocks.move_to_end(number)
        return self._blocks[number]
