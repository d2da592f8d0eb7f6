"""How far forecasts are from what then happens: for settings that were chosen before there was a model.

At each place (a cluster of network namespaces with links of 100 and of 750 Mbit/s, Linux, as root; this machine) a
pilot runs once, and then each setting of `forecast_settings/` is forecast and run, none of which the pilot has run.
What is compared is the time of an epoch in steady state, from the end of the first exchange to the end of the last.

What is measured is a line in the file of results, and is not measured again.

    python -m benchmarks.forecast [--places cluster-100 cluster-750 local] [--results forecast.jsonl]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import sunspark
from benchmarks.links import make_dataset
from sunspark.bench.forecasting.costs import Costs, NetworkSize
from sunspark.bench.forecasting.fitting import fit
from sunspark.bench.forecasting.observation import Observation
from sunspark.bench.forecasting.rows import Work, seconds_per_epoch, setting_of, steps_of
from sunspark.bench.history import step_history, training_clock
from sunspark.bench.sweep import Setting, load_sweep, settings_of
from sunspark.config import flatten, from_dict, to_dict
from sunspark.data.dataset import Dataset
from sunspark.data.order import StepPlan
from sunspark.errors import SunsparkError
from sunspark.launch.config import TrainConfig
from sunspark.records import read_records
from tests.cluster.namespaces import why_not
from tests.cluster.standalone import Standalone

_SETTINGS: Final = Path(__file__).parent / "forecast_settings"
_NUM_IMAGES: Final = 2048
_PLACES: Final = {"cluster-100": 100, "cluster-750": 750, "local": 0}
"""Mbit/s of every link."""
_MOST_WORKERS: Final = {"cluster": 3, "local": 2}
_MOST_CORES: Final = 64
"""The hosts of the cluster are one machine: how many cores it has is no reason to leave a setting out."""
_RUN_SECONDS: Final = 1800.0
_MEDIAN_BOUND: Final = 0.15
_WORST_BOUND: Final = 0.35


@dataclass(frozen=True, kw_only=True, slots=True)
class Pilot:
    """What a pilot has seen at a place."""

    place: str
    network: NetworkSize
    observations: tuple[Observation, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A setting that was run."""

    place: str
    setting: str
    measured_seconds: float
    """Of an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A setting, forecast and run."""

    place: str
    setting: str
    forecast_seconds: float
    """Of an epoch."""
    measured_seconds: float

    @property
    def error(self) -> float:
        """Of the forecast, as a share of what was measured; above 0: it took less than was forecast."""
        return self.forecast_seconds / self.measured_seconds - 1


Train = Callable[[Path, TrainConfig], None]
Forecast = Callable[[list[str]], dict[str, Any]]


def measured_seconds(run: Path, config: TrainConfig, dataset: Dataset) -> float:
    """Of an epoch, from the end of the first exchange to that of the last."""
    plan = steps_of(dataset, config)
    records = read_records(str(run))
    history = step_history(records, training_clock(records))
    first = setting_of(config, plan).steps_per_exchange
    seconds = history.finished_seconds_S[-1] - history.finished_seconds_S[first - 1]
    return float(plan.num_samples * seconds / history.samples_S[first:].sum())


def settings_at(place: str) -> list[Setting]:
    """Those of the file, and one worker alone with each batch; by their numbers of workers."""
    kind = place.partition("-")[0]
    settings = settings_of(load_sweep(_SETTINGS / f"{kind}.toml"), _MOST_CORES)
    alone = {one.config.training.global_batch_size: one for one in settings if one.config and one.is_baseline}
    several = [one for one in settings if not one.is_baseline]
    return sorted([*alone.values(), *several], key=lambda one: one.config.launch.workers if one.config else 0)


def measure_place(place: str, folder: Path, forecast: Forecast, train: Train, results: Path) -> None:
    """Fly a pilot, if the results have none of this place; then what is missing."""
    uri = make_dataset(folder, _NUM_IMAGES)
    dataset, settings = Dataset.open(uri), settings_at(place)
    base = next(one.config for one in settings if one.config and one.config.launch.workers > 1)
    workers = _MOST_WORKERS[place.partition("-")[0]]
    pilot = replace(base, launch=replace(base.launch, workers=workers))
    pilots, measured = read(results)
    if place not in pilots:
        file = folder / "pilot.toml"
        given = [(key, value) for key, value in flatten(to_dict(pilot)) if value is not None]
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in given))
        told = forecast(["forecast", uri, "--config", str(file), "--compression", "none,bf16,int8"])
        network = told["costs"]["network"]
        observations = [{**one, "run": Path(one["run"]).name} for one in told["observations"]]
        append(results, {"place": place, "network": network, "observations": observations})
    known = {one.setting for one in measured if one.place == place}
    for number, setting in enumerate(settings):
        if setting.name in known:
            continue
        assert setting.config is not None
        run = folder / f"run{number}"
        try:
            train(run, setting.config)
            seconds = measured_seconds(run, setting.config, dataset)
        except (AssertionError, SunsparkError) as error:
            print(f"{place}, {setting.name} failed: {error}", flush=True)
            continue
        append(results, asdict(Measured(place=place, setting=setting.name, measured_seconds=seconds)))
        print(f"{place}, {setting.name}: {seconds:.2f} s an epoch", flush=True)


