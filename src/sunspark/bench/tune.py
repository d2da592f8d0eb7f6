"""A search for a good configuration: trials that are trained, judged while they train, and ended early if they lag.

Proposes by a tree-structured Parzen estimator (Bergstra et al., NIPS 2011), ends by successive halving (Li et al.,
arXiv 1810.05934), both Optuna's. What it knows is in its storage: a search that was interrupted goes on with the same
command, its unfinished trials from their last checkpoints.

FOLDER/tune.json            what is searched, on which dataset and by whom, and where in Optuna's storage it is
FOLDER/study.db             Optuna's storage, unless another is named
FOLDER/trials/NUMBER        runs, as `sunspark train` leaves them
FOLDER/trials.json          what came of the trials, for the report
FOLDER/best.toml            the best configuration, for `sunspark train --config`
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, final

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from sunspark import run_directory, storage
from sunspark.bench.space import SpaceConfig, config_of, distributions_of, num_points
from sunspark.bench.study import Searched, open_study, place_of, search_file, study_errors, url_of
from sunspark.bench.trials import Trial, write_trials
from sunspark.config import refuse_other_seeds, seconds_of, to_dict, to_toml
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import TrainConfig
from sunspark.launch.own_folder import refuse_other_folders
from sunspark.launch.tail import RecordTail
from sunspark.launch.trial import TrialTask, run_trial
from sunspark.records import EvaluationRecord
from sunspark.training.strategies.config import StrategyConfig

_LOOK_SECONDS: Final = 1.0
_LOCK: Final = ".tune.lock"
_LEFT: Final = ("study.db", "study.db-journal")
"""By a start that was killed before there was a tune.json."""
_ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_REASON, _SECONDS = "reason", "seconds"
_MOST_FAILURES: Final = 5
"""In a row, after which a search ends: the next trial would fail too."""

logger = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """How a search is made."""

    trials: int = 24
    """How many, those of earlier starts included."""
    timeout: str = ""
    """Begin no trial after that time: 2h, 90min; if not given, there is none."""
    at_once: int = 0
    """Trials side by side, one worker each; 1: one after another, each on all workers of its configuration. 0: with
    Spark as many as it has slots, else 1."""
    storage: str = ""
    """URL of a storage of Optuna; if not given, a SQLite file in the folder, which must be on this machine then."""
    seed: int = 0
    """Of what is proposed."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.at_once < 0:
            raise ConfigError(f"trials must be at least 1 and at_once at least 0, got {self.trials} and {self.at_once}")
        refuse_other_seeds(self.seed, bits=32)
        if self.timeout:
            seconds_of("timeout", self.timeout)


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneResult:
    """What a search came to."""

    folder: str
    trials: int
    pruned: int
    failed: int
    best_trial: int
    best_top1: float
    best: dict[str, object]
    """Key -> value, of the space."""
    config_file: str


def tune(
    dataset: str, space: SpaceConfig, folder: str, config: TuneConfig, tell: Callable[[str], None] = lambda _: None
) -> TuneResult:
    """Search in `folder`, or go on with the search that is there. `tell` hears of each trial.

    Raises ConfigError when the space makes no sense, RunError when `folder` holds anything else or no trial came to
    an end, StorageError when Optuna's storage or that of a trial does not answer, WorkerError when Spark does not,
    KeyboardInterrupt.
    """
    dataset, folder = storage.absolute(dataset), storage.absolute(folder)
    opened = Dataset.open(dataset)
    base = config_of(space, {})
    opened.rows(base.validation.split, "eval_split")
    is_alone, url = _is_alone(base, config), url_of(folder, config.storage)
    refuse_other_folders(folder, dataset, "search", search_file(folder), _LEFT)
    if is_alone:
        _refuse_other_workers(space, base)
    refuse_other_folders(folder, dataset, "search", search_file(folder), _LEFT)
    searched = Searched(
        dataset_id=opened.id,
        space=json.loads(json.dumps(asdict(space))),
        trials_of="one worker" if is_alone else "all workers",
        storage=place_of(config.storage),
    )
    refusal = RunError(f"another `sunspark tune` works on {folder}; wait for it, or choose another folder")
    with storage.only_holder(folder, _LOCK, refusal), study_errors(url), ExitStack() as closers:
        study = open_study(folder, searched, url, config.seed)
        _tell_of_few_points(space, config)
        run, slots = _runner(base, config, closers)
        search = _Search(dataset, space, folder, config, tell, study, run, is_alone=is_alone)
        search.go(slots)
        return search.result()


