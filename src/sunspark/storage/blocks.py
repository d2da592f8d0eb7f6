"""Files in stores, read in blocks of some MB, of which those that were used last are kept.

For readers that ask for little at a time, now here and now there: a request costs tens of milliseconds, whatever it
brings. Cost: the blocks that are kept.
"""

from collections import OrderedDict
from typing import Any, final

from sunspark.storage.reading import RangedFile, open_random_access
from sunspark.storage.uri import as_local_path


def open_in_blocks(uri: str, block_bytes: int, num_blocks: int) -> Any:
    """A file to `seek` and `read`, of which so many blocks are kept where it lies in a store; close it after use."""
    file = open_random_access(uri)
    return file if as_local_path(uri) is not None else _BlockFile(file, block_bytes, num_blocks)


@final
class _BlockFile(RangedFile):
    """A file of which each block is fetched once while it is used; for one thread at a time."""

    def __init__(self, file: Any, block_bytes: int, num_blocks: int) -> None:
        super().__init__()
        self._file = file
        self._block_bytes = block_bytes
        self._num_blocks = num_blocks
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        """By number; the one that was used last comes last."""

    def size(self) -> int:
        num_bytes: int = self._file.size()
        return num_bytes

    def read_at(self, num_bytes: int, offset: int) -> bytes:
        stop = min(offset + num_bytes, self.size())
        parts: list[bytes] = []
        while offset < stop:
            number, start = divmod(offset, self._block_bytes)
            part = self._block(number)[start : start + stop - offset]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

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
