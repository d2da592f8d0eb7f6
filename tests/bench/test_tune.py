"""A search loses no finished trial, takes up those that were killed, and leaves a configuration that trains."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import sunspark
from sunspark.bench.space import load_space
from sunspark.bench.trials import Trial, Trials, read_trials
from sunspark.bench.tune_report import finding
from sunspark.config import load
from sunspark.errors import ConfigError, RunError
from sunspark.launch.config import TrainConfig
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


def test_a_killed_search_goes_on_and_loses_no_finished_trial(law_dataset: str, tmp_path: Path) -> None:
    space, folder = space_file(tmp_path), tmp_path / "tuned"
    command = [sys.executable, "-m", "sunspark.cli", "tune", law_dataset, space, str(folder), "--trials", "4"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: list(folder.glob("trials/1/checkpoints/*")), 180, "the second trial to be under way")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
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
