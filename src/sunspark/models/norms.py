"""Group norms in the place of batch norms.

Source: Wu and He, "Group Normalization", arXiv 1803.08494: 32 groups, here the largest number that divides both 32
and the channels. A group norm knows nothing of the other samples of a batch, so a step may be cut anywhere.
"""

import math
from typing import Any, Final, cast

from torch import nn

_MOST_GROUPS: Final = 32


def to_group_norms(model: nn.Module) -> int:
    """Replace every 2-d batch norm of `model`, keeping its scale and shift; returns how many there were."""
    batch_norms = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for name, batch_norm in batch_norms:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, _group_norm_like(batch_norm))
    return len(batch_norms)


def _group_norm_like(batch_norm: nn.BatchNorm2d) -> nn.Module:
    channels = batch_norm.num_features
    num_groups = math.gcd(_MOST_GROUPS, channels)
    group_norm: Any = nn.GroupNorm(num_groups, channels, eps=batch_norm.eps)
    if hasattr(batch_norm, "act"):  # timm's batch norms may have dropout and an activation inside
        from timm.layers import GroupNormAct

        group_norm = GroupNormAct(channels, num_groups=num_groups, eps=batch_norm.eps, apply_act=False)
        group_norm.drop, group_norm.act = batch_norm.drop, batch_norm.act
    if batch_norm.affine:
        group_norm.weight, group_norm.bias = batch_norm.weight, batch_norm.bias
    return cast(nn.Module, group_norm)
