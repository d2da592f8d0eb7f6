"""Two minutes of chaos, from a new seed."""

import random
from pathlib import Path

import pytest

from benchmarks.chaos import run_chaos

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(1800)]


def test_a_run_survives_two_minutes_of_chaos(tmp_path: Path, dice: random.Random) -> None:
    assert run_chaos(tmp_path, 2, dice.randrange(2**32))
