"""A search loses no finished trial, takes up those that were killed, and leaves a configuration that trains."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

import sunspark
from sunspark import run_directory
from sunspark.bench.space import distributions_of, load_space, num_points
from sunspark.bench.study import place_of, study_errors
from sunspark.bench.trials import Trial, Trials, read_trials
from sunspark.bench.tune_report import finding
from sunspark.config import load
from sunspark.errors import ConfigError, DeadlineError, RunError, StorageError, WorkerError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.trial import TrialTask, run_trial
from sunspark.records import DRIVER, EvaluationRecord, RecordWriter, driver_file
from sunspark.spark.trials import trial_on_spark
from tests.distributed.harness import wait_until

pytestmark = pytest.mark.timeout(600)

SPACE = """
[base]
model.model_args = {{ n_filters = 2, wide_units = 16 }}
data.image_size = 32
training = {{ epochs = {epochs}, global_batch_size = 50, checkpoint_every = 1 }}
validation = {{ eval_every = {eval_every}, eval_split = "train" }}
launch = {{ launcher = "{launcher}", workers = 2 }}
[space]
optim.learning_rate = {{ low = 1e-4, high = 1e-1, log = true }}
optim.optimizer = ["adam", "sgd"]
"""


def space_file(folder: Path, launcher: str = "local", epochs: int = 3, eval_every: int = 1) -> str:
    path = folder / "space.toml"
    path.write_text(SPACE.format(launcher=launcher, epochs=epochs, eval_every=eval_every))
    return str(path)


def train_at_once(task: TrialTask, top1s: Sequence[float]) -> str:
    """What a trial leaves that was evaluated after each epoch, and came to its end."""
    (Path(task.run) / "records").mkdir(parents=True)
    for epoch, top1 in enumerate(top1s, start=1):
        write_evaluation(task.run, epoch, top1)
    (Path(task.run) / "result.json").write_text("{}")
    return ""


def write_evaluation(run: str, epoch: int, top1: float) -> None:
    writer = RecordWriter(driver_file(run))
    writer.write(
        EvaluationRecord(
            worker=DRIVER, incarnation=0, time_unix_seconds=time.time(), step=5 * epoch, epoch=epoch, split="train",
            samples=250, top1=top1, top5=1.0, mean_per_class=top1, loss=1.0,
        )
    )  # fmt: skip
    writer.close()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[TrialTask], str]], None]:
    """Has a function stand in for the trainings of trials in the driver."""
    return lambda run: monkeypatch.setattr("sunspark.bench.tune.run_trial", run)


StandIn = Callable[[Callable[[TrialTask], str]], None]


def test_trials_one_after_another_have_all_workers_of_the_base(
    law_dataset: str, tmp_path: Path, stand_in: StandIn
) -> None:
    tasks: list[TrialTask] = []
    stand_in(lambda task: tasks.append(task) or train_at_once(task, [0.5]))
    sunspark.tune(
        law_dataset, space_file(tmp_path, "spark"), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=1, at_once=1)
    )
    (task,) = tasks
    assert (task.config["launch"]["launcher"], task.config["launch"]["workers"]) == ("spark", 2)
    assert task.config["strategy"]["strategy"] == "all_reduce"


def test_what_is_best_of_one_worker_is_the_same_training_with_all_of_them(
    law_dataset: str, tmp_path: Path, stand_in: StandIn
) -> None:
    tasks: list[TrialTask] = []
    stand_in(lambda task: tasks.append(task) or train_at_once(task, [0.5]))
    result = sunspark.tune(
        law_dataset, space_file(tmp_path), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=1, at_once=2)
    )
    (task,) = tasks
    assert task.config["strategy"]["strategy"] == "serial"
    assert (task.config["launch"]["workers"], task.config["training"]["replicas"]) == (1, 2)
    best = load(TrainConfig, result.config_file)
    assert (best.strategy.strategy, best.launch.workers, best.training.replicas) == ("all_reduce", 2, 2)


@pytest.mark.parametrize("key", ["launch.workers = [1, 2]", 'strategy.compression = ["none", "bf16"]'])
def test_a_search_by_one_worker_each_refuses_what_only_several_have(law_dataset: str, tmp_path: Path, key: str) -> None:
    path = Path(space_file(tmp_path))
    path.write_text(f"{path.read_text()}{key}\n")
    with pytest.raises(ConfigError, match=r"would have no effect.*--at-once 1"):
        sunspark.tune(law_dataset, str(path), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=1, at_once=2))


@pytest.mark.parametrize(
    ("strategy", "is_warned"), [("all_reduce", False), ("diloco", True), ("all_reduce', compression = 'bf16", True)]
)
def test_a_strategy_that_trains_otherwise_than_one_worker_is_warned_of(
    law_dataset: str,
    tmp_path: Path,
    stand_in: StandIn,
    caplog: pytest.LogCaptureFixture,
    strategy: str,
    is_warned: bool,
) -> None:
    stand_in(lambda task: train_at_once(task, [0.5]))
    path = Path(space_file(tmp_path))
    path.write_text(path.read_text().replace("[space]", f"strategy = {{ strategy = '{strategy}' }}\n[space]"))
    with caplog.at_level(logging.WARNING, "sunspark"):
        sunspark.tune(law_dataset, str(path), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=1, at_once=2))
    assert ("judged with one worker alone" in caplog.text) is is_warned


def study_of(folder: Path) -> optuna.Study:
    name = json.loads((folder / "tune.json").read_text())["study"]
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")


def rungs_of(folder: Path) -> dict[str, float]:
    (trial,) = study_of(folder).trials
    return dict(trial.system_attrs)


def test_each_rung_holds_the_evaluation_of_its_number(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    def train_with_an_evaluation_every_second_epoch(task: TrialTask) -> str:
        train_at_once(task, [])
        for number in range(1, 11):
            write_evaluation(task.run, min(2 * number, 19), number / 100)
        return ""

    stand_in(train_with_an_evaluation_every_second_epoch)
    space = space_file(tmp_path, epochs=19, eval_every=2)
    sunspark.tune(law_dataset, space, str(tmp_path / "tuned"), sunspark.TuneConfig(trials=1))
    assert rungs_of(tmp_path / "tuned") == {
        "completed_rung_0": 0.01,
        "completed_rung_1": 0.03,
        "completed_rung_2": 0.09,
    }
    (trial,) = read_trials(str(tmp_path / "tuned")).trials
    assert trial.curve[0] == (2, 0.01)
    assert trial.curve[-1] == (19, 0.1)


def test_a_start_that_ended_before_it_asked_the_pruner_leaves_the_rung_its_value(
    law_dataset: str, tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tuned"

    def fail(_: optuna.Trial) -> bool:
        raise optuna.exceptions.StorageInternalError("it is gone")

    stand_in(lambda task: train_at_once(task, [0.1]))
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "should_prune", fail)
        with pytest.raises(StorageError, match=r"study.db, did not answer as it should: it is gone"):
            sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=1))

    def go_on(task: TrialTask) -> str:
        for epoch, top1 in ((2, 0.2), (3, 0.3)):
            write_evaluation(task.run, epoch, top1)
        return ""

    stand_in(go_on)
    result = sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=1))
    assert (result.trials, result.best_top1) == (1, 0.3)
    assert rungs_of(folder) == {"completed_rung_0": 0.1, "completed_rung_1": 0.3}


def test_a_trial_that_spark_cannot_run_ends_the_search_and_is_taken_up(
    law_dataset: str, tmp_path: Path, stand_in: StandIn
) -> None:
    folder = tmp_path / "tuned"

    def lose(_: TrialTask) -> str:
        raise WorkerError("its task was lost")

    stand_in(lose)
    with pytest.raises(WorkerError, match="its task was lost"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=1))
    (left,) = study_of(folder).trials
    assert left.state is TrialState.RUNNING
    (folder / "trials" / "0.stop").parent.mkdir(exist_ok=True)
    (folder / "trials" / "0.stop").touch()

    def train(task: TrialTask) -> str:
        assert not Path(task.stop_file).exists(), "of an earlier start"
        return train_at_once(task, [0.5])

    stand_in(train)
    result = sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=1))
    assert (result.trials, result.failed, result.best) == (1, 0, left.params)


def test_an_error_in_one_trial_ends_the_others_at_once(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    both = threading.Barrier(2, timeout=60)

    def train(task: TrialTask) -> str:
        both.wait()
        if task.run.endswith("1"):
            raise WorkerError("its task was lost")
        wait_until(Path(task.stop_file).exists, 60, "the stop of the other trial")
        return ""

    stand_in(train)
    with pytest.raises(WorkerError, match="its task was lost"):
        sunspark.tune(
            law_dataset, space_file(tmp_path), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=2, at_once=2)
        )


def test_a_full_disk_ends_the_search_and_is_no_failure_of_the_trial(
    law_dataset: str, tmp_path: Path, stand_in: StandIn
) -> None:
    folder = tmp_path / "tuned"
    records = folder / "trials" / "0" / "records" / "driver.jsonl"

    def train_on_a_full_disk(task: TrialTask) -> str:
        records.parent.mkdir(parents=True)
        records.symlink_to("/dev/full")
        return run_trial(task)

    stand_in(train_on_a_full_disk)
    with pytest.raises(StorageError, match=r"driver\.jsonl: .*No space left.*the search goes on"):
        sunspark.tune(law_dataset, space_file(tmp_path, epochs=1), str(folder), sunspark.TuneConfig(trials=1))
    (left,) = study_of(folder).trials
    assert left.state is TrialState.RUNNING
    records.unlink()
    stand_in(run_trial)
    result = sunspark.tune(law_dataset, space_file(tmp_path, epochs=1), str(folder), sunspark.TuneConfig(trials=1))
    assert (result.trials, result.failed, result.best) == (1, 0, left.params)


def test_a_trial_with_a_damaged_record_fails_and_the_search_goes_on(
    law_dataset: str, tmp_path: Path, stand_in: StandIn
) -> None:
    def train(task: TrialTask) -> str:
        if task.run.endswith("1"):
            return train_at_once(task, [0.5])
        train_at_once(task, [])
        Path(driver_file(task.run)).write_text("no record\n{}\n")
        wait_until(Path(task.stop_file).exists, 60, "its stop")
        return ""

    stand_in(train)
    folder = tmp_path / "tuned"
    result = sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=2))
    assert (result.trials, result.failed, result.best_trial) == (2, 1, 1)
    assert "driver.jsonl" in read_trials(str(folder)).trials[0].reason
    assert not list(folder.glob("trials/*.stop"))


def on_cluster(collect: Mock) -> tuple[Callable[[TrialTask], str], Mock]:
    """What runs trials on a cluster whose jobs come to `collect`, and what its jobs are asked for."""
    session = Mock()
    session.sparkContext.master = "yarn"
    session.sparkContext.getConf.return_value.get.return_value = "1"
    with_resources = session.sparkContext.parallelize.return_value.mapPartitions.return_value.withResources
    with_resources.return_value.collect = collect
    return trial_on_spark(session, LaunchConfig(cores_per_worker=3)), with_resources


def test_the_task_of_a_trial_asks_for_the_cores_of_its_worker() -> None:
    run, with_resources = on_cluster(Mock(return_value=["its reason", ""]))
    assert run(TrialTask(dataset="", run="", config={})) == "its reason"
    (profile,) = with_resources.call_args.args
    assert profile.taskResources["cpus"].amount == 3


@pytest.mark.parametrize(
    ("error", "times", "what"), [(RuntimeError("no host"), 4, "lost 4 times: no host"), (ConnectionError(), 1, "gone")]
)
def test_what_spark_cannot_run_is_no_failed_trial(error: Exception, times: int, what: str) -> None:
    collect = Mock(side_effect=error)
    run, _ = on_cluster(collect)
    with pytest.raises(WorkerError, match=what):
        run(TrialTask(dataset="", run="", config={}))
    assert collect.call_count == times


def test_a_search_that_is_moved_goes_on(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    stand_in(lambda task: train_at_once(task, [0.5]))
    space, moved = space_file(tmp_path), tmp_path / "moved? {to} here%20"
    first = sunspark.tune(law_dataset, space, str(tmp_path / "tuned"), sunspark.TuneConfig(trials=1))
    (tmp_path / "tuned").rename(moved)
    (moved / "trials.json").unlink()
    again = sunspark.tune(law_dataset, space, str(moved), sunspark.TuneConfig(trials=1))
    assert (again.trials, again.best) == (1, first.best)
    assert len(read_trials(str(moved)).trials) == 1, "it is written in any case"
    assert sunspark.tune(law_dataset, space, str(moved), sunspark.TuneConfig(trials=2)).trials == 2


def test_a_trial_of_which_not_all_was_drawn_is_neither_lost_nor_doubled(
    law_dataset: str, tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    suggest, folder = optuna.Trial._suggest, tmp_path / "tuned"

    def fail_at_the_second(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
        if name == "optim.optimizer":
            raise optuna.exceptions.StorageInternalError("it is gone")
        return suggest(trial, name, distribution)

    stand_in(lambda task: train_at_once(task, [0.5]))
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "_suggest", fail_at_the_second)
        with pytest.raises(StorageError):
            sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=2))
    result = sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=2))
    assert (result.trials, result.failed) == (2, 0)
    assert all(len(trial.values) == 2 for trial in read_trials(str(folder)).trials)


def test_where_no_sqlite_file_can_be_a_storage_is_asked_for(law_dataset: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --storage the URL"):
        sunspark.tune(law_dataset, space_file(tmp_path), "s3://bucket/tuned", sunspark.TuneConfig())


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("no url", ConfigError),
        ("nosuch://host/name", ConfigError),
        ("sqlite:///{braces}.db", ConfigError),
        ("sqlite:////no/such/folder/study.db", StorageError),
    ],
)
def test_a_storage_that_cannot_be_used_is_said_so(
    law_dataset: str, tmp_path: Path, url: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="storage"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(tmp_path / "t"), sunspark.TuneConfig(storage=url))
    assert not (tmp_path / "t").exists(), "nothing is searched there yet"


def test_a_search_whose_study_is_gone_does_not_begin_anew(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    folder = tmp_path / "tuned"
    stand_in(lambda task: train_at_once(task, [0.5]))
    sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=1))
    (folder / "study.db").rename(tmp_path / "kept.db")
    with pytest.raises(RunError, match=r"study\.db does not hold the study .*put back a copy"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=2))
    (tmp_path / "kept.db").rename(folder / "study.db")
    assert sunspark.tune(law_dataset, space_file(tmp_path), str(folder), sunspark.TuneConfig(trials=2)).trials == 2


def test_a_search_stays_in_its_storage(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    in_folder, elsewhere = tmp_path / "in folder", tmp_path / "elsewhere"
    other = sunspark.TuneConfig(trials=1, storage=f"sqlite:///{tmp_path}/other.db")
    stand_in(lambda task: train_at_once(task, [0.5]))
    sunspark.tune(law_dataset, space_file(tmp_path), str(in_folder), sunspark.TuneConfig(trials=1))
    with pytest.raises(RunError, match="was begun without --storage"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(in_folder), other)
    assert not (tmp_path / "other.db").exists()
    sunspark.tune(law_dataset, space_file(tmp_path), str(elsewhere), other)
    assert sunspark.tune(law_dataset, space_file(tmp_path), str(elsewhere), other).trials == 1
    with pytest.raises(RunError, match=r"was begun with --storage sqlite:///.*/other\.db"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(elsewhere), sunspark.TuneConfig(trials=1))


@pytest.mark.parametrize(("first", "then", "remedy"), [(2, 1, "--at-once 2 or more"), (1, 2, "--at-once 1")])
def test_trials_of_one_worker_are_not_put_beside_those_of_all(
    law_dataset: str, tmp_path: Path, stand_in: StandIn, first: int, then: int, remedy: str
) -> None:
    folder = str(tmp_path / "tuned")
    stand_in(lambda task: train_at_once(task, [0.5]))
    sunspark.tune(law_dataset, space_file(tmp_path), folder, sunspark.TuneConfig(trials=1, at_once=first))
    with pytest.raises(RunError, match=f"not to be compared; give {remedy}"):
        sunspark.tune(law_dataset, space_file(tmp_path), folder, sunspark.TuneConfig(trials=2, at_once=then))


def test_a_search_has_a_folder_of_its_own(law_dataset: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "beach.jpg").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"not empty and not a search .*beach\.jpg"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(tmp_path / "photos"))
    with pytest.raises(ConfigError, match="lie in each other"):
        sunspark.tune(law_dataset, space_file(tmp_path), f"{law_dataset}/tuned")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["beach.jpg"]
    assert not (Path(law_dataset) / "tuned").exists()


@pytest.mark.parametrize(("trials", "is_told"), [(2, False), (3, True)])
def test_more_trials_than_there_are_configurations_are_told(
    law_dataset: str, tmp_path: Path, stand_in: StandIn, caplog: pytest.LogCaptureFixture, trials: int, is_told: bool
) -> None:
    path = Path(space_file(tmp_path))
    path.write_text(path.read_text().replace("{ low = 1e-4, high = 1e-1, log = true }", "[0.1]"))
    stand_in(lambda task: train_at_once(task, [0.5]))
    with caplog.at_level(logging.WARNING, "sunspark"):
        result = sunspark.tune(law_dataset, str(path), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=trials))
    assert result.trials == trials
    assert ("the space has 2 configurations" in caplog.text) is is_told


@pytest.mark.parametrize(
    ("body", "points"),
    [
        ("optim.optimizer = ['adam', 'sgd']\ntraining.epochs = { low = 2, high = 9, step = 3 }", 6),
        ("training.epochs = { low = 2, high = 4 }", 3),
        ("optim.learning_rate = { low = 0.1, high = 0.3, step = 0.1 }", 3),
        ("optim.learning_rate = { low = 1, high = 2 }\noptim.optimizer = ['adam', 'sgd']", math.inf),
    ],
)
@pytest.mark.filterwarnings("ignore:The distribution is specified by")  # 2 to 9 in threes is 2 to 8
def test_the_points_of_a_space_are_counted(tmp_path: Path, body: str, points: float) -> None:
    path = tmp_path / "space.toml"
    path.write_text(f"[base]\nvalidation.eval_every = 1\n[space]\n{body}\n")
    assert num_points(load_space(path)) == points


def test_a_range_of_whole_numbers_for_any_number_has_those_between_too(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[base]\nvalidation.eval_every = 1\n[space]\noptim.learning_rate = { low = 1, high = 2 }\n"
        "model.model_args.n_filters = { low = 4, high = 8 }\n"
    )
    assert distributions_of(load_space(path)) == {
        "optim.learning_rate": FloatDistribution(1.0, 2.0),
        "model.model_args.n_filters": IntDistribution(4, 8),
    }


def test_a_value_that_takes_another_is_judged_beside_one_that_it_goes_with(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[base]\nvalidation.eval_every = 1\n[space]\nstrategy.strategy = ['serial', 'all_reduce']\n"
        "launch.workers = [1, 2]\n"
    )
    assert load_space(path).space


def test_the_password_of_a_storage_is_not_told() -> None:
    kept = place_of("mysql://me:secret@host/name?password=secret")
    assert kept == "mysql://me:***@host/name"
    with pytest.raises(StorageError, match=r"me:\*\*\*@host") as raised, study_errors("mysql://me:secret@host/name"):
        raise optuna.exceptions.StorageInternalError("it is gone")
    assert "secret" not in str(raised.value)


def test_no_trial_begins_after_the_timeout(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    def train(task: TrialTask) -> str:
        time.sleep(2.1)
        return train_at_once(task, [0.5])

    stand_in(train)
    config = sunspark.TuneConfig(trials=5, timeout="2s")
    assert sunspark.tune(law_dataset, space_file(tmp_path), str(tmp_path / "tuned"), config).trials == 1


@pytest.mark.laws
def test_trials_run_side_by_side_on_this_machine(law_dataset: str, tmp_path: Path, stand_in: StandIn) -> None:
    both = threading.Barrier(2, timeout=60)

    def train(task: TrialTask) -> str:
        both.wait()
        return run_trial(task)

    stand_in(train)
    config = sunspark.TuneConfig(trials=2, at_once=2)
    result = sunspark.tune(law_dataset, space_file(tmp_path, epochs=1), str(tmp_path / "tuned"), config)
    assert (result.trials, result.failed) == (2, 0)


def test_a_trial_that_lags_at_its_last_evaluation_comes_to_its_end(
    law_dataset: str, tmp_path: Path, stand_in: StandIn
) -> None:
    def train(task: TrialTask) -> str:
        train_at_once(task, [0.9 if task.run.endswith("0") else 0.1])
        time.sleep(2.5)
        return "it was stopped" if Path(task.stop_file).exists() else ""

    stand_in(train)
    config = sunspark.TuneConfig(trials=2)
    result = sunspark.tune(law_dataset, space_file(tmp_path, epochs=1), str(tmp_path / "tuned"), config)
    assert (result.trials, result.pruned, result.failed) == (2, 0, 0)


@pytest.mark.laws
def test_a_trial_that_lags_is_ended_early(law_dataset: str, tmp_path: Path) -> None:
    """Seed 10 draws the learning rate that learns first."""
    path, folder = Path(space_file(tmp_path, epochs=80)), tmp_path / "tuned"
    text = path.read_text().replace("{ low = 1e-4, high = 1e-1, log = true }", "[0.005, 1e-12]")
    path.write_text(text.replace('["adam", "sgd"]', '["adam"]').replace("_size = 50", "_size = 25"))
    result = sunspark.tune(law_dataset, str(path), str(folder), sunspark.TuneConfig(trials=2, seed=10))
    good, bad = read_trials(str(folder)).trials
    assert [trial.values["optim.learning_rate"] for trial in (good, bad)] == [0.005, 1e-12]
    assert (good.state, bad.state, result.pruned) == ("complete", "pruned", 1)
    assert len(bad.curve) < len(good.curve) == 80
    assert not list(folder.glob("trials/*.stop"))


def test_a_search_whose_driver_is_killed_goes_on_and_loses_no_finished_trial(law_dataset: str, tmp_path: Path) -> None:
    space, folder = space_file(tmp_path, epochs=12, eval_every=12), tmp_path / "tuned"
    command = [sys.executable, "-m", "sunspark.cli", "tune", law_dataset, space, str(folder), "--trials", "4"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: list(folder.glob("trials/1/checkpoints/*")), 180, "the second trial to be under way")
    finally:
        os.kill(process.pid, signal.SIGKILL)  # the process of the trial is left alone, and ends by itself
        process.wait()
    (finished,) = read_trials(str(folder)).trials

    heard: list[str] = []
    result = sunspark.tune(law_dataset, space, str(folder), sunspark.TuneConfig(trials=4), heard.append)
    assert result.trials == 4
    trials = read_trials(str(folder)).trials
    assert trials[0] == finished
    assert len({json.dumps(trial.values) for trial in trials}) == 4, "none is proposed twice"
    resumed = [run for run in folder.glob("trials/*") if '"resumed"' in (run / "records" / "driver.jsonl").read_text()]
    assert [run.name for run in resumed] == ["1"], "what was under way goes on from its checkpoint"
    best = load(TrainConfig, result.config_file)
    assert best.optim.optimizer == result.best["optim.optimizer"]
    assert result.best_top1 == max(trial.top1 or 0 for trial in trials if trial.state == "complete")
    page = Path(sunspark.report(str(folder), str(tmp_path / "page.html")).path).read_text()
    assert "Values and accuracy" in page
    assert "<script" not in page


def test_a_trial_whose_process_is_killed_is_gone_on_with(law_dataset: str, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    killed = threading.Event()

    def kill() -> None:
        wait_until(lambda: list(folder.glob("trials/0/checkpoints/*")), 120, "a checkpoint of the first trial")
        for process in Path("/proc").glob("[0-9]*"):
            if b"sunspark.bench.one_run" in _command(process) and _parent(process) == os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
                killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    result = sunspark.tune(law_dataset, space_file(tmp_path, epochs=6), str(folder), sunspark.TuneConfig(trials=1))
    thread.join()
    assert killed.is_set()
    assert (result.trials, result.failed) == (1, 0)
    assert '"resumed"' in (folder / "trials" / "0" / "records" / "driver.jsonl").read_text()
    assert sunspark.verify(str(folder / "trials" / "0")).exactly_once


@pytest.mark.spark
def test_trials_run_side_by_side_on_spark(law_dataset: str, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    result = sunspark.tune(
        law_dataset, space_file(tmp_path, "spark", epochs=2, eval_every=2), str(folder), sunspark.TuneConfig(trials=3)
    )
    assert result.trials == 3
    for run in folder.glob("trials/[0-9]"):
        launch = json.loads((run / "config.json").read_text())["launch"]
        assert (launch["launcher"], launch["workers"]) == ("local", 1)
    starts = sorted(
        json.loads((run / "start.json").read_text())["time_unix_seconds"] for run in folder.glob("trials/[0-9]")
    )
    ends = sorted((run / "result.json").stat().st_mtime for run in folder.glob("trials/[0-9]"))
    assert starts[1] < ends[0], "the first two were under way at the same time"


def test_a_trial_that_fails_is_told_with_its_reason(law_dataset: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(SPACE.format(launcher="local", epochs=2, eval_every=1).replace('"train"', '"test"'))
    with pytest.raises(RunError, match="no trial came to its end: the split 'test' is empty"):
        sunspark.tune(law_dataset, str(path), str(tmp_path / "tuned"), sunspark.TuneConfig(trials=2))


def test_another_space_has_no_place_in_the_same_folder(law_dataset: str, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "tune.json").write_text("{}")
    with pytest.raises(RunError, match="another space"):
        sunspark.tune(law_dataset, space_file(tmp_path), str(folder))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("[space]\noptim.learning_rate = 3\n", "list of values or a range"),
        ("[space]\noptim.learning_rate = { low = 2.0, high = 1.0 }\n", "no range"),
        ("[space]\noptim.learnin_rate = [1.0]\n", "learning_rate"),
        ("[space]\noptim.learning_rate = { low = 0.1, high = 0.2, log = 'false' }\n", "log must be true or false"),
        ("[space]\ntraining.epochs = { low = 1, high = 3, step = 0.5 }\n", "epochs must be a whole number"),
        ("[space]\ntraining.epochs = { low = true, high = 3 }\n", "low, high and step are numbers"),
        ("[space]\noptim.optimizer = ['adam', 'adm', 'adamw']\n", "no optimizer 'adm'"),
        ("[space]\ntraining.global_batch_size = [32, -5, 16]\n", "got -5"),
        ("[space]\noptim.optimizer = ['adam', 'sgd', 'adam']\n", "'adam' twice"),
        ("[space]\nmodel.model_args = [{ n_filters = 4 }, { n_filters = 8 }]\n", "a table to choose"),
        ("[space]\nvalidation.eval_every = [1, 0, 2]\n", "let no value of the space be 0"),
        ("[space]\n", "empty"),
        ("[space]\noptim.optimizer = ['adam']\n[base]\nvalidation.eval_every = 0\n", "eval_every"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(tmp_path: Path, wrong: str, what: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(wrong if "[base]" in wrong else f"{wrong}[base]\nvalidation.eval_every = 1\n")
    with pytest.raises(ConfigError, match=what):
        load_space(path)


def test_a_run_that_another_process_never_leaves_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sunspark.launch.trial._UNLOCK_SECONDS", 0.1)
    with run_directory.only_driver(str(tmp_path)), pytest.raises(DeadlineError, match="still works on"):
        run_trial(TrialTask(dataset="", run=str(tmp_path), config={}))


def trial(number: int, top1: float, state: str = "complete") -> Trial:
    return Trial(number=number, state=state, top1=top1, values={"x": number}, curve=[], reason="", seconds=1.0)


def test_what_is_best_is_said_of_trials_that_came_to_their_end() -> None:
    said = finding(Trials(trials=[trial(0, 0.5), trial(1, 0.9, "pruned"), trial(2, 0.7)], importance={"x": 1.0}))
    assert said.startswith("The best of 3 trials is number 2, with 70.0")
    assert "1 trial lagged behind and was ended early" in said
    assert finding(Trials(trials=[], importance={})) == "No trial has come to its end yet."


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _parent(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])
