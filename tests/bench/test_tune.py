"""A search loses no finished trial, takes up those that were killed, and leaves a configuration that trains."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import sunspark
from sunspark import run_directory
from sunspark.bench.space import load_space
from sunspark.bench.trials import Trial, Trials, read_trials
from sunspark.bench.tune_report import finding
from sunspark.config import load
from sunspark.errors import ConfigError, DeadlineError, RunError
from sunspark.launch.config import TrainConfig
from sunspark.launch.trial import TrialTask, run_trial
from sunspark.records import DRIVER, EvaluationRecord, RecordWriter, driver_file
from tests.distributed.harness import wait_until

pytestmark = pytest.mark.timeout(280)

SPACE = """
[base]
model.model_args = {{ n_filters = 2, wide_units = 16 }}
data.image_size = 32
training = {{ epochs = {epochs}, global_batch_size = 50, checkpoint_every = 1 }}
validation = {{ eval_every = 1, eval_split = "train" }}
launch = {{ launcher = "{launcher}", workers = 2 }}
[space]
optim.learning_rate = {{ low = 1e-4, high = 1e-1, log = true }}
optim.optimizer = ["adam", "sgd"]
"""


def space_file(folder: Path, launcher: str = "local", epochs: int = 3) -> str:
    path = folder / "space.toml"
    path.write_text(SPACE.format(launcher=launcher, epochs=epochs))
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


def test_a_search_whose_driver_is_killed_goes_on_and_loses_no_finished_trial(law_dataset: str, tmp_path: Path) -> None:
    space, folder = space_file(tmp_path), tmp_path / "tuned"
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
        law_dataset, space_file(tmp_path, "spark", epochs=2), str(folder), sunspark.TuneConfig(trials=3)
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
    path.write_text(SPACE.format(launcher="local", epochs=2).replace('"train"', '"test"'))
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
