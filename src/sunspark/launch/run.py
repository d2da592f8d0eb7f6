"""A run from the driver's side: train, resume, evaluate.

RUN/config.json          what is trained on which dataset, and how it was launched last; decides whether a run may be
                         continued
RUN/checkpoints/         states of steps that count
RUN/candidates/          states that orphaned workers saved
RUN/records/             steps and events, one file per worker process and one of the driver
RUN/model/               the finished network
RUN/result.json          what `train` returned
RUN/evaluation-<split>.json
"""

import contextlib
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, Protocol

import torch

from sunspark import storage
from sunspark.config import differences, from_dict, to_dict
from sunspark.data.dataset import Dataset
from sunspark.data.order import StepPlan
from sunspark.errors import ConfigError, DeadlineError, RunError, SetupError, UserError, WorkerError
from sunspark.launch.coordinator import Coordinator, Ending, LeaseBook, Note, Roster
from sunspark.launch.display import Display, ProgressSnapshot
from sunspark.launch.local import LocalLauncher
from sunspark.models import build_model
from sunspark.parallel.faults import Fault
from sunspark.parallel.membership import Lighthouse
from sunspark.records import DRIVER, EventRecord, RecordWriter, driver_file, last_incarnation
from sunspark.training import checkpoint
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.spec import WorkerSpec

logger = logging.getLogger(__name__)

