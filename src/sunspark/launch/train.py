"""Train on a dataset into a run, or go on with the run that is there."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from sunspark import run_directory, storage
from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.data.order import StepPlan
from sunspark.errors import ConfigError, RunError, StorageError
from sunspark.launch.config import TrainConfig
from sunspark.launch.display import Display
from sunspark.launch.excuses import Excuses
from sunspark.launch.job import Job, Onlooker, raise_unless_finished
from sunspark.launch.resume import (
    delete_abandoned_files,
    refuse_other_folders,
    refuse_swapped,
    settle,
    state_to_start_from,
    what_is_saved,
)
from sunspark.launch.roster import Note
from sunspark.launch.server import ServerInDriver
from sunspark.launch.start import write_start
from sunspark.launch.tracker import check_tracker, tracked
from sunspark.launch.watch import Watch, event_of
from sunspark.parallel.faults import Fault, refuse_pointless
from sunspark.records import (
    DRIVER,
    EventRecord,
    RecordWriter,
    driver_file,
    last_incarnation,
    num_recorded_again,
    read_in_pieces,
    worker_files,
)
from sunspark.training import checkpoint
from sunspark.training.config import WorkConfig, plan_of

logger = logging.getLogger(__name__)


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
    """The mean of this start. Displays and `watch` show that of the last minute."""
    workers: int
    """The most that took part in one step of this start; may be fewer than were asked for."""
    steps_redone: int
    """How often a step was done again in this start: its group broke, or all who had done it were gone, as far as
    records tell, which come up to two seconds late."""
    recoveries: int
    resumed_from_step: int
    dataset_id: str
    finished: bool


def train(dataset: str, run: str, config: TrainConfig, faults: Sequence[Fault] = ()) -> TrainResult:
    """Train on `dataset` into `run`, or go on with the run that is there.

    `faults` are injected into the workers, for tests of what a run survives.
    Raises RunError when the run may not be continued like this, WorkerError when workers fail for good, and
    KeyboardInterrupt when it is interrupted, after the workers have saved what they have.
    """
    dataset, run = storage.absolute(dataset), storage.absolute(run)
    refuse_swapped(dataset, run)
    opened = Dataset.open(dataset)
    refuse_other_folders(run, dataset)
    check_tracker(run, config.launch)
    with run_directory.only_driver(run):
        delete_abandoned_files(run)
        config = settle(run, dataset, opened, config)
        num_steps = plan_of(opened, config.work).num_steps
        refuse_pointless(faults, config.launch.workers, num_steps, has_server=config.work.strategy.has_server)
        if storage.exists(run_directory.result_file(run)):
            logger.warning("%s is finished already; choose another folder to train anew", run)
            return _stored_result(run)
        tell_surprises(config, plan_of(opened, config.work))
        with Job(config.launch, run) as job:
            write_start(dataset, run, config, plan_of(opened, config.work), job.num_workers)
            return _train(job, opened, dataset, run, config.work, tuple(faults))


def _stored_result(run: str) -> TrainResult:
    """What the training came to that is finished. Raises RunError when the file holds something else."""
    path = run_directory.result_file(run)
    try:
        return from_dict(TrainResult, run_directory.read_object(path))
    except ConfigError as error:
        raise RunError(
            f"{path} is damaged or was written by something else: {error}; "
            "delete it and start the training again, which goes on from its last checkpoint"
        ) from error


def tell_surprises(config: TrainConfig, plan: StepPlan) -> None:
    """What is as it was asked for, and perhaps not meant."""
    workers, replicas = config.launch.workers, plan.num_replicas
    if workers > replicas:
        logger.warning(
            "%d workers were asked for, and a step has --replicas %d: %d of them stand by, in case that another dies",
            workers, replicas, workers - replicas,
        )  # fmt: skip
    if config.strategy.compression != "none" and workers == 1 and not config.strategy.has_server:
        logger.warning(
            "--compression %s has no effect with one worker, which sends nothing", config.strategy.compression
        )
    every = config.strategy.steps_between_exchanges
    if isinstance(every, int) and every > plan.steps_per_epoch:
        logger.warning(
            "--sync-every %d is more than the %d steps of an epoch: it is the same as epoch",
            every,
            plan.steps_per_epoch,
        )


def _splits_of(work: WorkConfig) -> dict[str, str]:
    """The splits that a training works on, by the options that choose them."""
    evaluated = {"--eval-split": work.validation.split} if work.validation.eval_every else {}
    return {"--split": work.training.split} | evaluated


def _recorded_again(run: str) -> int:
    """How often the records hold a step that they held before; what is damaged stops no training."""
    if last_incarnation(run) <= 1:
        return 0  # nobody has died: nobody has done a step after another
    try:
        return num_recorded_again(record for uri in worker_files(run) for record in read_in_pieces(uri))
    except RunError as error:
        logger.warning("steps that were done again are not all counted: %s", error)
        return 0


def _stopped(step: int, cause: str) -> EventRecord:
    return event_of(Note(worker=DRIVER, incarnation=0, event="stopped", step=step, detail=cause))


@contextlib.contextmanager
def _saved_in_any_case(server: ServerInDriver | None) -> Iterator[None]:
    try:
        yield
    finally:
        if server is not None:
            server.save()


def _train(
    job: Job, opened: Dataset, dataset: str, run: str, work: WorkConfig, faults: tuple[Fault, ...]
) -> TrainResult:
    start = checkpoint.adopt_candidate(run)
    first_step = start.step if start else 0
    recorded_again = _recorded_again(run)  # by the starts before this one
    records = RecordWriter(driver_file(run))
    server = (
        ServerInDriver(run, opened, work, start.uri if start else None, records) if work.strategy.has_server else None
    )
    coordinator = job.open_coordinator(
        find_resume=(lambda _: None) if server else lambda is_alone: state_to_start_from(run, is_alone),
        service=server.server if server else None,
        excuses=Excuses(
            run=run,
            path_of=opened.path_of,
            needed={option: (split, opened.rows(split, option)) for option, split in _splits_of(work).items()},
        ),
    )
    spec = replace(job.spec("train", dataset, work.training.split, work), faults=faults)
    plan = plan_of(opened, work)
    coordinator.roster.step = first_step
    if start:
        records.write(event_of(Note(worker=DRIVER, incarnation=0, event="resumed", step=first_step, detail=start.uri)))
    display = Display(plan.num_steps, plan.num_epochs, plan.steps_per_epoch)
    if start:
        display.event(f"going on from step {first_step} of {plan.num_steps}")
    watch = Watch(records, display, plan, job.num_workers)
    onlookers: list[Onlooker] = [server, watch] if server else [watch]
    try:
        with tracked(run, plan, job.launch), _saved_in_any_case(server):
            ending = job.work_off(coordinator, spec, *onlookers)
        for place, fault in enumerate(faults):
            if place not in coordinator.faults_struck:
                logger.warning("a fault never struck, because its moment did not come (%s)", fault)
        if not ending.is_finished:
            records.write(_stopped(coordinator.roster.step, ending.cause))
    except StorageError as error:  # the driver itself could not write
        records.write(_stopped(coordinator.roster.step, str(error)))
        raise StorageError(f"{error}{what_is_saved(run) or '; nothing was saved'}") from error
    except KeyboardInterrupt:
        records.write(_stopped(coordinator.roster.step, "interrupted"))
        raise KeyboardInterrupt("interrupted" + (what_is_saved(run) or "; nothing was saved yet")) from None
    finally:
        records.close()
        display.close()
    raise_unless_finished(ending, "" if ending.recurs else what_is_saved(run))
    num_steps = coordinator.roster.step  # fewer than planned when training ended early
    done = sum(plan.num_samples_of(step) for step in range(first_step, num_steps))
    result = TrainResult(
        run=run,
        steps=num_steps,
        epochs=-(-num_steps // plan.steps_per_epoch),
        samples=sum(map(plan.num_samples_of, range(num_steps))),
        seconds=watch.seconds,
        images_per_second=done / watch.seconds if watch.seconds else 0.0,
        workers=coordinator.roster.most_workers,
        steps_redone=coordinator.roster.steps_redone + _recorded_again(run) - recorded_again,
        recoveries=coordinator.roster.recoveries,
        resumed_from_step=first_step,
        dataset_id=opened.id,
        finished=True,
    )
    storage.write_json_atomic(run_directory.result_file(run), asdict(result))
    with contextlib.suppress(StorageError):  # what is left there is of no use any more
        storage.delete(run_directory.rounds_folder(run))
    return result
