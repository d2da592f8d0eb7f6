"""A sweep that is killed goes on; a setting that fails is a row; every run is an ordinary one."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet
import pytest

import sunspark
from sunspark.bench.compare import plan
from sunspark.bench.sweep import load_sweep
from sunspark.bench.sweep_results import Measurement
from sunspark.commands.compare import run
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, DatasetError, RunError
from tests.distributed.harness import wait_until

pytestmark = pytest.mark.timeout(600)

SWEEP = """
dataset = "{dataset}"
eval_split = "train"
[base]
model = {{ model_args = {{ n_filters = 2, wide_units = 16 }} }}
data.image_size = 32
training = {{ epochs = 2, global_batch_size = 16 }}
launch = {{ launcher = "local", workers = 2 }}
[[settings]]
strategy.strategy = "all_reduce"
[[settings]]
training.split = "no_such_split"
[[settings]]
launch.workers = 64
"""


def test_a_killed_sweep_goes_on_and_what_fails_is_a_row(law_dataset: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweep.toml", tmp_path / "compared"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    command = [sys.executable, "-m", "sunspark.cli", "compare", str(sweep), str(folder)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(folder.glob("runs/*/repeat-0.json")), 120, "the first run to be measured")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (measured,) = folder.glob("runs/*/repeat-0.json")
    written = measured.stat().st_mtime_ns

    heard: list[str] = []
    result = sunspark.compare(str(sweep), str(folder), tell=heard.append)
    assert measured.stat().st_mtime_ns == written, "it is not made again"
    assert (result.runs, result.failed, result.refused) == (2, 2, 1)
    assert not any(json.loads(measured.read_text())["setting"] == line for line in heard)

    rows = {row["setting"]: row for row in pyarrow.parquet.read_table(folder / "results.parquet").to_pylist()}
    assert "no_such_split" in rows["split=no_such_split"]["reason"]
    assert rows["workers=64"]["status"] == "refused"
    together, alone = rows["all_reduce"], rows["serial"]
    for row in (together, alone):
        assert row["exactly_once"]
        assert row["images_per_second"] > 0
        assert row["seconds_per_epoch"] == pytest.approx(250 / row["images_per_second"])
        assert 0 <= row["top1"] <= 1
        assert min(row["peak_worker_bytes"], row["peak_driver_bytes"]) > 50e6
    assert (together["workers"], together["baseline"], alone["workers"]) == (2, "serial", 1)
    with (folder / "results.csv").open() as file:
        assert {row["setting"] for row in csv.DictReader(file)} == set(rows)
    summary = next(one for one in result.settings if one.setting == "all_reduce")
    assert summary.speed_up == pytest.approx(together["images_per_second"] / alone["images_per_second"])
    run = next(folder.glob("runs/all_reduce-*/repeat-0"))
    assert sunspark.verify(str(run)).exactly_once


def test_a_sweep_has_a_folder_of_its_own(law_dataset: str, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    with pytest.raises(RunError, match=r"not empty and not a sweep .*sweep\.toml"):
        sunspark.compare(str(sweep), str(tmp_path))
    with pytest.raises(ConfigError, match="lie in each other"):
        sunspark.compare(str(sweep), f"{law_dataset}/compared")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.toml"]


def test_runs_on_another_dataset_or_split_are_not_put_beside_each_other(law_dataset: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweep.toml", tmp_path / "compared"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps({"dataset_id": "another", "eval_split": "train", "target_top1": 0.0}))
    with pytest.raises(RunError, match="were made with dataset_id 'another'"):
        sunspark.compare(str(sweep), str(folder))


def test_a_target_that_nothing_measures_is_refused(law_dataset: str, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    with pytest.raises(ConfigError, match="found by evaluations while training, and 'serial' has none"):
        sunspark.compare(str(sweep), str(tmp_path / "compared"), sunspark.CompareConfig(target_top1=0.5))


def test_a_dry_run_finds_what_would_end_the_real_one_and_counts_what_is_there(law_dataset: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweep.toml", tmp_path / "compared"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    words = [str(sweep), str(folder), "--dry-run", "--repeats", "2"]
    images = len(Dataset.open(law_dataset).rows("train"))
    outcome = run(words)
    assert outcome.text.startswith("8 runs of 5 settings, 0 of them measured already")
    assert f"left to train: 8 epochs, {8 * images:,} images in all\n" in outcome.text
    assert outcome.exit_code == 1, "two settings would fail"
    (too_many,) = [line.split() for line in outcome.text.splitlines() if line.startswith("workers=64")]
    assert too_many == ["workers=64", "0", "2", f"{images}", "not", "run"]
    assert re.search(
        r"\n'serial, split=no_such_split', 'split=no_such_split': .* no split 'no_such_split'", outcome.text
    )
    (there,) = [one for one in plan(load_sweep(sweep), sunspark.CompareConfig()) if one.name == "serial"]
    (folder / "runs" / there.folder).mkdir(parents=True)
    (folder / "runs" / there.folder / "repeat-1.json").write_text("{}")
    with pytest.raises(RunError, match="is not empty and not a sweep"):
        run(words)
    made_on = {"dataset_id": Dataset.open(law_dataset).id, "eval_split": "train", "target_top1": 0.0}
    (folder / "sweep.json").write_text(json.dumps(made_on))
    outcome = run(words)
    assert outcome.text.startswith("8 runs of 5 settings, 1 of them measured already")
    assert f"left to train: 6 epochs, {6 * images:,} images in all\n" in outcome.text
    (folder / "sweep.json").write_text(json.dumps(made_on | {"dataset_id": "another"}))
    with pytest.raises(RunError, match="were made with dataset_id 'another'"):
        run(words)

    sweep.write_text(SWEEP.format(dataset=law_dataset).replace('eval_split = "train"', 'eval_split = "tst"'))
    with pytest.raises(DatasetError, match="no split 'tst'"):
        run(words)
    sweep.write_text(SWEEP.format(dataset=tmp_path / "nothing"))
    with pytest.raises(DatasetError, match="not a finished dataset"):
        run(words)


def test_a_sweep_of_which_nothing_can_run_fails_dry_or_not_and_counts_no_epochs(
    law_dataset: str, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(f'dataset = "{law_dataset}"\n[axes]\nlaunch.workers = [0, -1]\n')
    words = [str(sweep), str(tmp_path / "compared")]
    outcome = run([*words, "--dry-run"])
    assert outcome.exit_code == 1
    rows = [line.split() for line in outcome.text.splitlines() if line.startswith("workers=")]
    assert rows == [[f"workers={workers}", "0", "-", "-", "not", "run"] for workers in (0, -1)]
    assert run(words).exit_code == 1


def test_what_is_measured_stays_in_the_results_whatever_is_run_now(law_dataset: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweep.toml", tmp_path / "compared"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    settings = [one for one in plan(load_sweep(sweep), sunspark.CompareConfig()) if not one.refusal]
    made_on = {"dataset_id": Dataset.open(law_dataset).id, "eval_split": "train", "target_top1": 0.0}
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(made_on))
    for setting, repeat in itertools.product(settings, range(3)):
        row = Measurement(setting=setting.name, repeat=repeat, status="measured", images_per_second=10.0)
        there = folder / "runs" / setting.folder
        there.mkdir(parents=True, exist_ok=True)
        (there / f"repeat-{repeat}.json").write_text(json.dumps(asdict(row)))
    sunspark.compare(str(sweep), str(folder), sunspark.CompareConfig(repeats=1))
    rows = pyarrow.parquet.read_table(folder / "results.parquet").to_pylist()
    assert [row["repeat"] for row in rows if row["setting"] == "serial"] == [0, 1, 2]

    (there / "repeat-1.json").write_text(json.dumps(asdict(replace(row, setting="another"))))
    with pytest.raises(RunError, match="that of 'another'"):
        sunspark.compare(str(sweep), str(folder))


@pytest.mark.laws
def test_a_forecast_stands_beside_what_is_measured(law_dataset: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweep.toml", tmp_path / "compared"
    sweep.write_text(SWEEP.format(dataset=law_dataset))
    sunspark.compare(str(sweep), str(folder), sunspark.CompareConfig(forecast=True))
    rows = pyarrow.parquet.read_table(folder / "results.parquet").to_pylist()
    forecasts = {row["setting"]: row["forecast_seconds_per_epoch"] for row in rows}
    assert forecasts["all_reduce"] > 0
    assert forecasts["serial"] > 0
    assert forecasts["workers=64"] is None
    told = json.loads((folder / "forecast.json").read_text())["observations"]
    assert {one["workers"] for one in told} == {1, 2}
    assert not (folder / "pilot").exists()
    next(folder.glob("runs/all_reduce-*/repeat-0.json")).unlink()
    text = run([str(sweep), str(folder), "--dry-run"]).text
    assert re.search(r"left to train: 2 epochs, [\d,]+ images in all; by forecast \d", text)