def _is_alone(base: TrainConfig, config: TuneConfig) -> bool:
    """Whether each trial is one worker's; else it has all workers of the base."""
    return config.at_once > 1 or (config.at_once == 0 and base.launch.launcher == "spark")


def _refuse_other_workers(space: SpaceConfig, base: TrainConfig) -> None:
    """Raises ConfigError when the space holds what one worker alone has no use for; warns where it trains otherwise."""
    for key in distributions_of(space):
        if key.startswith(("strategy.", "launch.")):
            raise ConfigError(
                f"space.{key} would have no effect: trials run side by side, one worker each; "
                "give --at-once 1, and each has all workers of its configuration, or leave the key out"
            )
    strategy = base.strategy
    if strategy.strategy not in ("serial", "all_reduce") or strategy.compression != "none":
        logger.warning(
            "each trial is judged with one worker alone, and what is best there may not be with %s on %d workers; "
            "give --at-once 1, and each has all workers of its configuration",
            strategy.strategy if strategy.compression == "none" else f"compression {strategy.compression}",
            base.launch.workers,
        )


def _runner(base: TrainConfig, config: TuneConfig, closers: ExitStack) -> tuple[Callable[[TrialTask], str], int]:
    """What runs a trial, and how many of them at once."""
    if base.launch.launcher == "local" or config.at_once == 1:
        at_once = config.at_once or 1
        wanted = base.launch.cores_per_worker * (base.launch.workers if at_once == 1 else at_once)
        if base.launch.launcher == "local" and wanted > (cores := len(os.sched_getaffinity(0))):
            logger.warning("%d cores are wanted at once, and this machine has %d: trials take longer", wanted, cores)
        return run_trial, at_once
    from sunspark.launch.session import num_slots, open_session
    from sunspark.spark.trials import trial_on_spark

    session = closers.enter_context(open_session(base.launch.master, "sunspark tune"))
    slots = num_slots(session, base.launch.cores_per_worker, config.at_once or config.trials)
    return trial_on_spark(session, base.launch), max(1, min(slots, config.at_once or slots))


def _tell_of_few_points(space: SpaceConfig, config: TuneConfig) -> None:
    if (points := num_points(space)) < config.trials:
        logger.warning(
            "the space has %d configurations, and %d trials are asked for: some will be tried again; list more values, "
            "or give --trials %d or fewer",
            points,
            config.trials,
            points,
        )


