"""What the settings of a sweep would take, before they are run: forecasts by one pilot."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from sunspark import run_directory, storage
from sunspark.bench.costs import Costs
from sunspark.bench.fitting import fit
from sunspark.bench.forecast import seconds_per_epoch, steps_of
from sunspark.bench.network_size import network_size
from sunspark.bench.observation import Observation
from sunspark.bench.pilot import fly
from sunspark.bench.sweep import Setting
from sunspark.bench.sweep_results import EpochForecast
from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import SunsparkError
from sunspark.launch.config import TrainConfig


def forecasts_of(
    settings: Sequence[Setting], opened: Dataset, folder: str, tell: Callable[[str], None]
) -> dict[str, EpochForecast]:
    """By setting; those that train another network than the pilot are not there.

    The pilot is that of the setting with the most workers; what it told is kept in FOLDER/forecast.json.
    """
    configs = {one.name: one.config for one in settings if one.config is not None and not one.refusal}
    if not configs:
        return {}
    base = max(configs.values(), key=lambda config: config.launch.workers)
    compressions = sorted({config.strategy.compression for config in configs.values()} - {"none"})
    file, pilot = storage.join(folder, "forecast.json"), storage.join(folder, "pilot")
    if storage.exists(file):
        told = [from_dict(Observation, one) for one in run_directory.read_object(file)["observations"]]
    else:
        storage.delete(pilot)
        told = fly(opened, base, compressions, pilot, tell)
        storage.delete(pilot)
        storage.write_json_atomic(file, {"observations": [asdict(one) for one in told]})
    costs = fit(told, network_size(opened, base.work))
    alike = {name: config for name, config in configs.items() if _computes_alike(config, base)}
    return {name: _forecast(config, opened, costs) for name, config in alike.items()}


def _computes_alike(config: TrainConfig, other: TrainConfig) -> bool:
    """Whether an image costs both the same."""
    same_cores = config.launch.cores_per_worker == other.launch.cores_per_worker
    same_numbers = config.training.dtype == other.training.dtype
    return (
        same_cores
        and same_numbers
        and (config.model, config.optim, config.data)
        == (
            other.model,
            other.optim,
            other.data,
        )
    )


def _forecast(config: TrainConfig, opened: Dataset, costs: Costs) -> EpochForecast:
    def seconds(workers: int) -> float | None:
        whole = replace(config, launch=replace(config.launch, workers=workers))
        try:
            return seconds_per_epoch(whole, steps_of(opened, config), costs)
        except SunsparkError:  # no run of the pilot tells, or the setting cannot be run: its row will say why
            return None

    workers, replicas = config.launch.workers, config.training.replicas
    return EpochForecast(here=seconds(workers), with_all=seconds(replicas) if replicas > workers else None)
