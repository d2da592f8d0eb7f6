"""Forecasts agree with real runs: what pilots saw, and what the settings then took, is kept beside the benchmark."""

import json
from pathlib import Path

from benchmarks.forecast import forecasts, missing, verdict

MEASURED = Path(__file__).parents[2] / "benchmarks" / "forecast.jsonl"


def test_forecasts_from_what_the_pilots_saw_come_within_the_bounds() -> None:
    results = forecasts(MEASURED)
    assert not missing(results)
    words, is_well = verdict(results)
    assert is_well, words


def test_pilots_of_another_link_do_not(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in MEASURED.read_text().splitlines()]
    other = {"cluster-100": "cluster-750", "cluster-750": "cluster-100"}
    swapped = [
        line | {"place": other.get(line["place"], line["place"])} if "network" in line else line for line in lines
    ]
    (tmp_path / "swapped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in swapped))
    assert not verdict(forecasts(tmp_path / "swapped.jsonl"))[1]
