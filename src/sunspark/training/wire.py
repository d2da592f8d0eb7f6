"""Parameters down to a worker, and its update up to the parameter server, as bytes.

Uncompressed, both are the numbers as they are. Compressed, an update is encoded (`parallel/codec.py`) and
parameters come down as bf16: a worker starts from their rounding, the server's own keep all their bits. Batch
statistics are never compressed.
"""

from collections.abc import Iterator
from typing import Final, final

import torch
from torch import Tensor

from sunspark.errors import WorkerError
from sunspark.parallel.codec import (
    CompressedUpdates,
    Compression,
    codec_of,
    decoded,
    num_encoded_bytes,
)
from sunspark.training.flat_weights import FlatWeights

_CHUNK_BYTES: Final = 4 << 20


@final
class Wire:
    """How the numbers of one network travel. A worker that sends updates keeps what encoding lost."""

    def __init__(self, weights: FlatWeights, compression: Compression) -> None:
        self._codec = None if compression == "none" else codec_of(compression)
        self._dtype = weights.dtype
        self._num_trained, self._size = weights.num_trained, weights.size
        self._updates: CompressedUpdates | None = None

    @property
    def is_plain(self) -> bool:
        """Whether numbers travel as they are."""
        return self._codec is None

    def pack_parameters(self, numbers_N: Tensor) -> Tensor:
        """Bytes, shape (E,)."""
        if self._codec is None:
            return numbers_N.view(torch.uint8)
        return self._join(numbers_N[: self._num_trained].bfloat16().view(torch.uint8), numbers_N)

    def unpack_parameters(self, body: bytearray) -> Tensor:
        """The numbers, shape (N,). Raises WorkerError when these are not as many bytes as they must be."""
        if self._codec is None:
            return self.unpack_exact(body)
        num_bytes = 2 * self._num_trained
        exact = self._numbers(body, num_bytes, self._size - self._num_trained)
        trained = torch.frombuffer(body, dtype=torch.bfloat16, count=self._num_trained).to(self._dtype)
        return torch.cat([trained, exact])

    def unpack_exact(self, body: bytearray) -> Tensor:
        """The numbers, shape (N,), that came as they are, whatever the compression. Raises WorkerError likewise."""
        return self._numbers(body, 0, self._size)

    def pack_update(self, change_N: Tensor) -> Tensor:
        """Bytes, shape (E,)."""
        if self._codec is None:
            return change_N.view(torch.uint8)
        if self._updates is None:
            self._updates = CompressedUpdates(self._num_trained, self._codec)
        return self._join(self._updates.encode(change_N[: self._num_trained].float()), change_N)

    def unpack_update(self, body: bytearray) -> Tensor:
        """The change, shape (N,). Raises WorkerError when these are not as many bytes as they must be."""
        if self._codec is None:
            return self.unpack_exact(body)
        num_bytes = num_encoded_bytes(self._num_trained, self._codec)
        exact = self._numbers(body, num_bytes, self._size - self._num_trained)
        encoded = torch.frombuffer(body, dtype=torch.uint8, count=num_bytes)
        return torch.cat([decoded(encoded, self._num_trained, self._codec).to(self._dtype), exact])

    def commit(self) -> None:
        """The last update has been applied: what encoding has lost of it is added to the next one."""
        if self._updates is not None:
            self._updates.commit()

    def _join(self, encoded: Tensor, numbers_N: Tensor) -> Tensor:
        return torch.cat([encoded, numbers_N[self._num_trained :].contiguous().view(torch.uint8)])

    def _numbers(self, body: bytearray, offset: int, count: int) -> Tensor:
        """The rest of the body, from `offset` on."""
        num_bytes = offset + count * self._dtype.itemsize
        if len(body) != num_bytes:
            raise WorkerError(f"{len(body)} bytes came, {num_bytes} were to come")
        if not count:
            return torch.empty(0, dtype=self._dtype)
        rest = bytearray(memoryview(body)[offset:]) if offset % self._dtype.itemsize else body
        return torch.frombuffer(rest, dtype=self._dtype, count=count, offset=0 if rest is not body else offset)


def chunks_of(packed_E: Tensor) -> Iterator[memoryview]:
    """The bytes in chunks, for a stream."""
    body = packed_E.numpy().data
    for begin in range(0, len(body), _CHUNK_BYTES):
        yield body[begin : begin + _CHUNK_BYTES]


def gathered(chunks: Iterator[memoryview]) -> bytearray:
    """The bytes of a stream."""
    return bytearray().join(chunks)
