"""Evaluate the model of a finished run: every sample of a split once, over the workers."""

import contextlib
import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final, final

from sunspark import run_directory, storage
from sunspark.config import as_json, from_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, RunError, plural
from sunspark.launch.config import LaunchConfig
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.excuses import Excuses
from sunspark.launch.job import Job, raise_unless_finished
from sunspark.launch.tracker import check_tracker, track_evaluation
from sunspark.launch.watch import EvaluationWatch
from sunspark.parallel.leases import LeaseBook
from sunspark.training.config import WorkConfig
from sunspark.training.tally import NOTHING, Sighting, Tally

_LEASE_SAMPLES: Final = 256
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAccuracy:
    """How one class fared."""

    name: str
    samples: int
    correct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """An image of the split, and what the model took it for."""

    path: str
    """Relative to the source of the dataset."""
    row: int
    """Row of the dataset."""
    label: int
    """The class it is of, as a place in `per_class`."""
    predicted: int
    """The class it was taken for."""
    probability: float
    """What the model gave that class, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """How a model did on a split; shares between 0 and 1, loss in nats, not finite when the model has diverged."""

    split: str
    dataset: str
    dataset_id: str
    samples: int
    """Images that were counted."""
    excused: int
    """Images that were left out, because decoding them kills the process that does it; they and `samples` are all."""
    top1: float
    top5: float
    mean_per_class: float
    loss: float
    seconds: float
    per_class: list[ClassAccuracy]
    """In the order of the labels."""
    confusion: list[tuple[int, int, int]]
    """(label, predicted, samples) of every pair of classes that occurred, in order."""
    mistakes: list[Example]
    """The mistakes of which the model was surest."""
    right: list[Example]
    """Some images that it recognised, drawn at random, the same at every evaluation."""


def evaluate(
    run: str, dataset: str | None = None, split: str = "test", config: LaunchConfig | None = None
) -> EvaluationResult:
    """Evaluate the finished model of `run` on every sample of a split, once each, over the workers.

    They are launched as those of the training were last, unless `config` says otherwise.
    Images that kill the process that decodes them are left out. Those of the run's own dataset are known from its
    training and from earlier evaluations, and kept for the next.
    Raises RunError when the run is not there, not finished, or has other classes than `dataset`.
    """
    run = storage.absolute(run)
    stored = run_directory.read_config(run)
    dataset = storage.absolute(dataset) if dataset else str(stored["dataset"])
    opened = Dataset.open(dataset)
    model = run_directory.model_description_file(run)
    if not storage.exists(model):
        raise run_directory.not_finished(run)
    if list(opened.classes) != run_directory.read_object(model).get("classes"):
        raise RunError(f"{run} was trained for other classes than {dataset} holds")
    num_samples = len(opened.rows(split))
    if num_samples == 0:
        raise ConfigError(f"the split {split!r} of {dataset} is empty; choose another with --split")
    work = from_dict(WorkConfig, stored["work"])
    if opened.id == stored["dataset_id"]:
        _warn_of_trained_images(opened, split, work.training.split)
    launch = config or from_dict(LaunchConfig, stored["launch"])
    check_tracker(run, launch)
    total = _Total()
    leases = LeaseBook(
        ranges=[(b, min(b + _LEASE_SAMPLES, num_samples)) for b in range(0, num_samples, _LEASE_SAMPLES)],
        count=total.add,
    )
    excuses = Excuses(
        run=run if opened.id == stored["dataset_id"] else None,
        path_of=opened.path_of,
        needed={"--split": (split, opened.rows(split))},
    )
    started = time.monotonic()
    display = CountDisplay("images", num_samples)
    workers = plural(launch.workers, "worker")
    display.event(f"{plural(num_samples, 'image')} in the split {split}; starting {workers} ({launch.launcher})")
    with Job(launch, run) as job, contextlib.closing(display):
        coordinator = job.open_coordinator(leases=leases, excuses=excuses)
        spec = job.spec("evaluate", dataset, split, work)
        ending = job.work_off(coordinator, spec, EvaluationWatch(display, leases))
    raise_unless_finished(ending)
    result = _sum_up(total.tally, opened, split, time.monotonic() - started)
    storage.write_json_atomic(run_directory.evaluation_file(run, split), as_json(result))
    if launch.tracker == "tensorboard":
        track_evaluation(run, result)
    return result


def _warn_of_trained_images(opened: Dataset, split: str, trained: str) -> None:
    if shared := opened.num_shared(split, trained):
        logger.warning(
            "%d of the %d images of the split %s are in %s, which the run was trained on: "
            "accuracy on new images is lower; choose a split without them with --split",
            shared, len(opened.rows(split)), split, trained,
        )  # fmt: skip


@final
class _Total:
    """The sum of the tallies that were handed in."""

    def __init__(self) -> None:
        self.tally = NOTHING

    def add(self, plain: dict[str, Any]) -> None:
        self.tally += Tally.from_plain(plain)


def _sum_up(tally: Tally, dataset: Dataset, split: str, seconds: float) -> EvaluationResult:
    num_samples = len(dataset.rows(split))
    samples, right = Counter[int](), Counter[int]()
    for (label, predicted), count in tally.confusion.items():
        samples[label] += count
        right[label] += count * (label == predicted)
    shares = [right[label] / count for label, count in samples.items()]
    return EvaluationResult(
        split=split,
        dataset=dataset.uri,
        dataset_id=dataset.id,
        samples=samples.total(),
        excused=num_samples - samples.total(),
        top1=right.total() / samples.total(),
        top5=tally.top5 / samples.total(),
        mean_per_class=sum(shares) / len(shares),
        loss=tally.loss_sum / samples.total(),
        seconds=seconds,
        per_class=[
            ClassAccuracy(name=name, samples=samples[label], correct=right[label])
            for label, name in enumerate(dataset.classes)
        ],
        confusion=[(*pair, count) for pair, count in sorted(tally.confusion.items())],
        mistakes=[_example(one, dataset) for one in tally.mistakes],
        right=[_example(one, dataset) for one in tally.right],
    )


def _example(one: Sighting, dataset: Dataset) -> Example:
    return Example(path=dataset.path_of(one.row), **asdict(one))
