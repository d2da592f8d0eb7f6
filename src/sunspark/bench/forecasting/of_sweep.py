"""What the settings of a sweep would take, before they are run: forecasts by one pilot."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sunspark import run_directory, storage
from sunspark.bench.forecasting.costs import Costs
from sunspark.bench.forecasting.fitting import fit
from sunspark.bench.forecasting.forecast import of_computing
from sunspark.bench.forecasting.network_size import network_size
from sunspark.bench.forecasting.observation import Observation
from sunspark.bench.forecasting.pilot import run_pilot
from sunspark.bench.forecasting.rows import Work, seconds_per_epoch
from sunspark.bench.sweep import Setting
from sunspark.bench.sweep_results import EpochForecast
from sunspark.config import from_dict, to_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, RunError, SunsparkError
from sunspark.launch.config import TrainConfig


def forecasts_of(
    settings: Sequence[Setting], opened: Dataset, folder: str, tell: Callable[[str], None], *, is_asked: bool
) -> dict[str, EpochForecast]:
    """By setting; those whose images take another time than the pilot's are not there.

    The pilot is that of the setting with the most workers; what it told is kept in FOLDER/forecast.json. There are
    none where there was no pilot and none `is_asked` for now. Raises RunError when that file is damaged.
    """
    configs = {one.name: one.config for one in settings if one.config is not None and not one.refusal}
    if not configs:
        return {}
    base = max(configs.values(), key=lambda config: config.launch.workers)
    compressions = sorted({config.strategy.compression for config in configs.values()} - {"none"})
    file, pilot = storage.join(folder, "forecast.json"), storage.join(folder, "pilot")
    made_for = {"config": to_dict(base), "compressions": compressions}
    stored = run_directory.read_object(file) if storage.exists(file) else {}
    if stored.get("made_for") == json.loads(json.dumps(made_for)):
        told = _observations(file, stored)
    elif not is_asked:
        return {}
    else:
        storage.delete(pilot)
        told = run_pilot(opened, base, compressions, pilot, tell)
        storage.delete(pilot)
        storage.write_json_atomic(file, {"made_for": made_for, "observations": [asdict(one) for one in told]})
    costs = fit(told, network_size(opened, base.work))
    alike = {name: config for name, config in configs.items() if of_computing(config) == of_computing(base)}
    return {name: _forecast(config, opened, costs) for name, config in alike.items()}


def _observations(file: str, stored: Mapping[str, Any]) -> list[Observation]:
    try:
        return [from_dict(Observation, one) for one in stored["observations"]]
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{file} is damaged or was written by something else: {error}; delete it") from error


def _forecast(config: TrainConfig, opened: Dataset, costs: Costs) -> EpochForecast:
    def seconds(workers: int) -> float | None:
        whole = replace(config, launch=replace(config.launch, workers=workers))
        try:
            return seconds_per_epoch(Work.of(opened, whole), costs)
        except SunsparkError:  # no run of the pilot tells, or the setting cannot be run: its row will say why
            return None

    workers, replicas = config.launch.workers, config.training.replicas
    return EpochForecast(here=seconds(workers), with_all=seconds(replicas) if replicas > workers else None)
