"""What happens to hosts and links: the run ends in time, with the weights of a run that nothing happened to.

A case lasts as long as Spark needs to start things. What it asserts of time is what training may stand still, and how
long the end may take; both follow from the time-outs in docs/architecture.md.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.roster import LOST_SECONDS
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.parallel.faults import Fault
from sunspark.records import StepRecord, read_records
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.cluster.namespaces import Host
from tests.cluster.standalone import MEGABITS_PER_SECOND, Driver, Standalone
from tests.distributed.harness import HOLD_AT_STEP, events, holds_until, joined, step_reached, wait_until
from tests.distributed.laws import Optimizer, assert_nothing_was_lost, law_config

Undisturbed = Callable[[Optimizer], str]

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]

STAND_STILL_SECONDS = LOST_SECONDS + 10
"""The coordinator names the lost worker after 2 s, and no call waits for more than 10 s (`parallel/rpc.py`)."""
SHORT_STEPS = 8
PULSE_SECONDS = 12
"""A worker that does not hear the driver for so long leaves (`training/pulse.py`)."""
END_SECONDS = 30
"""Spark's own end. Nothing may wait for hosts that are gone: `launch/job.py` would for 45 s more."""
START_SECONDS = 400.0
"""Spark's executors, then torch, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Training:
    """A training under way, which holds at a late step until it is released."""

    driver: Driver
    run: Path
    release: Path

    def reach(self, step: int) -> None:
        wait_until(lambda: self._goes_on() and step_reached(self.run) >= step, START_SECONDS, f"step {step}")

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_seconds: float = START_SECONDS) -> None:
        wait_until(lambda: self._goes_on() and condition(), timeout_seconds, what)

    def end(self) -> dict[str, object]:
        """Let it go, and give its result; what it held for has happened."""
        self.release.touch()
        has_ended = lambda: self.driver.process.poll() is not None  # noqa: E731
        wait_until(lambda: has_ended() or self._has_finished(), START_SECONDS, "the last step")
        return self.driver.result(END_SECONDS)

    def host_of(self, worker: int, hosts: list[Host]) -> Host:
        """Where the newest process of a worker runs."""
        return self.hosts_at_work(hosts)[worker]

    def hosts_at_work(self, hosts: list[Host]) -> dict[int, Host]:
        """Where the newest process of every worker runs."""
        by_address = {host.address: host for host in hosts}
        joins = [event for event in events(self.run) if event["event"] == "joined"]
        return {int(str(e["worker"])): by_address[str(e["detail"]).partition(",")[0]] for e in joins}

    def stood_still_seconds(self) -> float:
        """The longest time between two steps, from the first checkpoint to the hold; a worker was missed meanwhile."""
        first: dict[int, float] = {}
        records = [r for r in read_records(str(self.run)) if isinstance(r, StepRecord) and 40 <= r.step < HOLD_AT_STEP]
        for record in records:
            first[record.step] = min(record.time_unix_seconds, first.get(record.step, record.time_unix_seconds))
        assert len(first) == HOLD_AT_STEP - 40
        assert {2, 3} >= {record.world_size for record in records} >= {2}, "what was done was not felt"
        return max(later - earlier for earlier, later in itertools.pairwise(sorted(first.values())))

    def _has_finished(self) -> bool:
        return any(event["event"] == "finished" for event in events(self.run))

    def _goes_on(self) -> bool:
        assert self.driver.process.poll() is None, f"the driver ended too early:\n{self.driver.tail()}"
        return True


def config(workers: int = 3, **launch: object) -> TrainConfig:
    settings = {"workers": workers, **launch}
    return replace(law_config("sgd", workers=workers), launch=LaunchConfig(**settings))  # type: ignore[arg-type]


@pytest.fixture
def hosts(standalone: Standalone) -> list[Host]:
    """Three hosts that nothing has happened to; all of one name, as containers often are."""
    if missing := 3 - len(standalone.workers):
        standalone.add_workers(missing, hostname="node")
    return list(standalone.workers)


@pytest.fixture
def training(standalone: Standalone, hosts: list[Host], law_dataset: str, run_folder: Path) -> Iterator[Training]:
    """One on three workers, past its first checkpoint."""
    release = run_folder.with_suffix(".release")
    driver = standalone.train(law_dataset, run_folder, config(), holds_until(release, len(hosts), 2 * START_SECONDS))
    under_way = Training(driver, run_folder, release)
    try:
        under_way.reach(40)
        yield under_way
    finally:
        driver.kill()


@pytest.mark.laws
def test_hosts_that_share_a_name_train_like_one_worker(
    training: Training, hosts: list[Host], undisturbed: Undisturbed
) -> None:
    result = training.end()
    assert result["workers"] == 3
    assert set(training.hosts_at_work(hosts).values()) == set(hosts)
    assert_nothing_was_lost(str(training.run), undisturbed("sgd"))


@pytest.mark.laws
def test_a_link_that_is_down_for_20_seconds(training: Training, hosts: list[Host], undisturbed: Undisturbed) -> None:
    with training.host_of(1, hosts).unplugged():
        time.sleep(20)
    training.wait_for(lambda: joined(training.run, 1), "the return of worker 1")
    training.end()
    assert training.stood_still_seconds() <= STAND_STILL_SECONDS
    assert_nothing_was_lost(str(training.run), undisturbed("sgd"))


@pytest.mark.laws
@pytest.mark.parametrize("lost", ["from the worker", "to the worker"])
def test_a_link_that_loses_packets_one_way(
    training: Training, standalone: Standalone, hosts: list[Host], undisturbed: Undisturbed, lost: str
) -> None:
    sender, receiver = training.host_of(1, hosts), standalone.driver
    if lost == "to the worker":
        sender, receiver = receiver, sender
    with sender.loses_packets_to(receiver):
        training.reach(240)
        training.end()
    assert training.stood_still_seconds() <= STAND_STILL_SECONDS + PULSE_SECONDS
    assert_nothing_was_lost(str(training.run), undisturbed("sgd"))


def test_a_host_that_is_lost_for_good(
    training: Training, standalone: Standalone, hosts: list[Host], undisturbed: Undisturbed
) -> None:
    standalone.lose(training.host_of(1, hosts))
    training.end()
    assert training.stood_still_seconds() <= STAND_STILL_SECONDS
    assert_nothing_was_lost(str(training.run), undisturbed("sgd"))


@pytest.mark.laws
def test_a_host_that_joins_late(
    standalone: Standalone, hosts: list[Host], law_dataset: str, run_folder: Path, undisturbed: Undisturbed
) -> None:
    standalone.lose(hosts[0])
    release = run_folder.with_suffix(".release")
    driver = standalone.train(law_dataset, run_folder, config(), holds_until(release, 3, 2 * START_SECONDS))
    training = Training(driver, run_folder, release)
    try:
        training.reach(40)
        (late,) = standalone.add_workers(1)
        at_work = lambda: training.hosts_at_work(standalone.workers).values()  # noqa: E731
        training.wait_for(lambda: late in at_work(), "a worker on the late host")
        result = training.end()
    finally:
        driver.kill()
    assert result["recoveries"] == 1
    assert_nothing_was_lost(str(run_folder), undisturbed("sgd"))


@pytest.mark.laws
def test_222_megabytes_are_recovered_over_100_megabits(
    standalone: Standalone, hosts: list[Host], law_dataset: str, run_folder: Path
) -> None:
    release = run_folder.with_suffix(".release")
    faults = [
        Fault(worker=1, phase="backward", step=2),
        *holds_until(release, len(hosts), 2 * START_SECONDS, step=SHORT_STEPS - 2),
    ]
    for host in hosts:
        host.limit(100)
    training = Training(standalone.train(law_dataset, run_folder, large_config(), faults), run_folder, release)
    try:
        training.wait_for(lambda: bool(recovered_megabytes(run_folder, 1)), "the recovery of worker 1")
        result = training.end()
    finally:
        training.driver.kill()
        for host in hosts:
            host.limit(MEGABITS_PER_SECOND)
    assert recovered_megabytes(run_folder, 1) > 220
    assert result["steps_redone"] == 1, "those who wait for a worker that recovers gave up"
    assert verify(str(run_folder)).exactly_once


def large_config() -> TrainConfig:
    """18.5 M parameters with Adam, in a few steps."""
    training = TrainingConfig(epochs=2, global_batch_size=64, dtype="float32", checkpoint_every=SHORT_STEPS)
    model = ModelConfig(model_args={"n_filters": 16, "wide_units": 34816})
    return replace(config(), model=model, training=training, optim=OptimConfig(learning_rate=1e-4))


def recovered_megabytes(run: Path, worker: int) -> float:
    """The size of the state that the worker has taken from its peers; 0 before."""
    found = [str(e["detail"]) for e in events(run) if e["event"] == "recovered" and e["worker"] == worker]
    return float(found[-1].split()[-2]) if found else 0.0
