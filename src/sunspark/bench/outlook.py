"""`sunspark forecast`: fly a pilot or read runs, and say what a training would take and cost."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Final

import torch

from sunspark import storage
from sunspark.bench.costs import Costs
from sunspark.bench.fitting import fit
from sunspark.bench.forecast import Row, rows_of, steps_of
from sunspark.bench.forecast_config import ForecastConfig
from sunspark.bench.network_size import network_size
from sunspark.bench.observation import Observation, observe
from sunspark.bench.pilot import fly
from sunspark.bench.recommendation import recommend
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError
from sunspark.launch.config import LaunchConfig, TrainConfig

_GEMM_SIZE: Final = 1024
_GEMM_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastResult:
    """A forecast."""

    dataset_id: str
    epochs: int
    rows: list[Row]
    recommended: Row | None
    why: str
    """Of the recommendation."""
    carried: list[str]
    """What was not measured where it would run, in words."""
    costs: Costs
    observations: list[Observation]


def forecast(
    dataset: str,
    config: TrainConfig,
    asked: ForecastConfig,
    *,
    runs: Sequence[str] = (),
    scratch: str = "",
    out: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> ForecastResult:
    """What training `dataset` as `config` says would take; from `runs`, or else from a pilot in the folder `scratch`.

    Raises ConfigError when what is asked makes no sense, RunError when runs tell too little, and what a training
    raises.
    """
    opened = Dataset.open(storage.absolute(dataset))
    size = network_size(opened, config.work)
    if runs:
        observations = [observe(storage.absolute(run)) for run in runs]
    else:
        observations = _pilot(opened, config, asked, scratch, tell)
    costs = fit(observations, size)
    if not runs:
        costs = replace(costs, gigaflops=gigaflops())
    rows, carried = rows_of(steps_of(opened, config), config, asked, costs, max(one.workers for one in observations))
    recommended, why = recommend(rows, asked)
    result = ForecastResult(
        dataset_id=opened.id,
        epochs=asked.epochs or config.training.epochs,
        rows=rows,
        recommended=recommended,
        why=why,
        carried=carried,
        costs=costs,
        observations=observations,
    )
    if out:
        storage.write_json_atomic(storage.absolute(out), asdict(result))
    return result


def _pilot(
    opened: Dataset, config: TrainConfig, asked: ForecastConfig, scratch: str, tell: Callable[[str], None]
) -> list[Observation]:
    if not scratch and not _is_here(config.launch):
        raise ConfigError(
            "a pilot on a cluster takes a folder that all workers reach; name an empty one with --scratch"
        )
    with tempfile.TemporaryDirectory(prefix="sunspark-pilot-") as own:
        folder = storage.absolute(scratch or own)
        if storage.list_directory(folder):
            raise ConfigError(f"{folder} is not empty; a pilot takes a folder of its own: choose another --scratch")
        compressions = [one for one in asked.compressions if one != "none"]
        with _session(config.launch):
            return fly(opened, config, compressions, folder, tell)


def _is_here(launch: LaunchConfig) -> bool:
    if launch.launcher == "local":
        return True
    from sunspark.launch.session import configured_master, is_on_one_machine

    return is_on_one_machine(launch.master or configured_master() or "local")


def _session(launch: LaunchConfig) -> AbstractContextManager[object]:
    """One of Spark for all runs, where Spark launches them."""
    if launch.launcher == "local":
        return contextlib.nullcontext()
    from sunspark.launch.session import open_session

    return open_session(launch.master, "sunspark pilot")


def gigaflops() -> float:
    """Of one core of this machine, float32, by products of matrices: the best of half a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = torch.randn(_GEMM_SIZE, _GEMM_SIZE)
        until, best = time.monotonic() + _GEMM_SECONDS, float("inf")
        while time.monotonic() < until:
            began = time.monotonic()
            one @ one
            best = min(best, time.monotonic() - began)
    finally:
        torch.set_num_threads(threads)
    return 2e-9 * _GEMM_SIZE**3 / best
