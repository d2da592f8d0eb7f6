"""`sunspark forecast`: run a pilot or read runs, and say what a training would take and cost."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch

from sunspark import run_directory, storage
from sunspark.bench.forecasting.config import ForecastConfig
from sunspark.bench.forecasting.costs import Costs
from sunspark.bench.forecasting.fitting import fit
from sunspark.bench.forecasting.network_size import network_size
from sunspark.bench.forecasting.observation import Observation, observe
from sunspark.bench.forecasting.pilot import run_pilot
from sunspark.bench.forecasting.pricing import instances_of
from sunspark.bench.forecasting.recommendation import recommend
from sunspark.bench.forecasting.rows import Pilot, Row, Work, rows_of
from sunspark.config import flatten, from_dict, to_dict
from sunspark.data.augment import training_pixels
from sunspark.data.dataset import Dataset
from sunspark.data.keyed_random import KeyedRandom
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.gpus import gpus_of_this_machine
from sunspark.storage.temporary import temporary_folder

_GEMM_SIZE: Final = 1024
_GEMM_SECONDS: Final = 0.5
_DECODING_SECONDS: Final = 0.5
_PREFIX: Final = "sunspark-pilot-"


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
    config: TrainConfig | None,
    asked: ForecastConfig,
    *,
    runs: Sequence[str] = (),
    scratch: str = "",
    out: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> ForecastResult:
    """What training `dataset` as `config` says would take; from `runs`, or else from a pilot in the folder `scratch`.

    Without a `config` it is that of the first of `runs`, else the default.
    Raises ConfigError when what is asked makes no sense, RunError when runs tell too little, and what a training
    raises.
    """
    if runs and scratch:
        raise ConfigError("--scratch is for a pilot, and --from makes none; leave one of them out")
    config = config or (config_of(storage.absolute(runs[0])) if runs else TrainConfig())
    opened = Dataset.open(storage.absolute(dataset))
    _refuse_early(asked, out)
    work, size = Work.of(opened, config), network_size(opened, config.work)
    if runs:
        observations = [observed_alike(storage.absolute(run), config) for run in runs]
    else:
        before = 0.0 if _is_on_gpu(config.launch) else gigaflops()
        observations = _pilot(opened, config, asked, scratch, tell)
    costs, is_on_gpu = fit(observations, size), _is_on_gpu(config.launch)
    if not (runs or is_on_gpu):
        decoding = decoding_seconds(opened, config)
        costs = replace(costs, gigaflops=max(before, gigaflops()), decoding_seconds=decoding)
    most = max(one.workers for one in observations)
    room = max(most, _room(config.launch)) if _is_here(config.launch) else None
    rows, carried = rows_of(work, asked, Pilot(costs=costs, workers=most, room=room, is_on_gpu=is_on_gpu))
    others = [run for run in runs if run_directory.read_config(storage.absolute(run))["dataset_id"] != opened.id]
    carried += [f"{run} is of another dataset, whose images may take another time" for run in others]
    bound = config.strategy.staleness_bound
    if bound is not None:
        carried.append(f"async, hogwild: workers that wait because of --staleness-bound {bound} are not in these times")
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


def _refuse_early(asked: ForecastConfig, out: str) -> None:
    """What would be refused after a pilot of minutes is refused before it."""
    instances_of(asked.instance, asked.prices)
    entry = storage.entry_at(storage.absolute(out)) if out else None
    if entry and entry.is_directory:
        raise ConfigError(f"--out {out} is a folder; name a file")


def _pilot(
    opened: Dataset, config: TrainConfig, asked: ForecastConfig, scratch: str, tell: Callable[[str], None]
) -> list[Observation]:
    if not scratch and not _is_here(config.launch):
        raise ConfigError(
            "a pilot on a cluster takes a folder that all workers reach; name an empty one with --scratch"
        )
    with contextlib.ExitStack() as closers:
        folder = storage.absolute(scratch) if scratch else str(closers.enter_context(temporary_folder(_PREFIX)))
        if storage.list_directory(folder):
            raise ConfigError(f"{folder} is not empty; a pilot takes a folder of its own: choose another --scratch")
        compressions = [one for one in asked.compressions if one != "none"]
        has_server = bool({"async", "hogwild"} & set(asked.strategies))
        closers.enter_context(_session(config.launch))
        return run_pilot(opened, config, compressions, folder, tell, has_server=has_server)


def observed_alike(run: str, config: TrainConfig) -> Observation:
    """What a run tells of `config`. Raises RunError when it computes something else, so that its costs are others."""
    ours = of_computing(config)
    theirs = of_computing(config_of(run), dtype=ours["training.dtype"])
    if differs := [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]:
        details = "; ".join(f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here" for key in differs)
        raise RunError(f"{run} tells nothing of this training: {details}")
    return observe(run)


def config_of(run: str) -> TrainConfig:
    """The configuration of a run. Raises RunError when it is none."""
    stored = run_directory.read_config(run)
    return from_dict(TrainConfig, {**stored["work"], "launch": stored["launch"]})


def of_computing(config: TrainConfig, dtype: str = "auto") -> dict[str, Any]:
    """What decides how long an image takes, by key; where `dtype` is auto, a run that has settled on one is alike."""
    flat = dict(flatten(to_dict(config)))
    keys = [key for key in flat if key.startswith(("model.", "data.", "loss.")) and not key.startswith("data.cache")]
    keys += ["optim.optimizer", "training.dtype", "training.micro_batch_size"]
    keys += ["launch.cores_per_worker", "launch.device", "launch.gradient_path"]
    found = {key: flat.get(key) for key in keys}
    return found | ({"training.dtype": dtype} if dtype == "auto" else {})


def _room(launch: LaunchConfig) -> int:
    """Workers that this machine has cores, or GPUs, for."""
    return len(gpus_of_this_machine()) or len(os.sched_getaffinity(0)) // launch.cores_per_worker


def _is_on_gpu(launch: LaunchConfig) -> bool:
    return launch.device == "cuda" or (launch.device == "auto" and bool(gpus_of_this_machine()))


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


def decoding_seconds(dataset: Dataset, config: TrainConfig) -> float:
    """Of an image as training sees it, by one core: the mean of half a second over a block of the dataset."""
    first = int(dataset.rows(config.training.split)[0])
    images, size, augment = (
        dataset.read_block(dataset.block_of(first)).images,
        config.data.image_size,
        config.data.augment,
    )
    until, began = time.monotonic() + _DECODING_SECONDS, time.monotonic()
    for number, image in enumerate(itertools.cycle(images), start=1):
        training_pixels(image, size, KeyedRandom(0, 0, number), augment)
        if time.monotonic() > until:
            break
    return (time.monotonic() - began) / number