_JOIN_SECONDS: Final = 45.0
_LEASE_SAMPLES: Final = 256
_FORMAT: Final = "sunspark-run-1"
_MAY_CHANGE: Final = (
    "training.checkpoint_every",
    "data.cache_directory",
    "data.cache_bytes",
    "data.prefetch_bytes",
    "data.prefetch_steps",
    "data.load_deadline_seconds",
    "data.lock_deadline_seconds",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchConfig:
    """Where and how workers are started; may change from one start of a run to the next."""

    launcher: Literal["spark", "local"] = "spark"
    """spark: as tasks of a Spark cluster. local: as processes of this machine, without Spark and Java."""
    master: str | None = None
    """Spark master, for instance local[4]; if not given, the one Spark is configured with, else local[*]."""
    workers: int = 2
    """Worker processes."""
    cores_per_worker: int = 1
    """Threads of each worker."""
    start_timeout: float = 120.0
    """How long the first step waits for all workers, and the run for any worker at all (seconds)."""
    gradient_path: Literal["auto", "network"] = "auto"
    """auto: workers that are all on one machine sum gradients in memory they share. network: always over sockets."""
    host: str | None = None
    """Address of this machine that workers reach; if not given, Spark's driver address, or 127.0.0.1."""
    port: int = 0
    """Port of the coordinator; the lighthouse takes the next one. 0: any two that are free."""

    def __post_init__(self) -> None:
        for name in ("workers", "cores_per_worker"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.start_timeout <= 0:
            raise ConfigError(f"start_timeout must be above 0 s, got {self.start_timeout}")
        if not 0 <= self.port < 65535:
            raise ConfigError(f"port must be between 0 and 65534, got {self.port}")
        if self.launcher == "local" and self.master:
            raise ConfigError(f"--master {self.master} has no effect with --launcher local; leave one of them out")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(WorkConfig):
    """All of a training run."""

    launch: LaunchConfig = field(default_factory=LaunchConfig)

    def __post_init__(self) -> None:
        if self.training.strategy == "serial" and self.launch.workers != 1:
            raise ConfigError(f"strategy serial is for one worker, got {self.launch.workers}; use --workers 1")

    @property
    def work(self) -> WorkConfig:
        """The part that decides what is computed."""
        return WorkConfig(model=self.model, optim=self.optim, data=self.data, training=self.training)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a training came to."""

    run: str
    steps: int
    epochs: int
    samples: int
    """Samples applied over the whole run."""
    seconds: float
    """From the first step of this start to the end."""
    images_per_second: float
    """Of this start."""
    workers: int
    steps_redone: int
    recoveries: int
    resumed_from_step: int
    dataset_id: str
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAccuracy:
    """How one class fared."""

    name: str
    samples: int
    correct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """How a model did on a split; shares between 0 and 1, loss in nats."""

    split: str
    samples: int
    top1: float
    top5: float
    mean_per_class: float
    loss: float
    seconds: float
    per_class: list[ClassAccuracy]


class _Launcher(Protocol):
    def start(self, spec: WorkerSpec, num_workers: int) -> None: ...
    def join(self, timeout_seconds: float) -> None: ...


def train(dataset: str, run: str, config: TrainConfig, faults: Sequence[Fault] = ()) -> TrainResult:
    """Train on `dataset` into `run`, or go on with the run that is there.

    `faults` are injected into the workers, for tests of what a run survives.
    Raises RunError when the run may not be continued like this, WorkerError when workers fail for good, and
    KeyboardInterrupt when it is interrupted, after the workers have saved what they have.
    """
    dataset, run = storage.absolute(dataset), storage.absolute(run)
    opened = Dataset.open(dataset)
    with _only_driver(run):
        work = _settle(run, dataset, opened, config)
        if storage.exists(storage.join(run, "result.json")):
            logger.warning("%s is finished already; choose another folder to train anew", run)
            return TrainResult(**storage.read_json(storage.join(run, "result.json")))
        with _Job(config.launch, run) as job:
            return _train(job, opened, dataset, run, work, tuple(faults))


def evaluate(
    run: str, dataset: str | None = None, split: str = "test", config: LaunchConfig | None = None
) -> EvaluationResult:
    """Evaluate the finished model of `run` on every sample of a split, once each, over the workers.

    They are launched as those of the training were last, unless `config` says otherwise.
    Raises RunError when the run is not there, not finished, or has other classes than `dataset`.
    """
    run = storage.absolute(run)
    stored = _read_config(run)
    dataset = storage.absolute(dataset) if dataset else str(stored["dataset"])
    opened = Dataset.open(dataset)
    description = _read_json(run, "model/config.json", "is not finished; run `sunspark train` on it to its end")
    if list(opened.classes) != description["classes"]:
        raise RunError(f"{run} was trained for other classes than {dataset} holds")
    num_samples = len(opened.rows(split))
    if num_samples == 0:
        raise ConfigError(f"the split {split!r} of {dataset} is empty; choose another with --split")
    leases = LeaseBook(
        ranges=[(b, min(b + _LEASE_SAMPLES, num_samples)) for b in range(0, num_samples, _LEASE_SAMPLES)]
    )
    started = time.monotonic()
    with _Job(config or from_dict(LaunchConfig, stored["launch"]), run) as job:
        coordinator = job.open_coordinator(leases=leases)
        spec = job.spec("evaluate", dataset, split, from_dict(WorkConfig, stored["work"]))
        ending = job.work_off(coordinator, spec, None)
    _raise_unless_finished(ending)
    result = _sum_up(list(leases.tallies.values()), opened.classes, split, time.monotonic() - started)
    storage.write_json_atomic(storage.join(run, f"evaluation-{split}.json"), asdict(result))
    return result


def _train(
    job: "_Job", opened: Dataset, dataset: str, run: str, work: WorkConfig, faults: tuple[Fault, ...]
) -> TrainResult:
    start = checkpoint.adopt_candidate(run)
    first_step = start.step if start else 0
    coordinator = job.open_coordinator(find_resume=lambda is_alone: _state_to_start_from(run, is_alone))
    spec = replace(job.spec("train", dataset, work.training.split, work), faults=faults)
    plan = plan_of(opened, work)
    coordinator.roster.step = first_step
    records = RecordWriter(driver_file(run))
    if start:
        records.write(_event_of(Note(worker=DRIVER, incarnation=0, event="resumed", step=first_step, detail=start.uri)))
    display = Display(plan.num_steps, plan.num_epochs, plan.steps_per_epoch)
    watch = _Watch(records, display, plan, job.num_workers)
    try:
        ending = job.work_off(coordinator, spec, watch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted" + _what_is_saved(run)) from None
    finally:
        records.close()
        display.close()
    _raise_unless_finished(ending, _what_is_saved(run))
    done = sum(plan.num_samples_of(step) for step in range(first_step, plan.num_steps))
    result = TrainResult(
        run=run,
        steps=plan.num_steps,
        epochs=plan.num_epochs,
        samples=plan.num_samples * plan.num_epochs,
        seconds=watch.seconds,
        images_per_second=done / watch.seconds if watch.seconds else 0.0,
        workers=job.num_workers,
        steps_redone=coordinator.roster.steps_redone,
        recoveries=coordinator.roster.recoveries,
        resumed_from_step=first_step,
        dataset_id=opened.id,
        finished=True,
    )
    storage.write_json_atomic(storage.join(run, "result.json"), asdict(result))
    return result


class _Watch:
    """Turns what the coordinator knows into the display and the driver's records."""

    def __init__(self, records: RecordWriter, display: Display, plan: StepPlan, expected: int) -> None:
        self._records = records
        self._display = display
        self._plan = plan
        self._expected = expected
        self._begun: float | None = None
        self._last = 0.0
        self._step = 0
        self._samples = 0
        self._alive = 0

    @property
    def seconds(self) -> float:
        """From the first step to the last look (seconds)."""
        return self._last - self._begun if self._begun is not None else 0.0

    def look(self, coordinator: Coordinator) -> None:
        now, roster = time.monotonic(), coordinator.roster
        for note in coordinator.take_notes():
            self._records.write(_event_of(note))
            self._display.event(_sentence_of(note))
        if not roster.may_go:
            return
        if self._begun is None:
            self._begun, self._step = now, roster.step
        self._last = now
        self._samples += sum(self._plan.num_samples_of(step) for step in range(self._step, roster.step))
        self._step = roster.step
        if roster.ending is None:
            self._alive = len(roster.alive(now))
        self._display.update(
            ProgressSnapshot(
                step=roster.step,
                loss=roster.report.get("loss"),
                images_per_second=self._samples / max(1e-9, self.seconds),
                workers_alive=self._alive,
                workers_expected=self._expected,
                learning_rate=roster.report.get("learning_rate"),
            )
        )


class _Job:
    """Workers for one task: a launcher, a lighthouse and a coordinator, all closed at the end."""

    def __init__(self, launch: LaunchConfig, run: str) -> None:
        self._launch = launch
        self._run = run
        self._token = secrets.token_urlsafe(32)
        self._closers = contextlib.ExitStack()
        self._coordinator: Coordinator | None = None
        self._lighthouse = ""

    def __enter__(self) -> "_Job":
        with self._closers:
            self._host, self.num_workers = "127.0.0.1", self._launch.workers
            self._session: Any = None
            if self._launch.launcher == "spark":
                self._open_spark()
            self._host = self._launch.host or self._host
            self._closers = self._closers.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closers.close()

    def _open_spark(self) -> None:
        from sunspark.launch.session import driver_address, num_slots, open_session

        self._session = self._closers.enter_context(open_session(self._launch.master, "sunspark"))
        self._host = driver_address(self._session)
        slots = num_slots(self._session, self._launch.cores_per_worker, self._launch.workers)
        master = self._session.sparkContext.master
        if slots < 1:
            raise SetupError(
                f"Spark ({master}) has no slot for a worker of {self._launch.cores_per_worker} cores; "
                "give it more cores, or lower --cores-per-worker"
            )
        if slots < self.num_workers:
            logger.warning(
                "%d workers of %d cores were asked for, Spark (%s) has slots for %d: training with %d",
                self.num_workers, self._launch.cores_per_worker, master, slots, slots,
            )  # fmt: skip
            self.num_workers = slots

    def open_coordinator(self, **options: Any) -> Coordinator:
        """The coordinator of this job, and a lighthouse beside it."""
        roster = Roster(self.num_workers, self._launch.start_timeout, time.monotonic(), last_incarnation(self._run))
        self._coordinator = Coordinator(
            host=self._host, port=self._launch.port, token=self._token, roster=roster, **options
        )
        self._closers.callback(self._coordinator.close)
        lighthouse = Lighthouse(self._host, self._launch.port and self._launch.port + 1)
        self._closers.callback(lighthouse.close)
        self._lighthouse = lighthouse.address
        return self._coordinator

    def spec(self, task: Literal["train", "evaluate"], dataset: str, split: str, work: WorkConfig) -> WorkerSpec:
        assert self._coordinator is not None
        return WorkerSpec(
            task=task,
            coordinator=self._coordinator.uri,
            lighthouse=self._lighthouse,
            token=self._token,
            run=self._run,
            dataset=dataset,
            split=split,
            cores=self._launch.cores_per_worker,
            gradient_path=self._launch.gradient_path,
            work=to_dict(work),
        )

    def work_off(self, coordinator: Coordinator, spec: WorkerSpec, watch: _Watch | None) -> Ending:
        """Start the workers and wait for the end of their task.

        Raises KeyboardInterrupt when it was interrupted, after the workers have saved what they have and are gone.
        """
        launcher = self._launcher(coordinator)
        try:
            launcher.start(spec, self.num_workers)
            while (ending := coordinator.roster.ending) is None:
                time.sleep(0.1)
                coordinator.check()
                if watch:
                    watch.look(coordinator)
        except KeyboardInterrupt:
            coordinator.stop(Ending(is_finished=False, cause="interrupted"))
            self._wait_for_workers(launcher, coordinator, watch)
            raise
        self._wait_for_workers(launcher, coordinator, watch)
        return ending

    def _wait_for_workers(self, launcher: _Launcher, coordinator: Coordinator, watch: _Watch | None) -> None:
        try:
            launcher.join(_JOIN_SECONDS)
        except DeadlineError as error:
            logger.warning("%s", error)
        if watch:
            watch.look(coordinator)

    def _launcher(self, coordinator: Coordinator) -> _Launcher:
        if self._session is None:
            return LocalLauncher()
        from sunspark.launch.spark import SparkLauncher

        return SparkLauncher(self._session, has_ended=lambda: coordinator.roster.ending is not None)


def _settle(run: str, dataset: str, opened: Dataset, config: TrainConfig) -> WorkConfig:
    """The work of this run: that of its first start, which `config` may not contradict.

    Everything is checked before RUN/config.json is written: a mistake must not leave a run that nobody can start.
    It is written at every start: what may change is there as it was last.
    """
    path = storage.join(run, "config.json")
    if storage.exists(path):
        work = _continued(run, dataset, opened, config.work)
    else:
        work = _resolve(config.work, config.launch.workers)
    _check(run, opened, work)
    storage.write_json_atomic(
        path, {"format": _FORMAT, "dataset": dataset, "dataset_id": opened.id, "work": to_dict(work),
               "launch": to_dict(config.launch)}
    )  # fmt: skip
    return work


def _continued(run: str, dataset: str, opened: Dataset, work: WorkConfig) -> WorkConfig:
    """The work of a run that was started before. Raises RunError when it is another one now."""
    stored = _read_config(run)
    if stored["dataset_id"] != opened.id:
        raise RunError(
            f"{run} was started with dataset {stored['dataset_id'][:12]}, {dataset} is {opened.id[:12]}; "
            "give the same dataset, or another folder for the run"
        )
    before = from_dict(WorkConfig, stored["work"])
    now = _keep_settled(work, before)
    changed = [d for d in differences(before, now) if d[0] not in _MAY_CHANGE]
    if changed:
        details = "; ".join(f"{key} was {old!r}, now {new!r}" for key, old, new in changed)
        raise RunError(f"{run} was started with another configuration: {details}. Give the old one, or another folder")
    return now


def _check(run: str, opened: Dataset, work: WorkConfig) -> None:
    """Find the user's mistakes that workers would meet. Raises what they would raise."""
    plan_of(opened, work)
    with torch.device("meta"):  # no memory, no numbers: the arguments are what is tried
        build_model(
            work.model, num_classes=len(opened.classes), image_size=work.data.image_size, seed=work.training.seed
        )
    storage.append_text(driver_file(run)).close()


def _resolve(work: WorkConfig, workers: int) -> WorkConfig:
    """What `auto` and 0 stand for, settled once for all workers and all later starts."""
    training = work.training
    dtype = training.dtype if training.dtype != "auto" else ("bf16" if _has_fast_bf16() else "float32")
    return replace(work, training=replace(training, dtype=dtype, replicas=training.replicas or workers))


def _keep_settled(work: WorkConfig, before: WorkConfig) -> WorkConfig:
    training = work.training
    dtype = before.training.dtype if training.dtype == "auto" else training.dtype
    return replace(
        work, training=replace(training, dtype=dtype, replicas=training.replicas or before.training.replicas)
    )


def _has_fast_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _read_config(run: str) -> dict[str, Any]:
    stored = _read_json(run, "config.json", "is not a run; the folder that `sunspark train` made is needed")
    if stored.get("format") != _FORMAT:
        raise RunError(f"{run} has the format {stored.get('format')!r}, this version reads {_FORMAT!r}")
    return stored


def _read_json(run: str, name: str, what_is_wrong: str) -> dict[str, Any]:
    path = storage.join(run, name)
    if not storage.exists(path):
        raise RunError(f"{run} {what_is_wrong}")
    stored: dict[str, Any] = storage.read_json(path)
    return stored


def _what_is_saved(run: str) -> str:
    """For the end of a message: how far the next start goes on from; nothing when it begins anew."""
    saved = [state.step for state in (*checkpoint.checkpoints(run), *checkpoint.candidates(run))]
    return f"; {max(saved)} steps are saved, and `sunspark train` goes on from there: {run}" if any(saved) else ""


def _raise_unless_finished(ending: Ending, addition: str = "") -> None:
    if not ending.is_finished:
        raise (UserError if ending.is_users_mistake else WorkerError)(ending.cause + addition)


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


def _event_of(note: Note) -> EventRecord:
    return EventRecord(
        worker=note.worker,
        incarnation=note.incarnation,
        time_unix_seconds=time.time(),
        step=note.step,
        event=note.event,  # type: ignore[arg-type]
        detail=note.detail,
    )


def _sentence_of(note: Note) -> str:
    who = f"worker {note.worker}" if note.worker != DRIVER else "the run"
    return f"{who} {note.event} at step {note.step}" + (f": {note.detail}" if note.detail else "")


def _state_to_start_from(run: str, is_alone: bool) -> str | None:
    """The newest checkpoint; where no worker lives, the best candidate becomes it first."""
    if is_alone:
        checkpoint.adopt_candidate(run)
    published = checkpoint.checkpoints(run)
    return published[-1].uri if published else None


@contextlib.contextmanager
def _only_driver(run: str) -> Iterator[None]:
    """Refuse a second driver of the same run, where the file system can tell."""
    import fcntl

    storage.make_directory(run)
    local = storage.as_local_path(run)
    if local is None:
        yield
        return
    with open(local / ".driver.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another `sunspark train` works on {run}; wait for it, or choose another folder") from None
        yield
