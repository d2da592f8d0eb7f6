"""Whether a run may be started, or started again, and where it goes on from.

The work of a run is settled at its first start. What may change afterwards is everything about launching and what
stands in `_MAY_CHANGE`; anything else that differs is refused.
"""

from dataclasses import replace
from typing import Final

import safetensors.torch
import torch

from sunspark import run_directory, storage
from sunspark.config import differences, from_dict, to_dict
from sunspark.data.augment import PIXELS_VERSION
from sunspark.data.dataset import Dataset
from sunspark.data.dataset_folder import is_finished
from sunspark.data.order import usual_order
from sunspark.errors import ConfigError, RunError
from sunspark.launch import own_folder
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.gpus import gpus_of_this_machine
from sunspark.models.initial import initial_weights
from sunspark.models.registry import build_model, check_forward
from sunspark.records import driver_file
from sunspark.training import checkpoint
from sunspark.training.config import TrainingConfig, WorkConfig, plan_of
from sunspark.training.optimizer_state import check_optimizer
from sunspark.training.strategies.build import check_strategy

_MAY_CHANGE: Final = (
    "training.checkpoint_every",
    "data.cache_directory",
    "data.cache_bytes",
    "data.prefetch_bytes",
    "data.prefetch_steps",
    "data.load_deadline_seconds",
    "data.lock_deadline_seconds",
)


def delete_abandoned_files(run: str) -> None:
    """What processes of earlier starts were writing when they were killed."""
    for folder in (run, *(storage.join(run, name) for name in ("checkpoints", "candidates", "rounds", "model"))):
        storage.delete_abandoned(folder)


def refuse_swapped(dataset: str, run: str) -> None:
    """A dataset in the place of the run, and none in its own."""
    if is_finished(run) and not is_finished(dataset):
        raise ConfigError(
            f"{run} is a dataset, and {dataset} is none: did you swap them? First the dataset, then the run"
        )


def refuse_other_folders(run: str, dataset: str) -> None:
    """A run has a folder of its own: empty, or a run's, or what a start that was refused has left."""
    left = ("records", "initial.safetensors", "forecast.json", "pilot")
    own_folder.refuse_other_folders(run, dataset, "run", run_directory.config_file(run), left)


def settle(run: str, dataset: str, opened: Dataset, config: TrainConfig) -> TrainConfig:
    """`config` with the work of this run: that of its first start, which `config` may not contradict.

    Everything is checked before RUN/config.json is written: a mistake must not leave a run that nobody can start.
    It is written at every start: what may change is there as it was last.
    """
    if storage.exists(run_directory.config_file(run)):
        settled = _continued(run, dataset, opened, config)
    else:
        settled = _resolve(config, opened)
        _check(run, opened, settled.work)
        if settled.model.has_initial_weights:
            _write_initial_weights(run, opened, settled.work)
        _drop_what_chose_another(run, settled)
    run_directory.write_config(
        run,
        dataset=dataset,
        dataset_id=opened.id,
        blocks=plan_of(opened, settled.work).blocks_digest,
        pixels_version=PIXELS_VERSION,
        work=to_dict(settled.work),
        launch=to_dict(settled.launch),
    )
    return settled


def _drop_what_chose_another(run: str, config: TrainConfig) -> None:
    """The forecast, or the pilot, of a start with --strategy auto that was killed before the run was settled."""
    storage.delete(storage.join(run, "pilot"))
    forecast = run_directory.forecast_file(run)
    if storage.exists(forecast):
        chosen = run_directory.read_object(forecast).get("recommended")
        if not isinstance(chosen, dict) or chosen.get("strategy") != config.strategy.strategy:
            storage.delete(forecast)


def check(run: str, opened: Dataset, config: TrainConfig) -> None:
    """Find the user's mistakes before anything is started. Raises what the workers would raise."""
    _check(run, opened, _resolve(config, opened).work)


