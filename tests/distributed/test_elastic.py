"""Elastic on one machine: supervisors, with their workers, come and go while a run trains."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sunspark.launch import job as launch_job
from sunspark.launch.train import train
from tests.distributed import elastic
from tests.distributed.strategies import STRATEGIES, assert_exactly_once, config_of
from tests.distributed.supervisors import ProcessLauncher, kill_with_its_workers, start_supervisor

pytestmark = [pytest.mark.laws, pytest.mark.timeout(300)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_workers_come_and_go(
    law_dataset: str,
    alone: Callable[[str], str],
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    """2, 4, 1, 3: those that go are killed with all that is theirs, as where a host is lost."""
    monkeypatch.setattr(launch_job, "LocalLauncher", ProcessLauncher)
    config = config_of(strategy, workers=elastic.MOST)
    controller = threading.Thread(target=elastic.play, args=(run_folder, set_supervisors), daemon=True)
    controller.start()
    train(law_dataset, str(run_folder), config, elastic.holds(run_folder))
    controller.join(10)
    elastic.assert_nothing_was_lost_on_the_way(run_folder)
    assert_exactly_once(run_folder, strategy, alone)


def set_supervisors(count: int) -> None:
    supervisors, specs = ProcessLauncher.supervisors, ProcessLauncher.specs
    for supervisor in supervisors[count:]:
        kill_with_its_workers(supervisor)
        supervisors.remove(supervisor)
        assert supervisor.stdout is not None
        supervisor.wait()
        supervisor.stdout.close()
    for spec in specs[len(supervisors) : count]:
        supervisors.append(start_supervisor(spec))
