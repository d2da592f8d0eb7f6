"""Ingest without a cluster and without processes of its own.

    python -m tests.data.engine SOURCE DATASET [NUM]     ingests; with NUM, is killed just before its NUM-th rename

says "begins" when everything is imported, and the dataset's id at the end.
"""

import os
import signal
import sys
from collections.abc import Sequence

from sunspark.data.ingest import BlockPlan, BlockResult, IngestConfig, ingest_block
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest import ingest

CONFIG = IngestConfig(short_side=24, block_size=4, max_bad_fraction=1)


def here(plans: Sequence[BlockPlan], display: CountDisplay) -> list[BlockResult]:
    """An engine of `sunspark.launch.ingest`: block after block, in this process."""
    del display
    return [ingest_block(plan) for plan in plans]


def die_before_rename(number: int) -> None:
    """SIGKILL of this process by itself: a rename is what makes a file appear."""
    seen = 0

    def watch(event: str, _: object) -> None:
        nonlocal seen
        if event != "os.rename":
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    print("begins", flush=True)
    if len(sys.argv) > 3:
        die_before_rename(int(sys.argv[3]))
    print(ingest(sys.argv[1], sys.argv[2], CONFIG, here).dataset_id)