def _continued(run: str, dataset: str, opened: Dataset, config: TrainConfig) -> TrainConfig:
    """The settled training of a run that was started before. Raises RunError when it is another one now."""
    stored = run_directory.read_config(run)
    if stored["dataset_id"] != opened.id:
        raise RunError(
            f"{run} was started with dataset {stored['dataset_id'][:12]}, {dataset} is {opened.id[:12]}; "
            "give the same dataset, or another folder for the run"
        )
    if stored["pixels_version"] != PIXELS_VERSION:
        raise RunError(
            f"{run} was started by a sunspark that makes pixels in another way (version {stored['pixels_version']}, "
            f"now {PIXELS_VERSION}); go on with that one, or give another folder"
        )
    before = from_dict(WorkConfig, stored["work"])
    before = replace(before, strategy=before.strategy.settled(), training=_with_order(before.training))
    now = _keep_settled(config, before.training)
    changed = [d for d in differences(before, now.work) if d[0] not in _MAY_CHANGE]
    if changed:
        details = "; ".join(f"{key} was {old!r}, now {new!r}" for key, old, new in changed)
        raise RunError(f"{run} was started with another configuration: {details}. Give the old one, or another folder")
    run_directory.refuse_other_blocks(run, stored, plan_of(opened, now.work).blocks_digest)
    return now


def _check(run: str, opened: Dataset, work: WorkConfig) -> None:
    """Find the user's mistakes that workers would meet. Raises what they would raise."""
    plan_of(opened, work)
    if work.validation.eval_every and not len(opened.rows(work.validation.split, "--eval-split")):
        raise ConfigError(f"the split {work.validation.split!r} is empty; choose another with --eval-split")
    num_classes, image_size = len(opened.classes), work.data.image_size
    with torch.device("meta"):  # no memory, no numbers: arguments and shapes are what is tried
        model = build_model(work.model, num_classes=num_classes, image_size=image_size, seed=work.training.seed)
        check_forward(model, num_classes, image_size)
    if not work.optim.is_torchs:
        check_optimizer(work.optim)
    check_strategy(work)
    storage.append_text(driver_file(run)).close()


def _write_initial_weights(run: str, opened: Dataset, work: WorkConfig) -> None:
    weights = initial_weights(
        work.model, num_classes=len(opened.classes), image_size=work.data.image_size, seed=work.training.seed
    )
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    storage.write_bytes_atomic(run_directory.initial_weights_file(run), safetensors.torch.save(tensors))


def _resolve(config: TrainConfig, opened: Dataset) -> TrainConfig:
    """What `auto` and 0 stand for, settled once for all workers and all later starts."""
    if config.strategy.strategy == "auto":
        raise ConfigError("--strategy auto is chosen by a forecast: call sunspark.train, or name a strategy")
    training = config.training
    dtype = training.dtype if training.dtype != "auto" else ("bf16" if _has_fast_bf16(config.launch) else "float32")
    replicas = training.replicas or min(config.launch.workers, training.global_batch_size)
    order = training.order if training.order != "auto" else usual_order(len(opened.rows(training.split)))
    settled = replace(training, dtype=dtype, replicas=replicas, order=order)
    return replace(config, training=settled, strategy=config.strategy.settled())


def _keep_settled(config: TrainConfig, before: TrainingConfig) -> TrainConfig:
    training = config.training
    dtype = before.dtype if training.dtype == "auto" else training.dtype
    order = before.order if training.order == "auto" else training.order
    settled = replace(training, dtype=dtype, replicas=training.replicas or before.replicas, order=order)
    return replace(config, training=settled, strategy=config.strategy.settled())


def _with_order(training: TrainingConfig) -> TrainingConfig:
    """Runs of before there was a choice have the global order."""
    return replace(training, order="global") if training.order == "auto" else training


def _has_fast_bf16(launch: LaunchConfig) -> bool:
    """Of the GPU where it is known that there will be one, else of the driver's processor."""
    takes_gpus_here = launch.launcher == "local" and 1 <= launch.workers <= len(gpus_of_this_machine())
    if launch.device == "cuda" or (launch.device == "auto" and takes_gpus_here):
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def state_to_start_from(run: str, is_alone: bool) -> str | None:
    """The newest checkpoint; where no worker lives, the best candidate becomes it first."""
    if is_alone:
        checkpoint.adopt_candidate(run)
    published = checkpoint.checkpoints(run)
    return published[-1].uri if published else None


def what_is_saved(run: str) -> str:
    """For the end of a message: how far the next start goes on from; nothing when it begins anew."""
    saved = [state.step for state in (*checkpoint.checkpoints(run), *checkpoint.candidates(run))]
    if not saved:
        return ""
    what = {0: "what was done of the first step is", 1: "1 step is"}.get(max(saved), f"{max(saved)} steps are")
    return f"; {what} saved, and `sunspark train` goes on from there: {run}"
