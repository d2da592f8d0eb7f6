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

from sunspark.parallel.compression import CompressedSum
from sunspark.parallel.group import AnyWork, Group
from sunspark.parallel.rendezvous import GroupBrokenError

_BUCKET_BYTES = 12 << 20


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

    def leave(self, group: Group, timeout_seconds: float) -> AnyWork | None:
        """Send them off."""

    def turn(self, group: Group, timeout_seconds: float) -> AnyWork | None:
        """When they are there: send off what comes back, if that is not under way. Waits."""

    def arrive(self) -> None:
        """When everything has come: take the sum as gradients."""


@final
class ExactBucket:
    """One all-reduce."""

    def __init__(self, gradients: Gradients) -> None:
        self.gradients = gradients

    def leave(self, group: Group, timeout_seconds: float) -> AnyWork | None:
        self.gradients.gather()
        return group.start_all_reduce(self.gradients.flat, timeout_seconds)

    def turn(self, group: Group, timeout_seconds: float) -> AnyWork | None:  # noqa: ARG002 - there is one way only
        return None

    def arrive(self) -> None:
        self.gradients.scatter()


@final
class CompressedBucket:
    """An all-to-all of what was encoded, and an all-gather of the encoded sums."""

    def __init__(self, gradients: Gradients, compressed_sum: CompressedSum) -> None:
        self.gradients = gradients
        self.sum = compressed_sum

    def leave(self, group: Group, timeout_seconds: float) -> AnyWork | None:
        self.gradients.gather()
        return self.sum.send_shards(self.gradients.flat, group, timeout_seconds)

    def turn(self, group: Group, timeout_seconds: float) -> AnyWork | None:
        return self.sum.send_sum(group, timeout_seconds)

    def arrive(self) -> None:
        self.sum.write(self.gradients.flat)
        self.gradients.scatter()


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
        """Send the rest, and the `tallies` behind it; wait for all. Raises GroupBrokenError."""
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
                self._works.append(bucket.turn(self._group, timeout_seconds))
        except GroupBrokenError:
            with contextlib.suppress(GroupBrokenError):  # the group is cut: they end, or are left behind
                self._group.wait(self._works)
            raise
        self._group.wait(self._works)
        for bucket in self._buckets:
            bucket.arrive()

    def _is_final(self, bucket: Bucket) -> bool:
        """No gradients to wait for have those that are not trained: they are set before the backward pass."""
        return all(p in self._final or not p.requires_grad for p in bucket.gradients.parameters)

    def _send_next(self) -> None:
        bucket = self._buckets[self._num_left]
        self._num_left += 1
        if self._breakage is not None:
            return
        try:
            self._works.append(bucket.leave(self._group, self._timeout_seconds))
        except GroupBrokenError as error:
            self._breakage = error  # for whoever waits: from here it would end the backward pass

    def _look(self) -> None:
        """Count the time since the last look if a collective that was under way then still is: it was no less."""
        now = time.monotonic()
        if any(work is not None and not work.is_completed() for work in self._works[: self._num_seen]):
            self.hidden_seconds += now - self._looked_at
        self._num_seen, self._looked_at = len(self._works), now
