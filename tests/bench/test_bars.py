"""Laws of the bars: every class is there, and none is rated without a sample."""

import re
from pathlib import Path

import pytest

from tests.bench.made_run import MadeRun
from tests.bench.page import page_of

pytestmark = pytest.mark.timeout(60)


def test_hundreds_of_classes_are_all_there_best_first(tmp_path: Path) -> None:
    names = tuple(f"building_{number:03d}/outdoor" for number in range(397))
    run = MadeRun(run=tmp_path / "large", classes=names)
    run.write()
    run.evaluate()
    page = page_of(run.run)
    assert all(name in page.text for name in names)
    for words in ("Recognised worst", "All 397 classes", "0 % right"):
        assert words in page.text
    everything = page.text.split("All 397 classes")[1].split("What happened when")[0]
    rates = [int(value) for value in re.findall(r"outdoor (\d+) %", everything)]
    assert len(rates) == 397
    assert rates == sorted(rates, reverse=True)


def test_a_class_without_images_is_not_counted_as_wrong(made: MadeRun) -> None:
    made.write()
    per_class = [
        {"name": "beach", "samples": 4, "correct": 3},
        {"name": "unseen", "samples": 0, "correct": 0},
    ]
    found = {"samples": 4, "top1": 0.75, "per_class": per_class, "confusion": [], "mistakes": [], "right": []}
    made.put("evaluation-test.json", {"split": "test"} | found)
    text = page_of(made.run).text
    assert "4 images of 1 class." in text
    assert "unseen -" in text
