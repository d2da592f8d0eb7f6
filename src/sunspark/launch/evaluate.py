"""Evaluate the model of a finished run: every sample of a split once, over the workers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sunspark import run_directory, storage
from sunspark.config import as_json, from_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.job import Job, raise_unless_finished
from sunspark.launch.leases import LeaseBook
from sunspark.training.config import WorkConfig

_LEASE_SAMPLES: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAccuracy:
    """How one class fared."""

    name: str
    samples: int
    correct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """How a model did on a split; shares between 0 and 1, loss in nats, not finite when the model has diverged."""

    split: str
    samples: int
    top1: float
    top5: float
    mean_per_class: float
    loss: float
    seconds: float
    per_class: list[ClassAccuracy]


def evaluate(
    run: str, dataset: str | None = None, split: str = "test", config: LaunchConfig | None = None
) -> EvaluationResult:
    """Evaluate the finished model of `run` on every sample of a split, once each, over the workers.

    They are launched as those of the training were last, unless `config` says otherwise.
    Raises RunError when the run is not there, not finished, or has other classes than `dataset`.
    """
    run = storage.absolute(run)
    stored = run_directory.read_config(run)
    dataset = storage.absolute(dataset) if dataset else str(stored["dataset"])
    opened = Dataset.open(dataset)
    model = run_directory.model_description_file(run)
    if not storage.exists(model):
        raise RunError(f"{run} is not finished; run `sunspark train` on it to its end")
    if list(opened.classes) != run_directory.read_object(model).get("classes"):
        raise RunError(f"{run} was trained for other classes than {dataset} holds")
    num_samples = len(opened.rows(split))
    if num_samples == 0:
        raise ConfigError(f"the split {split!r} of {dataset} is empty; choose another with --split")
    leases = LeaseBook(
        ranges=[(b, min(b + _LEASE_SAMPLES, num_samples)) for b in range(0, num_samples, _LEASE_SAMPLES)]
    )
    started = time.monotonic()
    with Job(config or from_dict(LaunchConfig, stored["launch"]), run) as job:
        coordinator = job.open_coordinator(leases=leases)
        spec = job.spec("evaluate", dataset, split, from_dict(WorkConfig, stored["work"]))
        ending = job.work_off(coordinator, spec, None)
    raise_unless_finished(ending)
    result = _sum_up(list(leases.tallies.values()), opened.classes, split, time.monotonic() - started)
    storage.write_json_atomic(run_directory.evaluation_file(run, split), as_json(result))
    return result


def _sum_up(tallies: list[dict[str, Any]], classes: Sequence[str], split: str, seconds: float) -> EvaluationResult:
    def total(name: str) -> list[int]:
        return [sum(counts) for counts in zip(*(tally[name] for tally in tallies), strict=True)]

    samples, top1, top5 = total("samples"), total("top1"), total("top5")
    shares = [right / count for right, count in zip(top1, samples, strict=True) if count]
    return EvaluationResult(
        split=split,
        samples=sum(samples),
        top1=sum(top1) / sum(samples),
        top5=sum(top5) / sum(samples),
        mean_per_class=sum(shares) / len(shares),
        loss=sum(tally["loss_sum"] for tally in tallies) / sum(samples),
        seconds=seconds,
        per_class=[
            ClassAccuracy(name=name, samples=count, correct=right)
            for name, count, right in zip(classes, samples, top1, strict=True)
        ],
    )