def append(results: Path, line: dict[str, Any]) -> None:
    """One more line."""
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(results: Path) -> tuple[dict[str, Pilot], list[Measured]]:
    """The pilot of each place, and what was run."""
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    pilots = [from_dict(Pilot, line) for line in lines if "observations" in line]
    measured = [from_dict(Measured, line) for line in lines if "setting" in line]
    return {pilot.place: pilot for pilot in pilots}, measured


def costs_of(pilot: Pilot) -> Costs:
    """What it has found."""
    return fit(pilot.observations, pilot.network)


def forecasts(results: Path) -> list[Result]:
    """What pilots say of the settings, beside what was measured; computed from what they have seen."""
    pilots, measured = read(results)
    found = []
    for place, pilot in pilots.items():
        costs = costs_of(pilot)
        for setting in settings_at(place):
            assert setting.config is not None
            work = Work(config=setting.config, steps=_steps(setting.config), judged_images=0)
            found += [
                Result(
                    place=place,
                    setting=one.setting,
                    forecast_seconds=seconds_per_epoch(work, costs),
                    measured_seconds=one.measured_seconds,
                )
                for one in measured
                if (one.place, one.setting) == (place, setting.name)
            ]
    return found


def on_cluster(place: str, results: Path) -> None:
    """On hosts whose links have the rate of the place."""
    with tempfile.TemporaryDirectory() as name, Standalone(Path(name) / "cluster") as cluster:

        def prepare(workers: int) -> None:
            cluster.have_workers(workers)
            for host in cluster.network.hosts:
                host.limit(_PLACES[place])

        def forecast(words: list[str]) -> dict[str, Any]:
            prepare(_MOST_WORKERS["cluster"])
            scratch = ["--scratch", str(Path(name) / "pilot"), "--json"]
            driver = cluster.drive([sys.executable, "-m", "sunspark.cli", *words, *scratch])
            return driver.result(_RUN_SECONDS)

        def train(run: Path, config: TrainConfig) -> None:
            prepare(config.launch.workers)
            driver = cluster.train(str(Path(name) / f"dataset{_NUM_IMAGES}"), run, config)
            try:
                driver.result(_RUN_SECONDS)
            finally:
                driver.kill()

        measure_place(place, Path(name), forecast, train, results)


def on_this_machine(place: str, results: Path) -> None:
    """In local processes."""
    with tempfile.TemporaryDirectory() as name:

        def forecast(words: list[str]) -> dict[str, Any]:
            command = [sys.executable, "-m", "sunspark.cli", *words, "--json"]
            told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            return told

        def train(run: Path, config: TrainConfig) -> None:
            sunspark.train(str(Path(name) / f"dataset{_NUM_IMAGES}"), str(run), config)

        measure_place(place, Path(name), forecast, train, results)


def _steps(config: TrainConfig) -> StepPlan:
    """Of the images of this measurement."""
    return StepPlan(
        dataset_id="",
        split="train",
        seed=0,
        num_samples=_NUM_IMAGES,
        global_batch_size=config.training.global_batch_size,
        num_epochs=config.training.epochs,
        num_replicas=1,
    )


def missing(results: Sequence[Result]) -> list[str]:
    """Settings without a measurement."""
    found = {(one.place, one.setting) for one in results}
    wanted = [(place, setting.name) for place in _PLACES for setting in settings_at(place)]
    return [f"{place}, {setting}" for place, setting in wanted if (place, setting) not in found]


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    lines = ["| place | setting | forecast, s an epoch | measured | error |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.place} | {one.setting} | {one.forecast_seconds:.2f} | {one.measured_seconds:.2f} | {one.error:+.1%} |"
        for one in results
    ]
    return "\n".join(lines)


def verdict(results: Sequence[Result]) -> tuple[str, bool]:
    """The errors in one line for each place, and whether all are within the bounds."""
    lines, is_well = [], True
    for place in dict.fromkeys(one.place for one in results):
        errors = [abs(one.error) for one in results if one.place == place]
        lines.append(f"{place}: n = {len(errors)}, median {statistics.median(errors):.1%}, worst {max(errors):.1%}")
        is_well &= statistics.median(errors) <= _MEDIAN_BOUND and max(errors) <= _WORST_BOUND
    lines.append(f"bounds: median {_MEDIAN_BOUND:.0%}, worst {_WORST_BOUND:.0%}")
    return "\n".join(lines), is_well


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", nargs="+", choices=list(_PLACES), default=list(_PLACES))
    parser.add_argument("--results", type=Path, default=Path("forecast.jsonl"), help="one line for each run")
    arguments = parser.parse_args(words)
    for place in arguments.places:
        if not _PLACES[place]:
            on_this_machine(place, arguments.results)
        elif reason := why_not():
            sys.exit(f"{place} needs network namespaces (Linux, as root): {reason}")
        else:
            on_cluster(place, arguments.results)
    results = forecasts(arguments.results)
    words_of_it, is_well = verdict(results)
    print(f"\n{table(results)}\n\n{words_of_it}")
    if left := missing(results):
        print(f"not measured: {'; '.join(left)}")
    sys.exit(0 if is_well and not left else 1)


if __name__ == "__main__":
    main()
