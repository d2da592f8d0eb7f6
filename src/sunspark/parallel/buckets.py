"""Gradients that travel in buckets, each a collective of its own, while the backward pass still runs.

A bucket leaves once its gradients are final and every bucket before it has left: all ranks start their collectives in
one order, whatever comes out of their backward passes first. What is not final in the end leaves then, as zeros if
need be.

Source: Li et al., PyTorch Distributed, arXiv 2006.15704, section 3.2.
Cost: a copy of the gradients.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from sunspark.parallel.codec import Codec
from sunspark.parallel.compressed_sum import CompressedSum
from sunspark.parallel.group import AnyWork, Group
from sunspark.parallel.rendezvous import GroupBrokenError

_BUCKET_BYTES = 12 << 20
_PART_NUMBERS = 1 << 21
"""Of a compressed bucket: one part is coded while others travel. A single parameter may be far larger."""


@final
class Gradients:
    """The gradients of some parameters, side by side in a flat tensor of their own.

    A copy, since autograd may have others read the memory of a gradient while backward runs.
    """

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


def gradients_by_bucket(parameters: Sequence[nn.Parameter]) -> Iterator[Gradients]:
    """The gradients of the parameters, in their order; whoever fills a bucket has one to itself."""
    members: list[nn.Parameter] = []
    for parameter in parameters:
        if members and sum(p.nbytes for p in [*members, parameter]) > _BUCKET_BYTES:
            yield Gradients(members)
            members = []
        members.append(parameter)
    if members:
        yield Gradients(members)


class Bucket(Protocol):
    """Gradients, and how they are summed."""

    gradients: Gradients

    def leave(self, group: Group, timeout_seconds: float) -> Iterator[AnyWork | None]:
        """Send them off: each collective as it starts."""

    def turn(self, group: Group, timeout_seconds: float) -> Iterator[AnyWork | None]:
        """When they are there: send off what comes back, if that is not under way. Waits."""

    def arrive(self, group: Group) -> None:
        """Have the sum in the flat tensor of `gradients`. Waits."""


@final
class ExactBucket:
    """One all-reduce."""

    def __init__(self, gradients: Gradients) -> None:
        self.gradients = gradients
        self._work: AnyWork | None = None

    def leave(self, group: Group, timeout_seconds: float) -> Iterator[AnyWork | None]:
        self.gradients.gather()
        self._work = group.start_all_reduce(self.gradients.flat, timeout_seconds)
        yield self._work

    def turn(self, group: Group, timeout_seconds: float) -> Iterator[AnyWork | None]:  # noqa: ARG002 - nothing comes back
        yield from ()

    def arrive(self, group: Group) -> None:
        group.wait([self._work])
        self._work = None


@final
class CompressedBucket:
    """Part by part, an all-to-all of what was encoded, and an all-gather of the encoded sums."""

    def __init__(self, gradients: Gradients, codec: Codec) -> None:
        self.gradients = gradients
        self._parts = gradients.flat.split(_PART_NUMBERS)
        self.sums = [CompressedSum(len(part), codec) for part in self._parts]

    def leave(self, group: Group, timeout_seconds: float) -> Iterator[AnyWork | None]:
        self.gradients.gather()
        for part, its_sum in zip(self._parts, self.sums, strict=True):
            yield its_sum.send_shards(part, group, timeout_seconds)

    def turn(self, group: Group, timeout_seconds: float) -> Iterator[AnyWork | None]:
        for its_sum in self.sums:
            yield its_sum.send_sum(group, timeout_seconds)

    def arrive(self, group: Group) -> None:
        for part, its_sum in zip(self._parts, self.sums, strict=True):
            its_sum.write(part, group)


@final
class Departure:
    """The buckets of one sum on their way."""

    def __init__(self, buckets: Sequence[Bucket], group: Group, timeout_seconds: float) -> None:
        """Whoever leaves early has `timeout_seconds` until the sum, the other ranks' backward pass included."""
        self._buckets = buckets
        self._group = group
        self._timeout_seconds = timeout_seconds
        self._num_left = 0
        self._final: set[nn.Parameter] = set()
        self._works: list[AnyWork | None] = []
        self._breakage: GroupBrokenError | None = None
        self._num_seen, self._looked_at = 0, 0.0
        self.hidden_seconds = 0.0
        """For which a collective was seen to be under way before `finish`."""

    def note_final(self, parameter: nn.Parameter) -> None:
        """The gradient of `parameter` is there, and nothing will be added to it. Raises nothing when the group breaks.

        Called from within the backward pass.
        """
        assert parameter not in self._final, "a gradient that was final has changed"
        self._look()
        self._final.add(parameter)
        while self._num_left < len(self._buckets) and self._is_final(self._buckets[self._num_left]):
            self._send_next()
        self._look()

    def finish(self, tallies: Sequence[Tensor], timeout_seconds: float) -> None:
        """Send the rest, and the `tallies` behind it; wait for all. Raises GroupBrokenError: no gradient is changed."""
        self._look()
        self._timeout_seconds = timeout_seconds
        while self._num_left < len(self._buckets):
            self._send_next()
        try:
            if self._breakage is not None:
                raise self._breakage
            for tensor in tallies:
                self._works.append(self._group.start_all_reduce(tensor, timeout_seconds))
            for bucket in self._buckets:
                for work in bucket.turn(self._group, timeout_seconds):
                    self._works.append(work)
            for bucket in self._buckets:
                bucket.arrive(self._group)
            self._group.wait(self._works)
        except GroupBrokenError:
            with contextlib.suppress(GroupBrokenError):  # the group is cut: they end, or are left behind
                self._group.wait(self._works)
            raise
        for bucket in self._buckets:
            bucket.gradients.scatter()

    def _is_final(self, bucket: Bucket) -> bool:
        """No gradients to wait for have those that are not trained: they are set before the backward pass."""
        return all(p in self._final or not p.requires_grad for p in bucket.gradients.parameters)

    def _send_next(self) -> None:
        bucket = self._buckets[self._num_left]
        self._num_left += 1
        if self._breakage is not None:
            return
        try:
            for work in bucket.leave(self._group, self._timeout_seconds):
                self._works.append(work)
        except GroupBrokenError as error:
            self._breakage = error  # for whoever waits: from here it would end the backward pass

    def _look(self) -> None:
        """Count the time since the last look if a collective that was under way then still is: it was no less."""
        now = time.monotonic()
        if any(work is not None and not work.is_completed() for work in self._works[: self._num_seen]):
            self.hidden_seconds += now - self._looked_at
        self._num_seen, self._looked_at = len(self._works), now
