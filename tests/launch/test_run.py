"""Mistakes and limits that a run meets before, or instead of, its first step."""

import fcntl
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sunspark import storage
from sunspark.data.loader import LoaderConfig
from sunspark.errors import ConfigError, RunError, SetupError, UserError, WorkerError
from sunspark.launch.run import LaunchConfig, TrainConfig, evaluate, train
from sunspark.launch.session import open_session
from sunspark.models import ModelConfig
from sunspark.parallel.faults import Fault
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.distributed.harness import descendants, is_running, joined, step_reached, wait_until
from tests.distributed.laws import NUM_IMAGES, law_config

pytestmark = pytest.mark.timeout(180)


def short_config(**launch: object) -> TrainConfig:
    """One epoch of a few steps on one local worker."""
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 2, "wide_units": 16}),
        data=LoaderConfig(image_size=16),
        training=TrainingConfig(epochs=1, global_batch_size=64),
        launch=LaunchConfig(**({"launcher": "local", "workers": 1} | launch)),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def finished(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("finished") / "run")
    train(law_dataset, run, short_config())
    return run


def test_a_port_that_is_taken_is_named(law_dataset: str, run_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"{port}.*--port"):
            train(law_dataset, str(run_folder), short_config(port=port))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": TrainingConfig(epochs=1, split="trian")}, "no split 'trian'"),
        ({"model": ModelConfig(model_args={"n_filter": 2})}, "no argument 'n_filter'"),
        ({"data": LoaderConfig(image_size=8)}, "at least 16, got 8"),
    ],
)
def test_a_run_that_was_refused_may_be_started_again(
    law_dataset: str, run_folder: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(law_dataset, str(run_folder), replace(short_config(), **change))
    assert not (run_folder / "config.json").exists()
    assert train(law_dataset, str(run_folder), short_config()).finished


def test_storage_without_append_is_refused_before_anything_is_written(
    law_dataset: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str) -> None:
        raise ConfigError(f"{uri} cannot be appended to")

    monkeypatch.setattr(storage, "append_text", refuse)
    with pytest.raises(ConfigError, match="cannot be appended to"):
        train(law_dataset, str(run_folder), short_config())
    assert not (run_folder / "config.json").exists()


@pytest.mark.spark
def test_more_workers_than_slots_trains_with_those_that_are_there(
    law_dataset: str, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = short_config(launcher="spark", master="local[1]", workers=3)
    with caplog.at_level(logging.WARNING):
        result = train(law_dataset, str(run_folder), config)
    assert result.workers == 1
    assert "3 workers" in caplog.text
    assert "slots for 1" in caplog.text
    assert verify(str(run_folder)).exactly_once


@pytest.mark.spark
def test_no_slot_at_all_is_refused(law_dataset: str, run_folder: Path) -> None:
    config = short_config(launcher="spark", master="local[1]", workers=1, cores_per_worker=2)
    with pytest.raises(SetupError, match="no slot for a worker of 2 cores"):
        train(law_dataset, str(run_folder), config)


@pytest.mark.spark
def test_training_leaves_a_session_that_was_there_as_it_was(law_dataset: str, run_folder: Path) -> None:
    with open_session("local[2]", "sunspark tests") as session:
        assert train(law_dataset, str(run_folder), short_config(launcher="spark")).finished
        assert session.sparkContext.parallelize([1, 2], 1).sum() == 3


def test_a_run_is_not_continued_with_another_configuration(law_dataset: str, finished: str) -> None:
    other = replace(short_config(), training=TrainingConfig(epochs=2, global_batch_size=64))
    with pytest.raises(RunError, match=r"training\.epochs was 1, now 2"):
        train(law_dataset, finished, other)


def test_a_finished_run_is_not_trained_again(law_dataset: str, finished: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train(law_dataset, finished, short_config())
    assert result.finished
    assert "finished already" in caplog.text


def test_launching_may_change_on_a_second_start(law_dataset: str, finished: str) -> None:
    assert train(law_dataset, finished, short_config(workers=2, start_timeout=10.0)).finished


def test_the_configuration_of_a_run_is_that_of_its_last_start(
    law_dataset: str, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(WorkerError):
        train(law_dataset, str(run_folder), short_config(workers=2, start_timeout=0.1))
    cache = str(tmp_path / "cache")
    again = replace(short_config(), data=LoaderConfig(image_size=16, cache_directory=cache))
    assert train(law_dataset, str(run_folder), again).finished
    config = json.loads((run_folder / "config.json").read_text())
    assert (config["launch"]["workers"], config["work"]["data"]["cache_directory"]) == (1, cache)
    assert config["work"]["training"]["replicas"] == 2, "what is settled stays"


def test_two_drivers_of_one_run_are_refused(law_dataset: str, run_folder: Path) -> None:
    run_folder.mkdir()
    with open(run_folder / ".driver.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another `sunspark train` works on"):
            train(law_dataset, str(run_folder), short_config())


def test_workers_that_do_not_come_in_time_end_the_run_and_are_named(law_dataset: str, run_folder: Path) -> None:
    with pytest.raises(WorkerError, match=r"none of the workers \(0, 1\) was there for 0\.2 s.*--start-timeout"):
        train(law_dataset, str(run_folder), short_config(workers=2, start_timeout=0.2))


def interrupt_when(condition: Callable[[], bool]) -> None:
    """Press Ctrl-C in this process once `condition` is true."""

    def wait_and_press() -> None:
        wait_until(condition, 120, "the moment of the interruption")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait_and_press, daemon=True).start()


def test_an_interrupted_training_stops_its_workers_and_says_what_is_saved(law_dataset: str, run_folder: Path) -> None:
    config = replace(short_config(), training=TrainingConfig(epochs=5000, global_batch_size=64, checkpoint_every=4))
    interrupt_when(lambda: step_reached(run_folder) >= 4)
    with pytest.raises(KeyboardInterrupt, match=rf"^interrupted; \d+ steps are saved.*{run_folder}$"):
        train(law_dataset, str(run_folder), config)
    assert list((run_folder / "candidates").glob("*")), "the workers had the time to save what they had"
    assert not list(filter(is_running, descendants(os.getpid())))


def test_a_training_that_is_interrupted_before_its_first_step_says_no_more(law_dataset: str, run_folder: Path) -> None:
    stall = Fault(worker=0, phase="quorum", step=0, action="stall", delay_seconds=60)
    interrupt_when(lambda: joined(run_folder, 0, 1))
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted$"):
        train(law_dataset, str(run_folder), short_config(), [stall])


def test_an_interrupted_evaluation_is_an_interruption(finished: str) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=1))


def test_a_folder_that_is_no_run_is_not_evaluated(run_folder: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        evaluate(str(run_folder))


def test_every_sample_is_evaluated_once(finished: str) -> None:
    result = evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=2))
    assert result.samples == NUM_IMAGES
    assert sum(one.samples for one in result.per_class) == NUM_IMAGES
    assert 0 <= result.top1 <= result.top5 <= 1


def test_serial_is_for_one_worker() -> None:
    with pytest.raises(ConfigError, match="one worker, got 2"):
        replace(law_config("sgd", workers=2), training=TrainingConfig(strategy="serial"))
