"""Run the settings of a sweep one after the other, each as an ordinary run; one that was interrupted is made anew.

FOLDER/sweep.json                   what its runs are made on; others are not put beside them
FOLDER/forecast.json                what a pilot has told, where there was one
FOLDER/runs/SETTING/repeat-N        what `sunspark train` leaves
FOLDER/runs/SETTING/repeat-N.json   its measurement; a run that has one is not made again
FOLDER/runs/SETTING/repeat-N.log    what it said
FOLDER/results.parquet, .csv        a row for each run, and for each setting that was not run

A run has a process of its own, so none inherits memory or a Spark session from the one before it.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sunspark import run_directory, storage
from sunspark.bench.measuring import failed, measurement_of, refused
from sunspark.bench.sweep import Setting, SweepConfig, order_of_runs, settings_of
from sunspark.bench.sweep_results import EpochForecast, Measurement, Summary, summaries, write_results
from sunspark.config import from_dict, refuse_other_seeds, to_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, DatasetError, RunError, SunsparkError
from sunspark.launch.config import TrainConfig
from sunspark.launch.own_folder import refuse_other_folders
from sunspark.launch.trial import one_run, wait_until_free

_LONGEST_REASON: Final = 500
_STOP_SECONDS: Final = 60.0
_LOCK: Final = ".compare.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """How a sweep is run."""

    repeats: int = 1
    """How often each setting is run, in another order each time; intervals take two at least."""
    seed: int = 0
    """Of the order."""
    oversubscribe: bool = False
    """Run settings that want more cores than there are, and mark them."""
    target_top1: float = 0.0
    """Tell how long an accuracy (0 to 1) took, by the evaluations while training; 0: do not."""
    forecast: bool = False
    """Forecast every setting first, by a pilot of a minute or two, and put that beside what is measured."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"repeats must be at least 1, got {self.repeats}")
        refuse_other_seeds(self.seed)
        if not 0 <= self.target_top1 <= 1:
            raise ConfigError(f"target_top1 must be between 0 and 1, got {self.target_top1}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareResult:
    """What a sweep came to."""

    folder: str
    runs: int
    """That are measured."""
    failed: int
    refused: int
    settings: list[Summary]


def plan(sweep: SweepConfig, config: CompareConfig) -> list[Setting]:
    """The settings, in the order of the file.

    Raises ConfigError when the sweep makes no sense, or asks for a target that nothing measures.
    """
    settings = settings_of(sweep, len(os.sched_getaffinity(0)), may_oversubscribe=config.oversubscribe)
    unmeasured = [s.name for s in settings if s.config is not None and not s.config.validation.eval_every]
    if config.target_top1 and unmeasured:
        raise ConfigError(
            f"--target-top1 is found by evaluations while training, and {unmeasured[0]!r} has none; "
            "set validation.eval_every in the sweep's base, or leave the target out"
        )
    return settings


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedSetting:
    """A setting, and what its runs would be."""

    name: str
    config: TrainConfig | None
    runs: int
    """0 where it is not run."""
    measured: int
    """Of these, what is there already."""
    epochs: int | None
    """Of a run; None where the values of the setting make no sense."""
    images: int | None
    """Of an epoch; None there too, and where there is no such split."""
    seconds: float | None
    """Of a run, where a pilot has told."""
    refusal: str
    """Why it is not run, or would fail."""
    is_oversubscribed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What would run."""

    runs: int
    measured: int
    """Of these, what is there already."""
    epochs: int
    """Of the runs that are left and would not fail, together."""
    images: int
    """That these epochs train on, each as often as it comes."""
    seconds: float | None
    """That they would take, but for their starts; None where no pilot has told of each of them."""
    failing: int
    """Settings that would fail."""
    settings: list[PlannedSetting]


def planned(sweep: SweepConfig, folder: str, config: CompareConfig, tell: Callable[[str], None]) -> Planned:
    """What `compare` would do, found out without doing it. Raises what `compare` would raise before its first run."""
    dataset, folder, opened = storage.absolute(sweep.dataset), storage.absolute(folder), _open_dataset(sweep)
    settings = plan(sweep, config)
    refuse_other_folders(folder, dataset, "sweep", _made_on_file(folder))
    _refuse_other_runs(folder, _made_on(opened, sweep, config))
    is_forecast = storage.exists(storage.join(folder, "forecast.json"))
    forecasts = _forecasts(settings, opened, folder, tell, is_asked=False) if is_forecast else {}
    found = [_planned(one, opened, folder, config.repeats, forecasts.get(one.name)) for one in settings]
    left = [(one.runs - one.measured, one) for one in found if not one.refusal]
    epochs = [(runs * (one.epochs or 0), one.images or 0) for runs, one in left]
    seconds = [runs * one.seconds if one.seconds else None for runs, one in left if runs]
    return Planned(
        runs=sum(one.runs for one in found),
        measured=sum(one.measured for one in found),
        epochs=sum(number for number, _ in epochs),
        images=sum(number * images for number, images in epochs),
        seconds=None if None in seconds or not seconds else sum(one for one in seconds if one),
        failing=sum(bool(one.refusal and one.runs) for one in found),
        settings=found,
    )


def _planned(
    setting: Setting, opened: Dataset, folder: str, repeats: int, forecast: EpochForecast | None
) -> PlannedSetting:
    config, refusal, images = setting.config, setting.refusal, None
    if config is not None:
        try:
            images = len(opened.rows(config.training.split, "training.split"))
            if config.validation.eval_every:
                opened.rows(config.validation.split, "validation.eval_split")
        except DatasetError as error:
            refusal = refusal or str(error)
    epochs = config.training.epochs if config else None
    return PlannedSetting(
        name=setting.name,
        config=config,
        runs=0 if setting.refusal else repeats,
        measured=_num_measured(setting, repeats, folder),
        epochs=epochs,
        images=images,
        seconds=epochs * forecast.here if epochs and forecast and forecast.here else None,
        refusal=refusal,
        is_oversubscribed=setting.is_oversubscribed,
    )


def compare(
    sweep: SweepConfig, folder: str, config: CompareConfig, tell: Callable[[str], None] = lambda _: None
) -> CompareResult:
    """Run what is not measured yet. `tell` hears of each run.

    Raises ConfigError as `plan`, DatasetError when there is no such dataset, RunError when another one works on
    `folder`, or its runs are made on something else, KeyboardInterrupt.
    """
    dataset, folder, opened = storage.absolute(sweep.dataset), storage.absolute(folder), _open_dataset(sweep)
    settings = plan(sweep, config)
    refuse_other_folders(folder, dataset, "sweep", _made_on_file(folder))
    refusal = RunError(f"another `sunspark compare` works on {folder}; wait for it, or choose another folder")
    with storage.only_holder(folder, _LOCK, refusal):
        made_on = _made_on(opened, sweep, config)
        _refuse_other_runs(folder, made_on)
        storage.write_json_atomic(_made_on_file(folder), made_on)
        forecasts = {}
        if config.forecast or storage.exists(storage.join(folder, "forecast.json")):
            forecasts = _forecasts(settings, opened, folder, tell, is_asked=config.forecast)
        return _compare(settings, dataset, sweep.eval_split, folder, config, forecasts, tell)


def _open_dataset(sweep: SweepConfig) -> Dataset:
    """That of the sweep. Raises DatasetError when there is none, or it has no such split."""
    opened = Dataset.open(storage.absolute(sweep.dataset))
    if sweep.eval_split:
        opened.rows(sweep.eval_split, "eval_split")
    return opened


def _forecasts(
    settings: Sequence[Setting], opened: Dataset, folder: str, tell: Callable[[str], None], *, is_asked: bool
) -> dict[str, EpochForecast]:
    """By setting. One pilot for all of them, with the most workers, at the first start that asks for it."""
    from sunspark.bench.forecasting.of_sweep import forecasts_of  # torch, which reports do without

    return forecasts_of(settings, opened, folder, tell, is_asked=is_asked)


def _compare(
    settings: Sequence[Setting],
    dataset: str,
    eval_split: str,
    folder: str,
    config: CompareConfig,
    forecasts: Mapping[str, EpochForecast],
    tell: Callable[[str], None],
) -> CompareResult:
    runs = list(order_of_runs(settings, config.repeats, config.seed))
    rows = {(row.setting, row.repeat): row for row in _measured(settings, folder, forecasts)}
    for number, (setting, repeat) in enumerate(runs, start=1):
        if (setting.name, repeat) in rows:
            continue
        at = _place(folder, setting, repeat)
        tell(f"run {number}/{len(runs)}: {setting.name}, repeat {repeat + 1} of {config.repeats}")
        row = _made(setting, repeat, at, dataset, eval_split, config.target_top1)
        if row.status == "measured":
            storage.write_json_atomic(f"{at}.json", asdict(row))
        tell(f"  {row.images_per_second:.1f} images/s" if row.images_per_second else f"  failed: {row.reason}")
        rows[setting.name, repeat] = _with_forecast(row, forecasts)
        write_results(folder, _in_order(settings, rows))
    measurements = _in_order(settings, rows)
    write_results(folder, measurements)
    return CompareResult(
        folder=folder,
        runs=sum(row.status == "measured" for row in measurements),
        failed=sum(row.status == "failed" for row in measurements),
        refused=sum(row.status == "refused" for row in measurements),
        settings=summaries(measurements),
    )


def _measured(
    settings: Sequence[Setting], folder: str, forecasts: Mapping[str, EpochForecast]
) -> Iterator[Measurement]:
    """What is known before anything is run: settings that are not, and what is there, more repeats too."""
    for setting in settings:
        if setting.refusal:
            yield refused(setting)
            continue
        for entry in storage.list_directory(storage.join(folder, "runs", setting.folder)):
            if entry.name.endswith(".json"):
                yield _with_forecast(_read(entry.uri, setting), forecasts)


def _with_forecast(row: Measurement, forecasts: Mapping[str, EpochForecast]) -> Measurement:
    forecast = forecasts.get(row.setting)
    if forecast is None:
        return row
    return replace(row, forecast_seconds_per_epoch=forecast.here, forecast_seconds_with_all=forecast.with_all)


def _num_measured(setting: Setting, repeats: int, folder: str) -> int:
    """Of its runs, those that are there already."""
    if setting.refusal:
        return 0
    return sum(storage.exists(f"{_place(folder, setting, repeat)}.json") for repeat in range(repeats))


def _place(folder: str, setting: Setting, repeat: int) -> str:
    return storage.join(folder, "runs", setting.folder, f"repeat-{repeat}")


def _in_order(settings: Sequence[Setting], rows: Mapping[tuple[str, int], Measurement]) -> list[Measurement]:
    """By the order of the settings, then of the repeats."""
    number_of = {setting.name: number for number, setting in enumerate(settings)}
    return [rows[key] for key in sorted(rows, key=lambda key: (number_of[key[0]], key[1]))]


def _made_on_file(folder: str) -> str:
    return storage.join(folder, "sweep.json")


def _made_on(opened: Dataset, sweep: SweepConfig, config: CompareConfig) -> dict[str, Any]:
    """What runs are to have in common, to be compared."""
    return {"dataset_id": opened.id, "eval_split": sweep.eval_split, "target_top1": config.target_top1}


def _refuse_other_runs(folder: str, made_on: dict[str, Any]) -> None:
    """RunError when the runs in `folder` are made on something else."""
    uri = _made_on_file(folder)
    if storage.exists(uri) and (there := run_directory.read_object(uri)) != made_on:
        key = next(key for key in made_on if there.get(key) != made_on[key])
        raise RunError(
            f"the runs in {folder} were made with {key} {there.get(key)!r}, not {made_on[key]!r}: "
            "they are not to be compared; choose another folder"
        )


def _read(uri: str, setting: Setting) -> Measurement:
    try:
        row = from_dict(Measurement, run_directory.read_object(uri))
    except ConfigError as error:
        raise RunError(f"{uri} is damaged or was written by something else: {error}; delete it") from error
    if row.setting != setting.name:
        raise RunError(f"{uri} is that of {row.setting!r}, and not of {setting.name!r}; delete it")
    return row


def _made(setting: Setting, repeat: int, run: str, dataset: str, eval_split: str, target_top1: float) -> Measurement:
    """Make a run from its beginning: of one that was interrupted, the time is lost."""
    wait_until_free(run)
    storage.delete(run)
    task = {"dataset": dataset, "run": run, "config": to_dict(setting.config), "eval_split": eval_split}
    with tempfile.TemporaryFile() as log:
        with one_run(task, subprocess.PIPE, log) as process:
            assert process.stdout is not None
            try:
                told = process.stdout.read()
                process.wait()
            except KeyboardInterrupt:  # it hears of Ctrl-C itself
                process.terminate()
                process.wait(_STOP_SECONDS)
                raise
        log.seek(0)
        said = log.read()
    storage.write_bytes(f"{run}.log", said)
    if process.returncode:
        return failed(setting, repeat, _reason_of(said, process.returncode))
    try:
        return measurement_of(setting, repeat, run, json.loads(told.splitlines()[-1]), target_top1)
    except SunsparkError as error:
        return failed(setting, repeat, str(error))


def _reason_of(said: bytes, code: int) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "nothing"
    if code < 0:
        last = f"its process was killed ({signal.Signals(-code).name}); its last words were: {last}"
    return last[-_LONGEST_REASON:]
