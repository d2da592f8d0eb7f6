"""Elastic on Spark: executors are taken away and come back, by hand and by Spark's dynamic allocation."""

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.session import open_session
from sunspark.launch.train import train
from sunspark.training.verify import verify
from tests.distributed import elastic
from tests.distributed.harness import wait_until
from tests.distributed.strategies import STRATEGIES, assert_exactly_once, config_of
from tests.spark.executors import executor_ids, have_executors, session_with

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(500)]

IDLE_SECONDS = 3


def on_spark(strategy: str, workers: int) -> TrainConfig:
    return replace(config_of(strategy, workers), launch=LaunchConfig(workers=workers, start_timeout=300))


@pytest.mark.parametrize("strategy", ["all_reduce", "diloco"])
def test_executors_come_and_go(law_dataset: str, alone: Callable[[str], str], run_folder: Path, strategy: str) -> None:
    with open_session(f"local-cluster[{elastic.MOST},1,1024]", "sunspark tests") as session:
        set_workers = functools.partial(have_executors, session.sparkContext)
        controller = threading.Thread(target=elastic.play, args=(run_folder, set_workers), daemon=True)
        controller.start()
        train(law_dataset, str(run_folder), on_spark(strategy, elastic.MOST), elastic.holds(run_folder))
        controller.join(10)
    elastic.assert_nothing_was_lost_on_the_way(run_folder)
    assert_exactly_once(run_folder, strategy, alone)


@pytest.fixture
def dynamic_session() -> Iterator[SparkSession]:
    """Two executors at most, none when there is nothing to do."""
    settings = {
        "enabled": "true",
        "shuffleTracking.enabled": "true",
        "executorIdleTimeout": f"{IDLE_SECONDS}s",
        "minExecutors": "0",
        "maxExecutors": "2",
    }
    dynamic = {f"spark.dynamicAllocation.{key}": value for key, value in settings.items()}
    with session_with("local-cluster[2,1,1024]", dynamic) as session:
        yield session


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_idle_executors_leave_and_come_back_with_the_next_run(
    dynamic_session: SparkSession, law_dataset: str, tmp_path: Path, strategy: str
) -> None:
    context = dynamic_session.sparkContext
    wait_until(lambda: not executor_ids(context), 60, "the leave of executors before the first run")
    seen: list[set[str]] = []
    for name in ("first", "second"):
        ids = note_executors(functools.partial(executor_ids, context))
        result = train(law_dataset, str(tmp_path / name), on_spark(strategy, workers=2))
        seen.append(ids())
        assert result.workers == 2
        verdict = verify(str(tmp_path / name))
        assert verdict.exactly_once, verdict.problems
        wait_until(lambda: not executor_ids(context), 60, "the leave of idle executors")
    assert min(map(len, seen)) == 2
    assert not seen[0] & seen[1], "the second run had executors of the first"


def note_executors(look: Callable[[], set[str]]) -> Callable[[], set[str]]:
    """Look until what is returned is called, which gives all that were seen."""
    seen: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            seen.update(look())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def end() -> set[str]:
        is_over.set()
        thread.join(10)
        return seen

    return end
