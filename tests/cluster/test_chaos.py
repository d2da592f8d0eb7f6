"""Two minutes of chaos, from a new seed."""

import random
from pathlib import Path

import pytest

from benchmarks.chaos import run_chaos
from tests.cluster.standalone import Standalone

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(1000)]


def test_a_run_survives_two_minutes_of_chaos(standalone: Standalone, tmp_path: Path, dice: random.Random) -> None:
    standalone.have_workers(3)
    assert run_chaos(standalone, tmp_path, 2, dice.randrange(2**32))
