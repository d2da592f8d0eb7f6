"""A worker that is slow at every step: strategies that meet wait for it, and the report says for whom."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sunspark.bench.stragglers import in_words, straggler_of
from sunspark.launch.train import train
from sunspark.parallel.faults import stall_at
from sunspark.records import read_records
from tests.distributed.strategies import assert_exactly_once, config_of

pytestmark = [pytest.mark.laws, pytest.mark.timeout(300)]

SYNCHRONOUS = ("all_reduce", "local_sgd", "diloco")
"""Those in which all workers meet."""


@pytest.mark.parametrize("strategy", SYNCHRONOUS)
def test_the_worker_that_others_wait_for_is_named(
    law_dataset: str, alone: Callable[[str], str], run_folder: Path, strategy: str
) -> None:
    train(law_dataset, str(run_folder), config_of(strategy, workers=2), [stall_at(1, "forward", "every", seconds=0.05)])
    straggler = straggler_of(read_records(str(run_folder)))
    assert straggler is not None
    assert straggler.worker == 1
    print(in_words(straggler))
    assert_exactly_once(run_folder, strategy, alone)
