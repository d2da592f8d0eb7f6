"""The exchange of every strategy: gradients, and what stands in their place, are summed over all workers.

Cost: one all-reduce of the gradients. Between hosts and between GPUs they travel in buckets (gloo's ring,
NCCL), which leave while the backward pass still runs, and the evidence behind them. On one host, without GPUs, they do
not travel, nor does the evidence: every worker sums a part of them in memory that all share, between two barriers. With
compression they travel encoded, always, and in buckets too.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from sunspark.parallel.buckets import (
    Bucket,
    CompressedBucket,
    Departure,
    ExactBucket,
    Gradients,
    gradients_by_bucket,
)
from sunspark.parallel.codec import Compression, codec_of
from sunspark.parallel.compressed_sum import CompressedSum
from sunspark.parallel.group import Group
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.shared_memory import SharedMemory

_CHUNK_NUMBERS = 1 << 16
"""Summed at a time: few enough to stay in the processor's cache while one worker after the other is added."""


class _Transport(Protocol):
    """How gradients get to the others, as long as the group lasts."""

    room: float
    """Bytes of tallies that can be summed beside the gradients."""

    def begin(self, group: Group, timeout_seconds: float) -> None:
        """From now on gradients become final, as `note_final` is told; they may leave before the sum."""

    def note_final(self, parameter: nn.Parameter) -> None:
        """Nothing will be added to the gradient of `parameter`."""

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> float:
        """Sum the gradients and the `tallies` over the group, in place; the seconds that were hidden by then."""


