"""The running statistics of batch norms, as part of a step: staged by its replicas, taken over when it is applied.

Every replica starts from the statistics of the last step that was applied and moves them by its own slice; those of a
step are the mean over its replicas, weighted by samples. They travel beside the gradient. So they depend neither on
which worker carried a replica nor on a step that failed half-way: forward never writes what is committed.
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@final
class BatchStatistics:
    """Running means and variances of a network's batch norms. Frozen ones (in evaluation mode) are left alone."""

    def __init__(self, model: nn.Module) -> None:
        norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training}
        buffers = {f"{name}.{key}": b for name, m in norms.items() for key, b in m.named_buffers(recurse=False)}
        self._norms = list(norms.values())
        self._moving = {name: buffer for name, buffer in buffers.items() if buffer.is_floating_point()}
        self._counters = {name: buffer for name, buffer in buffers.items() if not buffer.is_floating_point()}
        self.committed: dict[str, Tensor] = {}
        """By their names in the network: what is true of the last step that was applied."""
        self.take_over()
        num_numbers = sum(buffer.numel() for buffer in self._moving.values())
        like = next(model.parameters())
        self.staged = nn.Parameter(like.new_zeros(num_numbers), requires_grad=False)
        """Carries the statistics of the step at hand, flat, where a gradient would be: it is summed like one."""

    def __bool__(self) -> bool:
        return bool(self._moving)

    @property
    def moving(self) -> list[Tensor]:
        """Means and variances that are committed."""
        return [self.committed[name] for name in self._moving]

    def moving_of(self, twin: nn.Module) -> list[Tensor]:
        """The same of a network of the same kind, as it holds them."""
        buffers = dict(twin.named_buffers())
        return [buffers[name] for name in self._moving]

    def count(self, num_steps: int) -> None:
        """So many steps have been taken whose statistics are among `moving` already."""
        for name in self._counters:
            self.committed[name] += num_steps

    def stage(self, share: float, other: "BatchStatistics") -> None:
        """Stage what another network of the same kind has committed, which is `share` of the whole."""
        assert self.staged.grad is not None
        if self._moving:
            self.staged.grad += share * torch.cat([buffer.flatten() for buffer in other.moving])

    def take_over(self) -> None:
        """Commit what the network holds."""
        self.committed = {name: buffer.clone() for name, buffer in (self._moving | self._counters).items()}

    def restore(self) -> None:
        """Put what is committed into the network."""
        for name, buffer in (self._moving | self._counters).items():
            buffer.copy_(self.committed[name])

    def begin_step(self) -> None:
        """Forget what was staged."""
        self.staged.grad = torch.zeros_like(self.staged)

    def begin_slice(self, num_samples: int) -> None:
        """Start from what is committed; a slice of one sample is normalised with it, and moves nothing."""
        self.restore()
        for norm in self._norms:
            norm.train(num_samples > 1)

    def end_slice(self, share: float) -> None:
        """Stage where the slice has led to, which is `share` of the samples of its step."""
        assert self.staged.grad is not None
        if self._moving:
            self.staged.grad += share * torch.cat([buffer.flatten() for buffer in self._moving.values()])

    def commit(self, num_steps: int = 1) -> None:
        """Take over what the replicas have staged in so many steps, summed over all workers."""
        assert self.staged.grad is not None
        pieces = self.staged.grad.split([buffer.numel() for buffer in self._moving.values()])
        for buffer, piece in zip(self._moving.values(), pieces, strict=True):
            buffer.copy_(piece.view_as(buffer))
        for name, counter in self._counters.items():
            counter.copy_(self.committed[name] + num_steps)
        self.take_over()