@final
class _Search:
    """Threads that each ask for a trial, have it run, and tell what came of it; Optuna is asked by one at a time."""

    def __init__(
        self,
        dataset: str,
        space: SpaceConfig,
        folder: str,
        config: TuneConfig,
        tell: Callable[[str], None],
        study: optuna.Study,
        run: Callable[[TrialTask], str],
        *,
        is_alone: bool,
    ) -> None:
        """`is_alone`: each trial is one worker's."""
        self._dataset, self._space, self._folder, self._config = dataset, space, folder, config
        self._tell, self._run, self._is_alone = tell, run, is_alone
        self._distributions: Mapping[str, BaseDistribution] = distributions_of(space)
        self._study = study
        self._unfinished = study.get_trials(states=(TrialState.RUNNING,))
        self._asked = threading.Lock()
        self._is_over = threading.Event()
        self._failures_in_a_row = 0
        self._deadline = time.monotonic() + seconds_of("timeout", config.timeout) if config.timeout else float("inf")

    def go(self, at_once: int) -> None:
        """Make the trials that are missing. An error in one ends them all, which are taken up by the next start."""
        with ThreadPoolExecutor(at_once, thread_name_prefix="trial") as pool:
            workers = [pool.submit(self._make_trials) for _ in range(at_once)]
            try:
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                self._is_over.set()
        for worker in workers:
            worker.result()

    def result(self) -> TuneResult:
        """Of all trials. Raises RunError when none came to an end."""
        trials = self._trials()
        write_trials(self._folder, trials, self._study)
        ended = [trial for trial in trials if trial.state == "complete"]
        if not ended:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in trials if trial.reason)) or "there was no time"
            raise RunError(f"no trial came to its end: {reasons}")
        best = max(ended, key=lambda trial: trial.top1 or 0.0)
        config = self._config_of(best.values)
        uri = storage.join(self._folder, "best.toml")
        storage.write_bytes_atomic(uri, to_toml(to_dict(config)).encode())
        return TuneResult(
            folder=self._folder,
            trials=len(trials),
            pruned=sum(trial.state == "pruned" for trial in trials),
            failed=sum(trial.state == "failed" for trial in trials),
            best_trial=best.number,
            best_top1=best.top1 or 0.0,
            best=best.values,
            config_file=uri,
        )

    def _make_trials(self) -> None:
        while (trial := self._next()) is not None:
            number, began = trial.number, time.monotonic()
            chosen = ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
            self._tell(f"trial {number} ({number + 1} of {self._config.trials}): {chosen}")
            value, state, reason = self._judge(trial)
            if self._is_over.is_set() and state is not TrialState.COMPLETE:
                return  # it stays unfinished, and is taken up by the next start
            with self._asked:
                trial.set_user_attr(_REASON, reason)
                trial.set_user_attr(_SECONDS, time.monotonic() - began)
                self._study.tell(trial, value if state is TrialState.COMPLETE else None, state)
                self._failures_in_a_row = self._failures_in_a_row + 1 if state is TrialState.FAIL else 0
                write_trials(self._folder, self._trials(), self._study)
            words = {
                TrialState.COMPLETE: f"top-1 {value or 0.0:.2%}",
                TrialState.PRUNED: f"ended early at {value or 0.0:.2%}",
            }
            self._tell(f"trial {number}: {words.get(state, f'failed: {reason}')}")

    def _next(self) -> optuna.Trial | None:
        """A trial to make, those first that an earlier start has left; None: there are enough, or no time for more."""
        with self._asked:
            if self._is_over.is_set() or time.monotonic() > self._deadline:
                return None
            if self._failures_in_a_row >= _MOST_FAILURES:
                logger.warning("%d trials in a row have failed: the search ends", _MOST_FAILURES)
                return None
            if self._unfinished:
                return self._taken_up(self._unfinished.pop(0))
            if len(self._study.get_trials(deepcopy=False)) >= self._config.trials:
                return None
            return self._study.ask(dict(self._distributions))

    def _taken_up(self, left: FrozenTrial) -> optuna.Trial:
        """The same trial, under its number and in its folder; whoever was killed while it was drawn left values out."""
        trial = optuna.Trial(self._study, left._trial_id)
        for key, distribution in self._distributions.items():
            trial._suggest(key, distribution)
        return trial

    def _judge(self, trial: optuna.Trial) -> tuple[float | None, TrialState, str]:
        """Run it, and look at its evaluations meanwhile: its top-1, how it ended, and why it failed."""
        try:
            config = self._config_of(trial.params)
        except ConfigError as error:
            return None, TrialState.FAIL, str(error)
        task = self._task_of(trial, config)
        storage.delete(task.stop_file)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._run, task)
            try:
                top1s, damage = self._watch(trial, task, running, config), ""
            except RunError as error:  # its records are damaged
                storage.write_bytes_atomic(task.stop_file, b"")
                top1s, damage = {}, str(error)
            except BaseException:
                storage.write_bytes_atomic(task.stop_file, b"")  # else it would be waited for until its end
                raise
        storage.delete(task.stop_file)
        reason = running.result() or damage
        if reason or not top1s:
            return None, TrialState.FAIL, reason or "it was not evaluated"
        value = max(top1s.values()) if config.validation.keep == "best" else top1s[max(top1s)]
        has_ended = storage.exists(run_directory.result_file(task.run))
        return value, TrialState.COMPLETE if has_ended else TrialState.PRUNED, ""

    def _task_of(self, trial: optuna.Trial, config: TrainConfig) -> TrialTask:
        if self._is_alone:
            launch = replace(config.launch, launcher="local", master=None, workers=1)
            config = replace(config, launch=launch, strategy=StrategyConfig(strategy="serial"))
        run = storage.join(self._folder, "trials", str(trial.number))
        return TrialTask(dataset=self._dataset, run=run, config=to_dict(config))

    def _watch(
        self, trial: optuna.Trial, task: TrialTask, running: "Future[str]", config: TrainConfig
    ) -> dict[int, float]:
        """Until it has ended, stop it when it lags or the search is over: top-1 by the number of the evaluation.

        Raises RunError when its records are damaged: nobody can tell then how good it is.
        The pruner hears of each evaluation once, and is asked after each, so that a rung holds what was found there.
        After the last one there is nothing left to save by ending early.
        """
        every, last = config.validation.eval_every, _last_number(config)
        records, top1s, is_stopped = RecordTail(task.run), dict[int, float](), False
        with self._asked:
            told = max(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)
            lags = (
                bool(told) and trial.should_prune() and told < last
            )  # an earlier start may have been killed before it asked
        while True:
            is_done = running.done()
            for record in records.read_new():
                if isinstance(record, EvaluationRecord):
                    top1s[-(-record.epoch // every)] = record.top1
            for number in sorted(number for number in top1s if number > told):
                with self._asked:
                    trial.report(top1s[number], number)
                    lags = (trial.should_prune() and number < last) or lags
                told = number
            if is_done:
                return top1s
            if (lags or self._is_over.is_set()) and not is_stopped:
                storage.write_bytes_atomic(task.stop_file, b"")
                is_stopped = True
            wait([running], _LOOK_SECONDS)

    def _config_of(self, values: Mapping[str, Any]) -> TrainConfig:
        """The training with these values; as many replicas as its workers would have, also where one works alone."""
        config = config_of(self._space, values)
        training = config.training
        replicas = training.replicas or min(config.launch.workers, training.global_batch_size)
        return replace(config, training=replace(training, replicas=replicas))

    def _trials(self) -> list[Trial]:
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        return [
            Trial(
                number=one.number,
                state=names[one.state],
                top1=one.value if one.value is not None else _last(one.intermediate_values),
                values=dict(one.params),
                curve=self._curve_of(one),
                reason=str(one.user_attrs.get(_REASON, "")),
                seconds=float(one.user_attrs.get(_SECONDS, 0.0)),
            )
            for one in self._study.get_trials(deepcopy=False, states=_ENDED)
        ]

    def _curve_of(self, trial: FrozenTrial) -> list[tuple[int, float]]:
        """By epochs; the last evaluation may come before its turn, at the end."""
        if not trial.intermediate_values:
            return []
        config = self._config_of(trial.params)
        every, epochs = config.validation.eval_every, config.training.epochs
        return [(min(number * every, epochs), top1) for number, top1 in sorted(trial.intermediate_values.items())]


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _last_number(config: TrainConfig) -> int:
    """Of the evaluations of a training that comes to its end."""
    return -(-config.training.epochs // config.validation.eval_every)


def _last(values: Mapping[int, float]) -> float | None:
    return values[max(values)] if values else None
