"""The directory of a run: what is in it, under which name, and its configuration.

RUN/config.json               what is trained on which dataset, and how it was launched last; decides whether the run
                              may be continued
RUN/initial.safetensors       the weights that training began with, where the seed alone does not give them
RUN/excused.json              images that are left out, because decoding them kills the process that does it
RUN/forecast.json             what `--strategy auto` was chosen by: `bench/forecasting/auto.py`
RUN/start.json                how it was started last, and on what: `launch/start.py`
RUN/checkpoints/              states of steps that count: `training/checkpoint.py`
RUN/candidates/               states that orphaned workers saved: the same
RUN/rounds/                   results of replicas of the round at hand: `training/strategies/stored_results.py`
RUN/records/                  steps and events, one file per worker process and one of the driver: `records/`
RUN/model/                    the finished network: `training/export.py`
RUN/result.json               what `train` returned; there when the run is finished
RUN/evaluation-<split>.json   what `evaluate` returned
RUN/verify.json               what `verify` returned
RUN/tensorboard/              event files, when the run has that tracker: `launch/tracker.py`
RUN/.driver.lock              held while `sunspark train` works on it

Free of torch, for whoever reads runs.
"""

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from sunspark import storage
from sunspark.errors import RunError

_FORMAT: Final = "sunspark-run-1"
_EVALUATION: Final = re.compile(r"evaluation-.*\.json")
_DRIVER_LOCK: Final = ".driver.lock"
_REMEDY: Final = "put back a copy of it, or train into another folder; without it nobody knows what was trained here"
_TYPES: Final = {"dataset": str, "dataset_id": str, "work": dict, "launch": dict}


def config_file(run: str) -> str:
    """What is trained, and how it was launched last."""
    return storage.join(run, "config.json")


def initial_weights_file(run: str) -> str:
    """The weights that training began with; there when it began with pretrained ones, or those of a file."""
    return storage.join(run, "initial.safetensors")


def excused_file(run: str) -> str:
    """The images that are left out."""
    return storage.join(run, "excused.json")


def read_excused(run: str) -> dict[int, str]:
    """Row of the dataset -> why it is left out. Raises RunError when something else has written the file."""
    path = excused_file(run)
    if not storage.exists(path):
        return {}
    try:
        return {int(entry["row"]): str(entry["reason"]) for entry in read_object(path)["excused"]}
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged or was written by something else: {error!r}") from error


def rounds_folder(run: str) -> str:
    """Results of replicas of a round that takes long; there until the round counts."""
    return storage.join(run, "rounds")


def start_file(run: str) -> str:
    """How it was started last; there when workers were."""
    return storage.join(run, "start.json")


def forecast_file(run: str) -> str:
    """What its strategy was chosen by, if a forecast has chosen it."""
    return storage.join(run, "forecast.json")


def tracker_directory(run: str) -> str:
    """Where TensorBoard's event files are."""
    return storage.join(run, "tensorboard")


def result_file(run: str) -> str:
    """The result of a training that is finished."""
    return storage.join(run, "result.json")


def verdict_file(run: str) -> str:
    """The last verdict of `verify`."""
    return storage.join(run, "verify.json")


def evaluation_file(run: str, split: str) -> str:
    """The last evaluation on a split."""
    return storage.join(run, f"evaluation-{split}.json")


def evaluation_files(run: str) -> list[str]:
    """The evaluations that are there."""
    return [entry.uri for entry in storage.list_directory(run) if _EVALUATION.fullmatch(entry.name)]


def model_description_file(run: str) -> str:
    """How to build the finished network; there when its weights are."""
    return storage.join(run, "model", "config.json")


def model_weights_file(run: str) -> str:
    """The weights of the finished network."""
    return storage.join(run, "model", "model.safetensors")


def only_driver(run: str) -> AbstractContextManager[None]:
    """Refuse a second driver of the same run, where the file system can tell."""
    refusal = RunError(f"another `sunspark train` works on {run}; wait for it, or choose another folder")
    return storage.only_holder(run, _DRIVER_LOCK, refusal)


def is_training(run: str) -> bool:
    """Whether a driver works on it now, as far as the file system can tell."""
    return storage.is_held(run, _DRIVER_LOCK)


def no_run(run: str) -> RunError:
    """The error for a folder that is none of a run."""
    return RunError(
        f"{run} is not a run; give the folder that `sunspark train` works on (in a sweep: runs/SETTING/repeat-0)"
    )


def not_finished(run: str) -> RunError:
    """The error for a run whose model is needed, and not there yet."""
    if is_training(run):
        return RunError(f"{run} is still training; wait for its end: `sunspark watch` shows how far it is")
    return RunError(f"{run} is not finished; run `sunspark train` on it to its end")


def write_config(
    run: str,
    *,
    dataset: str,
    dataset_id: str,
    blocks: str | None,
    pixels_version: int,
    work: dict[str, Any],
    launch: dict[str, Any],
) -> None:
    """Write RUN/config.json: where the dataset is, which it is, how it becomes pixels, WorkConfig and LaunchConfig.

    `blocks` says in which blocks its samples lie, where the order of the run depends on that.
    """
    body = {
        "format": _FORMAT,
        "dataset": dataset,
        "dataset_id": dataset_id,
        "blocks": blocks,
        "pixels_version": pixels_version,
        "work": work,
        "launch": launch,
    }
    storage.write_json_atomic(config_file(run), body)


def read_config(run: str) -> dict[str, Any]:
    """RUN/config.json, as `write_config` has written it.

    Raises RunError when there is no run, or one of another format, or something else has written the file.
    """
    path = config_file(run)
    if not storage.exists(path):
        raise no_run(run)
    body = storage.read_bytes(path)
    try:
        stored = json.loads(body)
    except ValueError as error:
        what = f"is damaged: {error}" if body else "is empty"
        raise RunError(f"{path} {what}; {_REMEDY}") from error
    if not isinstance(stored, dict):
        raise RunError(f"{path} holds a {type(stored).__name__}, not an object; {_REMEDY}")
    if stored.get("format") != _FORMAT:
        raise RunError(f"{run} has the format {stored.get('format')!r}, this version reads {_FORMAT!r}")
    for key, kind in _TYPES.items():
        if not isinstance(stored.get(key), kind):
            raise RunError(f"{path} holds no {key}; {_REMEDY}")
    return {"pixels_version": 1, "blocks": None} | stored  # which the first runs do not name


def refuse_other_blocks(run: str, stored: Mapping[str, Any], blocks: str | None) -> None:
    """RunError where a run in window order would go on, or be judged, in another order than it began in."""
    if stored["blocks"] != blocks:
        raise RunError(
            f"{run} was started in window order with a dataset whose samples lie in other blocks: it was made anew, "
            "from a source that had other bad files, or the sunspark was another; go on with that one, or give another "
            "folder for the run"
        )


def read_object(uri: str) -> dict[str, Any]:
    """One JSON file of a run. Raises RunError when it holds no object."""
    body = storage.read_json(uri)
    if not isinstance(body, dict):
        raise RunError(f"{uri} holds a {type(body).__name__}, not an object; it was written by something else")
    return body
