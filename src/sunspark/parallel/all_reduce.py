"""The exchange of every strategy: gradients, and what stands in their place, are summed over all workers.

Cost: one all-reduce of the gradients. Between hosts and between GPUs they travel in buckets (gloo's ring,
NCCL), and the evidence behind them; on processors they leave while the backward pass still runs, each as soon as its
gradients are final and those before it have left, so that all ranks send in one order. On one host, without GPUs, they
do not travel: every worker sums a part of them in memory that all share, and the evidence is the barrier before it.
With compression they travel encoded, always.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import Work

from sunspark.parallel.compression import Codec, CompressedSum, Compression, codec_of
from sunspark.parallel.group import AnyWork, Group
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.shared_memory import SharedMemory

_BUCKET_BYTES = 12 << 20
_CHUNK_NUMBERS = 1 << 16
"""Summed at a time: few enough to stay in the processor's cache while one worker after the other is added."""


class _Transport(Protocol):
    """How gradients get to the others, as long as the group lasts."""

    def leave_early(self, group: Group, timeout_seconds: float) -> None:
        """The backward pass that begins now leaves final gradients: those may leave before it ends."""

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        """Sum the gradients and the `tallies` over the group, in place."""

    def close(self) -> None:
        """Nothing leaves any more."""


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
        self.hidden_seconds = 0.0
        """For how long gradients of the last sum were on their way while this worker still ran its backward pass."""

    def leave_early(self, group: Group, timeout_seconds: float) -> None:
        """The backward pass that begins now is the last before `reduce`: what is final may leave.

        Others may come `timeout_seconds` later. Does nothing in a group's first sum, where all first have to meet.
        """
        if self._transport is not None and self._group_key == group.key:
            self._transport.leave_early(group, timeout_seconds)

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        """Sum the gradients and the `tallies` (small tensors on the processor) over all ranks, in place.

        The gradients may then lie in memory that all ranks read: they are not to be written to.
        Raises GroupBrokenError; gradients and tallies then hold no meaning.
        """
        self.hidden_seconds = 0.0
        if self._compressed is not None:
            self._compressed.sum.drop()
        if group.is_alone:
            return
        if self._compressed is not None:
            self._compressed.reduce(tallies, group, timeout_seconds)
            return
        try:
            if self._transport is None or self._group_key != group.key:
                self._drop_transport()
                self._transport, self._group_key = self._new_transport(group, timeout_seconds), group.key
            self._transport.reduce(tallies, group, timeout_seconds)
        except GroupBrokenError:
            self._drop_transport()  # a wait that was left behind, or a member, may still write to its memory
            raise
        if isinstance(self._transport, _Buckets):
            self.hidden_seconds = self._transport.hidden_seconds

    def commit(self) -> None:
        """The last sum has been used."""
        if self._compressed is not None:
            self._compressed.sum.commit()

    def forget(self) -> None:
        """The state that was summed for gave way to another."""
        if self._compressed is not None:
            self._compressed.sum.forget()

    def _drop_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None

    def _new_transport(self, group: Group, timeout_seconds: float) -> _Transport:
        num_bytes = sum(parameter.nbytes for parameter in self._parameters)
        memory = group.share_memory((len(group.members) + 1) * num_bytes, timeout_seconds)
        return _Buckets(self._parameters) if memory is None else _SharedMemory(self._parameters, memory, group)


@final
class _Buckets:
    """Gradients travel in buckets, each an all-reduce, in the order of `parameters`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._buckets: list[_Bucket | _LargeGradient] = []
        self._flight: _Flight | None = None
        self.hidden_seconds = 0.0
        members: list[nn.Parameter] = []
        for parameter in parameters:
            is_large = parameter.nbytes >= _BUCKET_BYTES
            if members and (is_large or sum(p.nbytes for p in members) >= _BUCKET_BYTES):
                self._buckets.append(_Bucket(members))
                members = []
            if is_large:
                self._buckets.append(_LargeGradient(parameter))
            else:
                members.append(parameter)
        if members:
            self._buckets.append(_Bucket(members))
        on_processor = all(parameter.device.type == "cpu" for parameter in parameters)
        trained = [parameter for parameter in parameters if parameter.requires_grad and on_processor]
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._note_final) for parameter in trained]

    def leave_early(self, group: Group, timeout_seconds: float) -> None:
        if self._hooks:
            self._flight = _Flight(self._buckets, group, timeout_seconds)

    def _note_final(self, parameter: Tensor) -> None:
        if self._flight is not None:
            self._flight.note_final(parameter)

    def reduce(self, tallies: Sequence[Tensor], group: Group, timeout_seconds: float) -> None:
        flight = self._flight or _Flight(self._buckets, group, timeout_seconds)
        self._flight = None
        backward_ended = time.monotonic()
        flight.leave()
        flight.works += [group.start_all_reduce(tensor, timeout_seconds) for tensor in tallies]
        group.wait(flight.works)
        self.hidden_seconds = flight.seconds_until(backward_ended)
        for bucket in self._buckets:
            bucket.scatter()

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


@final
class _Flight:
    """The buckets of one sum on their way."""

    def __init__(self, buckets: "Sequence[_Bucket | _LargeGradient]", group: Group, timeout_seconds: float) -> None:
        self._waiting = list(buckets)
        self._missing = {id(p) for bucket in buckets for p in bucket.parameters}
        """Parameters whose gradients are not final."""
        self._group = group
        self._timeout_seconds = timeout_seconds
        self._failure: GroupBrokenError | None = None
        self._times: list[list[float]] = []
        """Of each bucket that has left: when, and when it had arrived."""
        self.works: list[AnyWork | None] = []

    def note_final(self, parameter: Tensor) -> None:
        """Within the backward pass, which an exception must not end: it is raised when the rest leaves."""
        self._missing.discard(id(parameter))
        try:
            while self._waiting and self._missing.isdisjoint(map(id, self._waiting[0].parameters)):
                self._send_first()
        except GroupBrokenError as error:
            self._failure = error
            self._waiting = []

    def leave(self) -> None:
        """The rest leaves; without a gradient, zeros. Raises GroupBrokenError, also for what could not leave before."""
        if self._failure is not None:
            with contextlib.suppress(GroupBrokenError):
                self._group.wait(self.works)
            raise self._failure
        while self._waiting:
            self._send_first()

    def seconds_until(self, moment: float) -> float:
        """For how long something was on its way before `moment`."""
        total, covered = 0.0, 0.0
        for left, *arrived in self._times:
            end = min([*arrived, moment])
            total += max(0.0, end - max(left, covered))
            covered = max(covered, end)
        return total

    def _send_first(self) -> None:
        bucket = self._waiting.pop(0)
        bucket.gather()
        work = self._group.start_all_reduce(bucket.flat, self._timeout_seconds)
        self.works.append(work)
        times = [time.monotonic()]
        self._times.append(times)
        if isinstance(work, Work):
            work.get_future().add_done_callback(lambda _: times.append(time.monotonic()))


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

    def leave_early(self, group: Group, timeout_seconds: float) -> None:
        """Nothing travels."""

    def close(self) -> None:
        """The memory goes with the last of its tensors."""

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
        self.parameters = [parameter]
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
        self.parameters = parameters
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
            for view, parameter in zip(self._views, self.parameters, strict=True):
                if parameter.grad is None:
                    view.zero_()
                else:
                    view.copy_(parameter.grad)

    def scatter(self) -> None:
        for view, parameter in zip(self._views, self.parameters, strict=True):
            parameter.grad = view
