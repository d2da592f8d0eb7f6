"""Ingest without a cluster and without processes of its own.

    python -m tests.data.engine SOURCE DATASET [NUM]     ingests; with NUM, is killed just before its NUM-th rename

says "begins" when everything is imported, and the dataset's id at the end.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sunspark.data.early_end import Hopeless
from sunspark.data.ingest import IngestConfig
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest import Engine, PlanT, ResultT, ingest

CONFIG = IngestConfig(short_side=24, block_size=4, max_bad_fraction=1)


@contextmanager
def here() -> Iterator[Engine]:
    """Plan after plan, in this process."""
    yield one_after_the_other


def one_after_the_other(
    work: Callable[[PlanT], ResultT], plans: Sequence[PlanT], display: CountDisplay, hopeless: Hopeless
) -> list[ResultT]:
    del display, hopeless
    return [work(plan) for plan in plans]


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
