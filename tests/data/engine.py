"""Ingest without a cluster and without processes of its own."""

from collections.abc import Sequence

from sunspark.data.ingest import BlockPlan, BlockResult, ingest_block
from sunspark.launch.count_display import CountDisplay


def here(plans: Sequence[BlockPlan], display: CountDisplay) -> list[BlockResult]:
    """An engine of `sunspark.launch.ingest`: block after block, in this process."""
    del display
    return [ingest_block(plan) for plan in plans]