@final
class AllReduce:
    """Sums the gradients of parameters over the group; the first ones travel last.

    Needs every rank (one without samples sends zeros). When a rank dies the sum fails on whoever still waited for it.
    Holds no state from one sum to the next but, with compression, what was lost on the way.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        exact: Sequence[nn.Parameter] = (),
        compression: Compression = "none",
    ) -> None:
        """`exact` is summed too, and never compressed; it needs no gradients, but is set before the backward pass."""
        self._parameters, self._exact = [*reversed(parameters), *reversed(exact)], exact
        self._compressed: list[CompressedBucket] = []
        if compression != "none":
            codec = codec_of(compression)
            self._compressed = [
                CompressedBucket(gradients, codec) for gradients in gradients_by_bucket([*reversed(parameters)])
            ]
        self._transport: _Transport | None = None
        self._group_key = ""
        self.hidden_seconds = 0.0
        """Of the last sum: for which one of its collectives was under way before `reduce`, as far as that was seen.
        On a GPU, which runs behind, only what still was at the end counts as seen from the last gradient on."""
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._note_final)

    def begin(self, group: Group, timeout_seconds: float) -> None:
        """The next backward pass is the last before `reduce`: gradients leave as soon as it has them.

        What leaves has `timeout_seconds` until all have summed. In the first sum of a group nothing leaves early.
        """
        if self._transport is not None and self._group_key == group.key:
            self._transport.begin(group, timeout_seconds)

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        """Sum the gradients and the `tallies` (small tensors on the processor) over all ranks, in place.

        The gradients may then lie in memory that all ranks read: they are not to be written to.
        Raises GroupBrokenError; gradients are then as they were, and tallies hold no meaning.
        """
        self.hidden_seconds = 0.0
        for compressed in self._compressed_sums():
            compressed.drop()
        if group.is_alone:
            self._transport = None  # it holds the memory of a group that is gone
            for parameter in self._parameters:
                if parameter.grad is None:  # forward does not use it: zeros, as a sum over several has
                    parameter.grad = torch.zeros_like(parameter)
            return
        try:
            if self._transport is None or self._group_key != group.key or self._transport.room < _num_bytes(tallies):
                self._transport = self._new_transport(tallies, group, timeout_seconds)
                self._group_key = group.key
            self.hidden_seconds = self._transport.reduce(tallies, group, timeout_seconds)
        except GroupBrokenError:
            self._transport = None  # a wait that was left behind, or a member, may still write to its memory
            raise

    def commit(self) -> None:
        """The last sum has been used."""
        for compressed in self._compressed_sums():
            compressed.commit()

    def forget(self) -> None:
        """The state that was summed for gave way to another."""
        for compressed in self._compressed_sums():
            compressed.forget()

    def _compressed_sums(self) -> Iterator[CompressedSum]:
        return itertools.chain.from_iterable(bucket.sums for bucket in self._compressed)

    def _note_final(self, parameter: nn.Parameter) -> None:
        if self._transport is not None:
            self._transport.note_final(parameter)

    def _new_transport(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> _Transport:
        if self._compressed:
            return _Buckets([*self._compressed, *map(ExactBucket, gradients_by_bucket([*reversed(self._exact)]))])
        memory = group.share_memory(_SharedMemory.num_bytes(self._parameters, tallies, group), timeout_seconds)
        if memory is None:
            return _Buckets([*map(ExactBucket, gradients_by_bucket(self._parameters))])
        return _SharedMemory(self._parameters, tallies, memory, group)


@final
class _Buckets:
    """Gradients travel in buckets, as early as they can."""

    room = math.inf

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self._buckets = buckets
        self._departure: Departure | None = None

    def begin(self, group: Group, timeout_seconds: float) -> None:
        self._departure = Departure(self._buckets, group, timeout_seconds)

    def note_final(self, parameter: nn.Parameter) -> None:
        if self._departure is not None:
            self._departure.note_final(parameter)

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> float:
        departure, self._departure = self._departure, None
        departure = departure or Departure(self._buckets, group, timeout_seconds)
        departure.finish(tallies, timeout_seconds)
        return departure.hidden_seconds


@final
class _SharedMemory:
    """Every rank lays its gradients into shared memory, and sums its part of all of them, in the order of ranks.

    Beside them lie the tallies, which every rank sums for itself.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], tallies: Sequence[Tensor], memory: SharedMemory, group: Group
    ) -> None:
        dtype, size = parameters[0].dtype, sum(parameter.numel() for parameter in parameters)
        rank, world_size = group.rank, len(group.members)
        num_tally_bytes = _num_bytes(tallies)
        self._memory, self.room = memory, float(num_tally_bytes)
        begin = world_size * num_tally_bytes
        regions = [memory.tensor(dtype, begin + i * size * dtype.itemsize, size) for i in range(world_size + 1)]
        part = slice(size * rank // world_size, size * (rank + 1) // world_size)
        self._mine = Gradients(parameters, regions[rank])
        self._total = Gradients(parameters, regions[world_size])
        self._chunks: list[tuple[Tensor, ...]] = []
        """Of this rank's part: of every rank's gradients, and of the sum."""
        if part.start < part.stop:
            self._chunks += zip(*(region[part].split(_CHUNK_NUMBERS) for region in regions), strict=True)
        self._rows: dict[tuple[int, ...], list[Tensor]] = {}
        """Where tallies lie, by their lengths: of each a row for every rank."""

    @staticmethod
    def num_bytes(parameters: Sequence[nn.Parameter], tallies: Sequence[Tensor], group: Group) -> int:
        """Of the memory that it needs."""
        return len(group.members) * _num_bytes(tallies) + (len(group.members) + 1) * _num_bytes(parameters)

    def begin(self, group: Group, timeout_seconds: float) -> None:
        """Nothing travels: laid down earlier, gradients would keep the same processor busy for as long."""

    def note_final(self, parameter: nn.Parameter) -> None:
        """As above."""

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> float:
        self._mine.gather()
        lengths = tuple(tally.numel() for tally in tallies)
        if lengths not in self._rows:
            self._rows = {lengths: self._rows_of(tallies, len(group.members))}
        for tally, rows in zip(tallies, self._rows[lengths], strict=True):
            rows[group.rank].copy_(tally)
        group.meet(timeout_seconds)  # all have laid down theirs
        for tally, rows in zip(tallies, self._rows[lengths], strict=True):
            torch.sum(rows, dim=0, out=tally)
        for first, second, *others, total in self._chunks:
            torch.add(first, second, out=total)
            for other in others:
                total += other
        group.meet(timeout_seconds)  # all have summed their part
        self._total.scatter()
        return 0.0

    def _rows_of(self, tallies: Sequence[Tensor], world_size: int) -> list[Tensor]:
        rows, offset = [], 0
        for tally in tallies:
            flat = self._memory.tensor(tally.dtype, offset, world_size * tally.numel())
            rows.append(flat.view(world_size, *tally.shape))
            offset += flat.nbytes
        return rows


def _num_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
