"""Laws of the curves: drawn from what was recorded, whatever the numbers are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sunspark.bench.curves import phase_chart
from sunspark.bench.history import step_history, training_clock
from sunspark.records import read_records, worker_file
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


def test_a_step_that_took_much_longer_is_in_the_chart_or_said_to_be_beyond_it(made: MadeRun) -> None:
    made.write()
    history = step_history(records := read_records(str(made.run)), training_clock(records))
    usual = float(np.median(history.phase_seconds_SP.sum(axis=1)))
    for factor, is_said in ((1.5, False), (50.0, True)):
        phases = history.phase_seconds_SP.copy()
        phases[:5] *= factor * usual / phases[:5].sum(axis=1, keepdims=True)
        chart = phase_chart(replace(history, phase_seconds_SP=phases))
        heights = [float(point.split()[1]) for shape in chart.shapes for point in shape.path[1:-1].split("L")]
        assert ("Beyond the top: steps 0 to" in chart.caption) is is_said
        assert (min(heights) < 0) is is_said
