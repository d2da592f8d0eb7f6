"""Numbers as fewer bytes: bf16, and int8 with a scale for each block; what is lost on the way is left to the caller.

What encoding loses is added to what is sent next (error feedback: Karimireddy et al., arXiv 1901.09847): so does
`CompressedUpdates` for a worker's updates, and `compressed_sum.py` for sums. Coding goes through the processor's cache
in chunks.

Shape legend: S numbers of one shard, E bytes of one when encoded.
"""

from collections.abc import Iterator
from typing import Final, Literal, Protocol, final

import torch
from torch import Tensor

Compression = Literal["none", "bf16", "int8"]

_BLOCK: Final = 256
"""Numbers that share a scale; every shard is made of whole blocks."""
_CHUNK: Final = 1 << 18


class Codec(Protocol):
    """Numbers to bytes, and back with a loss. Shards are float32 and whole blocks."""

    def num_bytes(self, size: int) -> int:
        """E of a shard of so many numbers."""

    def encode(self, numbers_S: Tensor, bytes_E: Tensor) -> None:
        """Write the encoded numbers; what is lost of them is left in their place."""

    def decode(self, bytes_E: Tensor, numbers_S: Tensor, *, adds: bool = False) -> None:
        """Write the numbers, or add them to what is there."""


@final
class Bf16:
    """Half the bytes: numbers rounded to 8 significant bits."""

    def num_bytes(self, size: int) -> int:
        return 2 * size

    def encode(self, numbers_S: Tensor, bytes_E: Tensor) -> None:
        for numbers, rounded in _chunks(numbers_S, bytes_E.view(torch.bfloat16)):
            rounded.copy_(numbers)
            numbers.sub_(rounded)

    def decode(self, bytes_E: Tensor, numbers_S: Tensor, *, adds: bool = False) -> None:
        for numbers, rounded in _chunks(numbers_S, bytes_E.view(torch.bfloat16)):
            if adds:
                numbers.add_(rounded)
            else:
                numbers.copy_(rounded)


@final
class Int8:
    """A quarter of the bytes: numbers in 254 even steps between the extremes of their block."""

    def num_bytes(self, size: int) -> int:
        return size + size // _BLOCK * 4

    def encode(self, numbers_S: Tensor, bytes_E: Tensor) -> None:
        for numbers, steps, scales in _chunks(*self._blocks(numbers_S, bytes_E)):
            least, most = torch.aminmax(numbers, dim=1, keepdim=True)
            torch.maximum(most, least.neg_(), out=scales).clamp_(min=1e-30).div_(127)
            counts = (numbers / scales).round_()
            steps.copy_(counts)
            numbers.sub_(counts.mul_(scales))

    def decode(self, bytes_E: Tensor, numbers_S: Tensor, *, adds: bool = False) -> None:
        for numbers, steps, scales in _chunks(*self._blocks(numbers_S, bytes_E)):
            if adds:
                numbers.addcmul_(steps.float(), scales)
            else:
                numbers.copy_(steps).mul_(scales)

    def _blocks(self, numbers_S: Tensor, bytes_E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers and steps, a row for each block, and the blocks' scales."""
        size = len(numbers_S)
        steps, scales = bytes_E[:size].view(torch.int8), bytes_E[size:].view(torch.float32)
        return numbers_S.view(-1, _BLOCK), steps.view(-1, _BLOCK), scales.unsqueeze(1)


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of tensors of one length, part by part: few enough numbers to stay in the processor's cache."""
    step = max(1, _CHUNK // max(1, tensors[0][0].numel()))
    return zip(*(tensor.split(step) for tensor in tensors), strict=True)


def codec_of(compression: Literal["bf16", "int8"]) -> Codec:
    """The codec of that name."""
    return Bf16() if compression == "bf16" else Int8()


@final
class CompressedUpdates:
    """Encodes updates of one worker for a parameter server, and remembers what each has lost for the next."""

    def __init__(self, size: int, codec: Codec) -> None:
        self._size = size
        self._codec = codec
        self._residual = torch.zeros(whole_blocks(size))
        self._staged = self._residual

    def encode(self, update: Tensor) -> Tensor:
        """The bytes of `update`, shape (size,). What they lose is remembered by `commit`, once they have been used."""
        lost = self._residual.clone()
        lost[: self._size] += update
        encoded = torch.empty(self._codec.num_bytes(len(lost)), dtype=torch.uint8)
        self._codec.encode(lost, encoded)
        self._staged = lost
        return encoded

    def commit(self) -> None:
        """The last update has been used: add to the next one what it has lost."""
        self._residual = self._staged


def num_encoded_bytes(size: int, codec: Codec) -> int:
    """Bytes of an update of so many numbers."""
    return codec.num_bytes(whole_blocks(size))


def decoded(encoded: Tensor, size: int, codec: Codec) -> Tensor:
    """The update of so many numbers that `encode` has made these bytes of."""
    numbers = torch.empty(whole_blocks(size))
    codec.decode(encoded, numbers)
    return numbers[:size]


def whole_blocks(size: int) -> int:
    """So many numbers, filled up to whole blocks."""
    return -(-size // _BLOCK) * _BLOCK
