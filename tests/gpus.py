"""Tests that need GPUs say how many, and that they were skipped where there are fewer."""

import pytest
import torch


def needs_gpus(count: int) -> pytest.MarkDecorator:
    """Skip where torch can use fewer than `count` GPUs."""
    there = torch.cuda.device_count()
    return pytest.mark.skipif(there < count, reason=f"needs {count} GPUs that torch can use, there are {there}")
