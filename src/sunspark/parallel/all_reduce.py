"""The exchange of every strategy: gradients, and what stands in their place, are summed over all workers.

Cost: one all-reduce of the gradients. Between hosts and between GPUs they travel in buckets (gloo's ring,
NCCL), and the evidence behind them. On one host, without GPUs, they do not travel: every worker sums a part of them in
memory that all share, and the evidence is the barrier before it. With compression they travel encoded, always.
"""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from sunspark.parallel.compression import Codec, CompressedSum, Compression, codec_of
from sunspark.parallel.group import Group
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.shared_memory import SharedMemory

_BUCKET_BYTES = 12 << 20
_CHUNK_NUMBERS = 1 << 16
"""Summed at a time: few enough to stay in the processor's cache while one worker after the other is added."""


class _Transport(Protocol):
    """How gradients get to the others, as long as the group lasts."""

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        """Sum the gradients and the `tallies` over the group, in place."""


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
        """`exact` is summed too, and never compressed."""
        self._parameters = [*reversed(parameters), *reversed(exact)]
        self._compressed: _Compressed | None = None
        if compression != "none":
            self._compressed = _Compressed(list(parameters), list(exact), codec_of(compression))
        self._transport: _Transport | None = None
        self._group_key = ""

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        """Sum the gradients and the `tallies` (small tensors on the processor) over all ranks, in place.

        The gradients may then lie in memory that all ranks read: they are not to be written to.
        Raises GroupBrokenError; gradients and tallies then hold no meaning.
        """
        if self._compressed is not None:
            self._compressed.sum.drop()
        if group.is_alone:
            return
        if self._compressed is not None:
            self._compressed.reduce(tallies, group, timeout_seconds)
            return
        try:
            if self._transport is None or self._group_key != group.key:
                self._transport, self._group_key = self._new_transport(group, timeout_seconds), group.key
            self._transport.reduce(tallies, group, timeout_seconds)
        except GroupBrokenError:
            self._transport = None  # a wait that was left behind, or a member, may still write to its memory
            raise

    def commit(self) -> None:
        """The last sum has been used."""
        if self._compressed is not None:
            self._compressed.sum.commit()

    def forget(self) -> None:
        """The state that was summed for gave way to another."""
        if self._compressed is not None:
            self._compressed.sum.forget()

    def _new_transport(self, group: Group, timeout_seconds: float) -> _Transport:
        num_bytes = sum(parameter.nbytes for parameter in self._parameters)
        memory = group.share_memory((len(group.members) + 1) * num_bytes, timeout_seconds)
        return _Buckets(self._parameters) if memory is None else _SharedMemory(self._parameters, memory, group)


@final
class _Buckets:
    """Gradients travel in buckets, each an all-reduce."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._buckets: list[_Bucket | _LargeGradient] = []
        members: list[nn.Parameter] = []
        for parameter in parameters:
            if parameter.nbytes >= _BUCKET_BYTES:
                self._buckets.append(_LargeGradient(parameter))
                continue
            members.append(parameter)
            if sum(p.nbytes for p in members) >= _BUCKET_BYTES:
                self._buckets.append(_Bucket(members))
                members = []
        if members:
            self._buckets.append(_Bucket(members))

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        works = []
        for bucket in self._buckets:
            bucket.gather()
            works.append(group.start_all_reduce(bucket.flat, timeout_seconds))
        works += [group.start_all_reduce(tensor, timeout_seconds) for tensor in tallies]
        group.wait(works)
        for bucket in self._buckets:
            bucket.scatter()


@final
class _Compressed:
    """Gradients travel as one encoded tensor; what must be exact travels beside it, in buckets."""

    def __init__(self, parameters: Sequence[nn.Parameter], exact: Sequence[nn.Parameter], codec: Codec) -> None:
        self._gradients = _Bucket(parameters)
        self._exact = exact
        self.sum = CompressedSum(self._gradients.flat.numel(), codec)

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        self._gradients.gather()
        self.sum.reduce(self._gradients.flat, group, timeout_seconds)
        _Buckets(self._exact).reduce(tallies, group, timeout_seconds)
        self._gradients.scatter()


@final
class _SharedMemory:
    """Every rank lays its gradients into shared memory, and sums its part of all of them, in the order of ranks."""

    def __init__(self, parameters: Sequence[nn.Parameter], memory: SharedMemory, group: Group) -> None:
        dtype, size = parameters[0].dtype, sum(parameter.numel() for parameter in parameters)
        world_size = len(group.members)
        regions = [memory.tensor(dtype, index * size * dtype.itemsize, size) for index in range(world_size + 1)]
        part = slice(size * group.rank // world_size, size * (group.rank + 1) // world_size)
        self._mine = _Bucket(parameters, regions[group.rank])
        self._total = _Bucket(parameters, regions[world_size])
        self._parts = [region[part] for region in regions]

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        self._mine.gather()
        group.wait([group.start_all_reduce(tensor, timeout_seconds) for tensor in tallies])  # all have laid down theirs
        for first, second, *others, total in zip(*(part.split(_CHUNK_NUMBERS) for part in self._parts), strict=True):
            torch.add(first, second, out=total)
            for other in others:
                total += other
        group.wait([group.start_all_reduce(torch.zeros(1), timeout_seconds)])  # all have summed their part
        self._total.scatter()


@final
class _LargeGradient:
    """A gradient that is worth a collective of its own: it travels as it lies, without a copy."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter
        self.flat = torch.empty(0)

    def gather(self) -> None:
        if self._parameter.grad is None:
            self._parameter.grad = torch.zeros_like(self._parameter)
        # Gradients are dense and have the strides of their parameter (channels_last) on every rank.
        self.flat = self._parameter.grad.as_strided((self._parameter.numel(),), (1,))

    def scatter(self) -> None:
        """The gradient was summed in place."""


@final
class _Bucket:
    """The gradients of some parameters, side by side in one flat tensor."""

    def __init__(self, parameters: Sequence[nn.Parameter], flat: Tensor | None = None) -> None:
        self._parameters = parameters
        if flat is None:
            flat = parameters[0].new_zeros(sum(p.numel() for p in parameters))
        self.flat = flat
        pieces = flat.split([p.numel() for p in parameters])
        # The pieces have the strides of the parameters (channels_last), as the gradients have.
        self._views = [
            piece.as_strided(parameter.shape, parameter.stride())
            for piece, parameter in zip(pieces, parameters, strict=True)
        ]

    def gather(self) -> None:
        with torch.no_grad():
            for view, parameter in zip(self._views, self._parameters, strict=True):
                if parameter.grad is None:
                    view.zero_()
                else:
                    view.copy_(parameter.grad)

    def scatter(self) -> None:
        for view, parameter in zip(self._views, self._parameters, strict=True):
            parameter.grad = view
