"""Laws of the curves: drawn from what was recorded, whatever the numbers are."""

import json
from pathlib import Path

import pytest

from sunspark.records import (
    DRIVER,
    EvaluationRecord,
    RecordWriter,
    driver_file,
    worker_file,
)
from tests.bench.made_run import MadeRun
from tests.bench.page import page_of

pytestmark = pytest.mark.timeout(60)


def test_accuracy_on_the_way_is_drawn(made: MadeRun) -> None:
    made.write()
    with RecordWriter(driver_file(str(made.run))) as writer:
        for step in (120, 240, 480):
            writer.write(
                EvaluationRecord(
                    worker=DRIVER,
                    incarnation=0,
                    time_unix_seconds=1.76e9 + step,
                    step=step,
                    epoch=step // 40,
                    split="test",
                    samples=120,
                    loss=1.0,
                    top1=step / 500,
                    top5=1.0,
                    mean_per_class=0.5,
                )
            )
    text = page_of(made.run).text
    assert "Best top-1: 96.0 % on test, after 480 steps" in text
    assert "test, top-5" in text


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
