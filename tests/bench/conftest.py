"""The run that most of these tests read."""

from pathlib import Path

import pytest

from tests.bench.made_run import MadeRun


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    return MadeRun(run=tmp_path / "demo", kills={130: 1, 333: 0})
