"""Synchronous data parallelism: gradients are summed over all workers at every step.

Source: Goyal et al., arXiv 1706.02677, section 2.3 (the sum of per-worker gradients of one global batch).
Cost: one all-reduce of the gradients per step, in buckets; evidence travels behind them.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from sunspark.parallel.group import Group, GroupBrokenError
from sunspark.parallel.ledger import Evidence

_BUCKET_BYTES = 12 << 20


@final
class AllReduce:
    """Sums the gradients of `parameters` over the group.

    Communicates at every step; needs every rank (one without samples sends zeros); holds no state between steps.
    When a rank dies the step fails on whoever still waited for it and is done again.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = [p for p in reversed(parameters) if p.requires_grad]
        self._buckets: list[_Bucket | _LargeGradient] = []

    def reduce(
        self, evidence: Evidence, loss_sum: float, group: Group, timeout_seconds: float
    ) -> tuple[Evidence, float]:
        """Sum the gradients in place; give the evidence and the sum of losses of all ranks.

        Raises GroupBrokenError; the gradients then hold no meaning.
        """
        if group.is_alone:
            return evidence, loss_sum
        works = []
        for bucket in self._buckets or self._make_buckets():
            bucket.gather()
            works.append(group.start_all_reduce(bucket.flat, timeout_seconds))
        totals = torch.from_numpy(evidence.to_array())
        losses = torch.tensor([loss_sum], dtype=torch.float64)
        works += [group.start_all_reduce(tensor, timeout_seconds) for tensor in (totals, losses)]
        try:
            group.wait(works)
        except GroupBrokenError:
            self._buckets = []  # a wait that was left behind may still write to them
            raise
        for bucket in self._buckets:
            bucket.scatter()
        return Evidence.from_array(totals.numpy()), float(losses)

    def _make_buckets(self) -> "Sequence[_Bucket | _LargeGradient]":
        members: list[nn.Parameter] = []
        for parameter in self._parameters:
            if parameter.nbytes >= _BUCKET_BYTES:
                self._buckets.append(_LargeGradient(parameter))
                continue
            members.append(parameter)
            if sum(p.nbytes for p in members) >= _BUCKET_BYTES:
                self._buckets.append(_Bucket(members))
                members = []
        if members:
            self._buckets.append(_Bucket(members))
        return self._buckets


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

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self.flat = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype)
        pieces = self.flat.split([p.numel() for p in parameters])
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
