"""A pilot is made of short, ordinary runs, and what it finds chooses a strategy."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import sunspark
from sunspark.bench.forecasting.observation import observe
from sunspark.bench.forecasting.pilot import runs_of, write_some
from sunspark.cli import main
from sunspark.config import flatten, from_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import TrainConfig

pytestmark = pytest.mark.timeout(600)

PLAIN: dict[str, object] = {
    "model": {"model_args": {"n_filters": 2, "wide_units": 16}},
    "data": {"image_size": 32},
    "training": {"epochs": 2, "global_batch_size": 16},
    "launch": {"launcher": "local", "workers": 2},
}
AUTO = {**PLAIN, "strategy": {"strategy": "auto"}}
CONFIG = from_dict(TrainConfig, PLAIN)


def test_a_pilot_shows_one_worker_alone_several_that_sum_a_round_and_a_server() -> None:
    names = [run.name for run in runs_of(CONFIG, ["int8"])]
    assert len(names) == len(set(names)) == 7
    kinds = {(run.strategy.strategy, run.workers) for run in runs_of(CONFIG, [])}
    assert kinds == {("serial", 1), ("async", 1), ("async", 2), ("all_reduce", 2), ("local_sgd", 2)}


def test_its_images_are_those_of_the_dataset_as_they_are_stored(law_dataset: str, tmp_path: Path) -> None:
    dataset = Dataset.open(law_dataset)
    some = write_some(dataset, "train", 300, str(tmp_path / "images"))
    assert len(some) == 300
    assert some.classes == dataset.classes
    stored = {image for block in range(dataset.num_blocks) for image in dataset.read_block(block).images}
    assert set(some.read_block(0).images) <= stored


@pytest.fixture(scope="module")
def chosen(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose strategy a forecast has chosen, after a start that was killed during its pilot."""
    run = tmp_path_factory.mktemp("auto") / "run"
    (run / "pilot" / "images").mkdir(parents=True)
    sunspark.train(law_dataset, str(run), from_dict(TrainConfig, AUTO))
    return run


def test_auto_is_settled_by_a_forecast_that_is_kept_with_the_run(law_dataset: str, chosen: Path) -> None:
    stored = json.loads((chosen / "config.json").read_text())["work"]["strategy"]
    told = json.loads((chosen / "forecast.json").read_text())
    assert told["recommended"]["strategy"] == stored["strategy"]
    assert stored["strategy"] in ("serial", "all_reduce", "diloco")
    assert told["why"].count(". ") == 1
    assert not (chosen / "pilot").exists()
    assert sunspark.verify(str(chosen)).exactly_once
    assert sunspark.train(law_dataset, str(chosen), from_dict(TrainConfig, AUTO)).finished, (
        "it goes on with what was chosen"
    )


def test_the_report_shows_a_forecast_beside_what_happened(chosen: Path, tmp_path: Path) -> None:
    page = Path(sunspark.report(str(chosen), str(tmp_path / "page.html")).path).read_text()
    assert re.search(r"an epoch; it took .{3,12}: forecast ([\d.]+.% too (long|short)|right)", page)
    assert "How its strategy was chosen" in page


def test_finished_runs_tell_what_they_have_seen_and_no_more(
    law_dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = from_dict(
        TrainConfig, {**PLAIN, "strategy": {"strategy": "serial"}, "launch": {"launcher": "local", "workers": 1}}
    )
    sunspark.train(law_dataset, run := str(tmp_path / "alone"), alone)
    asked = sunspark.ForecastConfig(workers="2", strategy="all_reduce")
    result = sunspark.forecast(law_dataset, CONFIG, asked, runs=[run], out=str(tmp_path / "forecast.json"))
    serial, together = result.rows
    assert serial.seconds_per_epoch == pytest.approx(250 / 16 * observe(run).period_seconds, rel=0.2)
    assert together.reason.startswith("no run had several workers")
    assert json.loads((tmp_path / "forecast.json").read_text())["observations"][0]["run"] == run

    bounded = from_dict(TrainConfig, {**PLAIN, "strategy": {"strategy": "async", "staleness_bound": 2}})
    assert "--staleness-bound 2" in sunspark.forecast(law_dataset, bounded, asked, runs=[run]).carried[-1]

    other = from_dict(TrainConfig, {**PLAIN, "data": {"image_size": 64}})
    with pytest.raises(RunError, match=r"data\.image_size is 32 there and 64 here"):
        sunspark.forecast(law_dataset, other, asked, runs=[run])
    with pytest.raises(ConfigError, match="--scratch"):
        sunspark.forecast(law_dataset, CONFIG, asked, runs=[run], scratch=str(tmp_path))

    file = tmp_path / "plain.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in flatten(PLAIN)))
    its_own = sunspark.forecast(law_dataset, None, asked, runs=[run])
    assert its_own.rows[0] == serial, "the configuration of the run"
    late = replace(asked, recommend="fastest", deadline="1s")
    assert sunspark.forecast(law_dataset, CONFIG, late, runs=[run]).recommended is None
    words = ["forecast", law_dataset, "--from", run, "--config", str(file), "--workers", "2", "--recommend", "fastest"]
    assert main([*words, "--deadline", "1s"]) == 1
    assert main([*words, "--strategy", "all_reduce"]) == 0
    said = capsys.readouterr().out
    assert "where it was measured, 2 epochs" in said
    assert "not forecast: no run had several workers" in said
    assert "serial with 1 worker: " in said


def test_a_run_that_is_too_short_to_tell_says_so(law_dataset: str, tmp_path: Path) -> None:
    rare = from_dict(TrainConfig, {**PLAIN, "strategy": {"strategy": "async", "sync_every": "epoch"}})
    sunspark.train(law_dataset, run := str(tmp_path / "rare"), rare)
    with pytest.raises(RunError, match=r"[0-2] exchanges? of [12] workers? after its warm-up"):
        observe(run)


def test_a_scratch_folder_that_holds_something_is_refused(law_dataset: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        sunspark.forecast(law_dataset, CONFIG, sunspark.ForecastConfig(workers="2"), scratch=str(tmp_path))
