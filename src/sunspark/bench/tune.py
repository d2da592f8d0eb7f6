"""A search for a good configuration: trials that are trained, judged while they train, and ended early if they lag.

Proposes by a tree-structured Parzen estimator (Bergstra et al., NIPS 2011), ends by successive halving (Li et al.,
arXiv 1810.05934), both Optuna's. What it knows is in its storage: a search that was interrupted goes on with the same
command, its unfinished trials from their last checkpoints.

FOLDER/tune.json            what is searched, and on which dataset
FOLDER/study.db             Optuna's storage, unless another is named
FOLDER/trials/NUMBER        runs, as `sunspark train` leaves them
FOLDER/trials.json          what came of the trials, for the report
FOLDER/best.toml            the best configuration, for `sunspark train --config`
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, final

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from sunspark import run_directory, storage
from sunspark.bench.space import SpaceConfig, config_of, distributions_of
from sunspark.bench.trials import Trial, write_trials
from sunspark.config import flatten, seconds_of, to_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import TrainConfig
from sunspark.launch.trial import TrialTask, run_trial
from sunspark.records import EvaluationRecord, read_records
from sunspark.training.strategies.config import StrategyConfig

_LOOK_SECONDS: Final = 1.0
_LOCK: Final = ".tune.lock"
_REDUCTION: Final = 3
"""Of the trials that come to a rung, one in so many goes on."""
_ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_RUN, _REASON, _TAKEN_UP = "run", "reason", "taken_up"
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
    """Trials side by side, one worker each; 1: one after another, each on all workers of the base. 0: with Spark as
    many as it has slots, else 1."""
    storage: str = ""
    """URL of a storage of Optuna; if not given, a SQLite file in the folder."""
    seed: int = 0
    """Of what is proposed."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.at_once < 0:
            raise ConfigError(f"trials must be at least 1 and at_once at least 0, got {self.trials} and {self.at_once}")
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

    Raises ConfigError when the space makes no sense, RunError when `folder` holds another search or no trial came to
    an end, KeyboardInterrupt.
    """
    dataset, folder = storage.absolute(dataset), storage.absolute(folder)
    opened = Dataset.open(dataset)
    base = config_of(space, {})
    opened.rows(base.validation.split)
    is_alone = _is_alone(base, config)
    if is_alone:
        _refuse_other_workers(space, base)
    refusal = RunError(f"another `sunspark tune` works on {folder}; wait for it, or choose another folder")
    with storage.only_holder(folder, _LOCK, refusal), ExitStack() as closers:
        _claim(folder, {"dataset_id": opened.id, "space": json.loads(json.dumps(asdict(space)))})
        run, slots = _runner(base, config, closers)
        search = _Search(dataset, space, folder, config, tell, run, is_alone=is_alone)
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
        return run_trial, config.at_once or 1
    from sunspark.launch.session import num_slots, open_session
    from sunspark.spark.trials import trial_on_spark

    session = closers.enter_context(open_session(base.launch.master, "sunspark tune"))
    slots = num_slots(session, base.launch.cores_per_worker, config.at_once or config.trials)
    return trial_on_spark(session), max(1, min(slots, config.at_once or slots))


def _claim(folder: str, searched: dict[str, Any]) -> None:
    """Write down what is searched. Raises RunError when it is another search that is there."""
    uri = storage.join(folder, "tune.json")
    if storage.exists(uri) and run_directory.read_object(uri) != searched:
        raise RunError(f"{folder} holds the search of another space, or on another dataset; choose another folder")
    storage.write_json_atomic(uri, searched)


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
        run: Callable[[TrialTask], str],
        *,
        is_alone: bool,
    ) -> None:
        """`is_alone`: each trial is one worker's."""
        self._dataset, self._space, self._folder, self._config = dataset, space, folder, config
        self._tell, self._run, self._is_alone = tell, run, is_alone
        self._distributions: Mapping[str, BaseDistribution] = distributions_of(space)
        self._study = _open_study(folder, config)
        self._asked = threading.Lock()
        self._is_over = threading.Event()
        self._failures_in_a_row = 0
        self._deadline = time.monotonic() + seconds_of("timeout", config.timeout) if config.timeout else float("inf")

    def go(self, at_once: int) -> None:
        """Make the trials that are missing."""
        self._take_up_unfinished()
        with ThreadPoolExecutor(at_once, thread_name_prefix="trial") as pool:
            workers = [pool.submit(self._make_trials) for _ in range(at_once)]
            try:
                for worker in workers:
                    worker.result()
            except BaseException:
                self._is_over.set()
                raise

    def result(self) -> TuneResult:
        """Of all trials. Raises RunError when none came to an end."""
        trials = self._trials()
        ended = [trial for trial in trials if trial.state == "complete"]
        if not ended:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in trials if trial.reason)) or "there was no time"
            raise RunError(f"no trial came to its end: {reasons}")
        best = max(ended, key=lambda trial: trial.top1 or 0.0)
        config = self._config_of(best.values)
        uri = storage.join(self._folder, "best.toml")
        given = [(key, value) for key, value in flatten(to_dict(config)) if value is not None]
        storage.write_bytes_atomic(uri, "".join(f"{key} = {json.dumps(value)}\n" for key, value in given).encode())
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

    def _take_up_unfinished(self) -> None:
        """Trials that were under way when an earlier start ended are tried again, in the folders that they have."""
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.enqueue_trial(trial.params, user_attrs={_RUN: self._folder_of(trial)})
            self._study.set_user_attr(_TAKEN_UP, [*self._taken_up, trial.number])
            self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def _taken_up(self) -> list[int]:
        """Trials that count no more, since they were begun again under another number."""
        return list(self._study.user_attrs.get(_TAKEN_UP, []))

    def _make_trials(self) -> None:
        while (trial := self._next()) is not None:
            number, run = trial.number, self._folder_of(trial)
            self._tell(f"trial {number}: {', '.join(f'{key}={value}' for key, value in trial.params.items())}")
            try:
                value, state, reason = self._judge(trial, run)
            except ConfigError as error:
                value, state, reason = None, TrialState.FAIL, str(error)
            if self._is_over.is_set() and state is not TrialState.COMPLETE:
                return  # it stays unfinished, and is taken up by the next start
            with self._asked:
                trial.set_user_attr(_REASON, reason)
                self._study.tell(trial, value if state is TrialState.COMPLETE else None, state)
                self._failures_in_a_row = self._failures_in_a_row + 1 if state is TrialState.FAIL else 0
                write_trials(self._folder, self._trials(), self._study)
            words = {
                TrialState.COMPLETE: f"top-1 {value or 0.0:.4f}",
                TrialState.PRUNED: f"ended early, {value or 0.0:.4f}",
            }
            self._tell(f"trial {number}: {words.get(state, f'failed: {reason}')}")

    def _next(self) -> optuna.Trial | None:
        """A trial to make; None: there are enough, or no time for more."""
        with self._asked:
            taken_up = self._taken_up
            begun = [
                one
                for one in self._study.get_trials(deepcopy=False)
                if one.state is not TrialState.WAITING and one.number not in taken_up
            ]
            is_enough = len(begun) >= self._config.trials
            if self._is_over.is_set() or time.monotonic() > self._deadline or is_enough:
                return None
            if self._failures_in_a_row >= _MOST_FAILURES:
                logger.warning("%d trials in a row have failed: the search ends", _MOST_FAILURES)
                return None
            return self._study.ask(dict(self._distributions))

    def _judge(self, trial: optuna.Trial, run: str) -> tuple[float | None, TrialState, str]:
        """Run it, and look at its evaluations meanwhile: its top-1, how it ended, and why it failed."""
        config = self._config_of(trial.params)
        if self._is_alone:
            launch = replace(config.launch, launcher="local", master=None, workers=1)
            config = replace(config, launch=launch, strategy=StrategyConfig(strategy="serial"))
        task = TrialTask(dataset=self._dataset, run=run, config=to_dict(config))
        storage.delete(task.stop_file)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._run, task)
            is_stopped, seen = False, 0
            while True:
                is_done = running.done()
                evaluations = _evaluations(run)
                with self._asked:
                    for epoch, top1 in evaluations[seen:]:
                        trial.report(top1, epoch)
                    seen = len(evaluations)
                    lags = bool(evaluations) and not is_done and trial.should_prune()
                if is_done:
                    break
                if (lags or self._is_over.is_set()) and not is_stopped:
                    storage.write_bytes_atomic(task.stop_file, b"")
                    is_stopped = True
                time.sleep(_LOOK_SECONDS)
            reason = running.result()
        if reason or not evaluations:
            return None, TrialState.FAIL, reason or "it was not evaluated"
        top1s = [top1 for _, top1 in evaluations]
        value = max(top1s) if config.validation.keep == "best" else top1s[-1]
        has_ended = storage.exists(run_directory.result_file(run))
        return value, TrialState.COMPLETE if has_ended else TrialState.PRUNED, ""

    def _config_of(self, values: Mapping[str, Any]) -> TrainConfig:
        """The training with these values; as many replicas as its workers would have, also where one works alone."""
        config = config_of(self._space, values)
        training = config.training
        replicas = training.replicas or min(config.launch.workers, training.global_batch_size)
        return replace(config, training=replace(training, replicas=replicas))

    def _folder_of(self, trial: optuna.Trial | FrozenTrial) -> str:
        return str(trial.user_attrs.get(_RUN) or storage.join(self._folder, "trials", str(trial.number)))

    def _trials(self) -> list[Trial]:
        taken_up = self._taken_up
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        return [
            Trial(
                number=one.number,
                state=names[one.state],
                top1=one.value if one.value is not None else _last(one.intermediate_values),
                values=dict(one.params),
                curve=sorted(one.intermediate_values.items()),
                reason=str(one.user_attrs.get(_REASON, "")),
                seconds=one.duration.total_seconds() if one.duration else 0.0,
            )
            for one in self._study.get_trials(deepcopy=False, states=_ENDED)
            if one.number not in taken_up
        ]


def _open_study(folder: str, config: TuneConfig) -> optuna.Study:
    """The study; what it proposes first differs from start to start, or a second one would propose the same again."""
    url = config.storage or f"sqlite:///{storage.join(folder, 'study.db')}"
    study = optuna.create_study(study_name=folder, storage=url, load_if_exists=True, direction="maximize")
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.get_trials(deepcopy=False)))
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_REDUCTION)
    return study


def _evaluations(run: str) -> list[tuple[int, float]]:
    """Epochs and top-1 of each evaluation so far."""
    if not storage.exists(run):
        return []
    found = {one.epoch: one.top1 for one in read_records(run) if isinstance(one, EvaluationRecord)}
    return sorted(found.items())


def _last(values: Mapping[int, float]) -> float | None:
    return values[max(values)] if values else None
