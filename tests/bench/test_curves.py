"""Laws of the curves: drawn from what was recorded, whatever the numbers are."""

import json
from pathlib import Path

import pytest

from sunspark.records import (
    worker_file,
)
from tests.bench.made_run import MadeRun
from tests.bench.page import page_of

pytestmark = pytest.mark.timeout(60)


def test_a_loss_that_diverged_is_told(made: MadeRun) -> None:
    made.write()
    uri = worker_file(str(made.run), 0, 1)
    lines = [json.loads(line) for line in Path(uri).read_text().splitlines()]
    lines = [line | ({"loss": "nan"} if line["kind"] == "step" else {}) for line in lines]
    Path(uri).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for other in made.run.glob("records/worker-01*"):
        other.unlink()
    page = page_of(made.run)
    assert "147 steps had a loss that is not finite" in page.text
    assert not [value for _, name, value in page.attributes if name in ("d", "style") and "nan" in value]
