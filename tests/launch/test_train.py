"""Limits that a training meets before, or instead of, its first step, and its interruption."""

import logging
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.errors import SetupError, WorkerError
from sunspark.launch.session import open_session
from sunspark.launch.train import train
from sunspark.limits import usable_cores
from sunspark.parallel.faults import Fault
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.distributed.harness import descendants, events, is_running, joined, step_reached
from tests.launch.short import interrupt_when, short_config

pytestmark = pytest.mark.timeout(180)


def test_a_port_that_is_taken_is_named(law_dataset: str, run_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"{port}.*--port"):
            train(law_dataset, str(run_folder), short_config(port=port))


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


def test_a_worker_has_no_more_threads_than_there_are_cores(
    law_dataset: str, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cores = usable_cores()
    with caplog.at_level(logging.WARNING):
        train(law_dataset, str(run_folder), short_config(workers=1, cores_per_worker=cores + 3))
    assert f"1 workers of {cores + 3} cores were asked for, this machine has {cores} cores" in caplog.text
    assert f"worker 0 has {cores} threads, not {cores + 3}" in caplog.text


@pytest.mark.spark
def test_training_leaves_a_session_that_was_there_as_it_was(law_dataset: str, run_folder: Path) -> None:
    with open_session("local[2]", "sunspark tests") as session:
        assert train(law_dataset, str(run_folder), short_config(launcher="spark")).finished
        assert session.sparkContext.parallelize([1, 2], 1).sum() == 3


def test_workers_that_do_not_come_in_time_end_the_run_and_are_named(law_dataset: str, run_folder: Path) -> None:
    with pytest.raises(WorkerError, match=r"none of the workers \(0, 1\) was there for 0\.2 s.*--start-timeout"):
        train(law_dataset, str(run_folder), short_config(workers=2, start_timeout=0.2))


def test_an_interrupted_training_stops_its_workers_and_says_what_is_saved(law_dataset: str, run_folder: Path) -> None:
    config = replace(short_config(), training=TrainingConfig(epochs=5000, global_batch_size=64, checkpoint_every=4))
    others = set(descendants(os.getpid()))  # Java, if there was Spark before
    interrupt_when(lambda: step_reached(run_folder) >= 4)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(law_dataset, str(run_folder), config)
    saved = max(int(path.name[5:14]) for path in run_folder.glob("c*/step-*.safetensors"))
    assert saved >= 4
    assert str(caught.value).startswith(f"interrupted; {saved} steps are saved, and")
    assert [event["detail"] for event in events(run_folder) if event["event"] == "stopped"] == ["interrupted"]
    assert not list(filter(is_running, set(descendants(os.getpid())) - others))


def test_a_training_that_is_interrupted_before_its_first_step_says_that_nothing_is_saved(
    law_dataset: str, run_folder: Path
) -> None:
    stall = Fault(worker=0, phase="quorum", step=0, action="stall", delay_seconds=60)
    interrupt_when(lambda: joined(run_folder, 0, 1))
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted; nothing was saved yet$"):
        train(law_dataset, str(run_folder), short_config(), [stall])
