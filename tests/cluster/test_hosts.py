"""What happens to hosts and links: the run ends in time, with the weights of a run that nothing happened to.

All worker hosts have one name, as containers often do. A case lasts as long as Spark needs to start things. What it
asserts of time is what training may stand still, and how long the end may take; both follow from the time-outs in
docs/architecture.md.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.roster import LOST_SECONDS
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.records import StepRecord, read_records
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.cluster.namespaces import Host
from tests.cluster.standalone import MEGABITS_PER_SECOND, Driver, Standalone
from tests.distributed.harness import events, holds_until, joined, step_reached, wait_until
from tests.distributed.laws import assert_nothing_was_lost, law_config

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

FIRST, HOLD = 16, 72
"""The checkpoint after which things happen, and the step at which all wait until they were felt."""
CHECKPOINT_EVERY = 8
STAND_STILL_SECONDS = LOST_SECONDS + 10
"""The coordinator names the lost worker after 2 s, and no call waits for more than 10 s (`parallel/rpc.py`)."""
PULSE_SECONDS = 12
"""A worker that does not hear the driver for so long leaves (`training/pulse.py`)."""
END_SECONDS = 30
"""Spark's own end. Nothing may wait for hosts that are gone: `launch/job.py` would for 45 s more."""
START_SECONDS = 300.0
"""Spark's executors, then torch, on a busy machine."""
RECOVERY_SECONDS = 90
"""222 MB take 18 s at 100 Mbit/s."""


@dataclass(frozen=True, slots=True)
class Training:
    """A training under way, which holds at a late step until it is released."""

    driver: Driver
    run: Path
    release: Path

    def reach(self, step: int) -> None:
        self.wait_for(lambda: step_reached(self.run) >= step, f"step {step}")

    def wait_for(self, condition: Callable[[], object], what: str, timeout_seconds: float = START_SECONDS) -> None:
        wait_until(lambda: self._goes_on() and bool(condition()), timeout_seconds, what)

    def end(self) -> dict[str, object]:
        """Let it go, and give its result; what it held for has happened."""
        self.release.touch()
        has_ended = lambda: self.driver.process.poll() is not None  # noqa: E731
        wait_until(lambda: has_ended() or self._has_finished(), START_SECONDS, "the last step")
        return self.driver.result(END_SECONDS)

    def hosts_at_work(self, hosts: list[Host]) -> dict[int, Host]:
        """Where the newest process of every worker runs."""
        by_address = {host.address: host for host in hosts}
        joins = [event for event in events(self.run) if event["event"] == "joined"]
        return {int(str(e["worker"])): by_address[str(e["detail"]).partition(",")[0]] for e in joins}

    def steps(self) -> list[StepRecord]:
        """The steps between the first event and the hold, as the first worker recorded them."""
        records = [r for r in read_records(str(self.run)) if isinstance(r, StepRecord) and FIRST <= r.step < HOLD]
        first = {r.step: r for r in sorted(records, key=lambda record: -record.time_unix_seconds)}
        return [first[step] for step in sorted(first)]

    def stood_still_seconds(self) -> float:
        """The longest time between two of these steps."""
        times = [record.time_unix_seconds for record in self.steps()]
        assert len(times) == HOLD - FIRST
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def _has_finished(self) -> bool:
        return any(event["event"] == "finished" for event in events(self.run))

    def _goes_on(self) -> bool:
        assert self.driver.process.poll() is None, f"the driver ended too early:\n{self.driver.tail()}"
        return True


def config() -> TrainConfig:
    """96 steps."""
    short = law_config("sgd", workers=3)
    training = replace(short.training, epochs=6, checkpoint_every=CHECKPOINT_EVERY)
    return replace(short, training=training, launch=LaunchConfig(workers=3))


@pytest.fixture
def hosts(standalone: Standalone) -> list[Host]:
    return standalone.have_workers(3)


@pytest.fixture
def training(standalone: Standalone, hosts: list[Host], law_dataset: str, run_folder: Path) -> Iterator[Training]:
    """One on three workers, each on a host of its own, past its first checkpoints."""
    release = run_folder.with_suffix(".release")
    faults = holds_until(release, 3, 2 * START_SECONDS, step=HOLD)
    driver = standalone.train(law_dataset, run_folder, config(), faults)
    under_way = Training(driver, run_folder, release)
    try:
        under_way.reach(FIRST)
        assert set(under_way.hosts_at_work(hosts).values()) == set(hosts)
        yield under_way
    finally:
        driver.kill()


@pytest.fixture(scope="module")
def undisturbed(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same steps by one local worker."""
    run = str(tmp_path_factory.mktemp("undisturbed") / "run")
    train(law_dataset, run, replace(config(), launch=LaunchConfig(launcher="local", workers=1)))
    return run


@pytest.mark.laws
def test_a_link_that_is_down_for_20_seconds(training: Training, hosts: list[Host], undisturbed: str) -> None:
    with training.hosts_at_work(hosts)[1].unplugged():
        time.sleep(20)
    training.wait_for(lambda: joined(training.run, 1), "the return of worker 1")
    training.end()
    assert training.stood_still_seconds() <= STAND_STILL_SECONDS
    assert {step.world_size for step in training.steps()} == {2, 3}
    assert_nothing_was_lost(str(training.run), undisturbed)


@pytest.mark.laws
def test_links_that_lose_packets_one_way(
    training: Training, standalone: Standalone, hosts: list[Host], undisturbed: str
) -> None:
    """The driver does not hear one worker, then it is not heard by another; the third goes on alone."""
    mute, deaf = (training.hosts_at_work(hosts)[worker] for worker in (1, 2))
    with mute.loses_packets_to(standalone.driver):
        training.reach(40)
        with standalone.driver.loses_packets_to(deaf):
            training.reach(HOLD - CHECKPOINT_EVERY)
            training.end()
    assert training.stood_still_seconds() <= STAND_STILL_SECONDS + PULSE_SECONDS
    assert {step.world_size for step in training.steps()} == {1, 2, 3}
    assert_nothing_was_lost(str(training.run), undisturbed)


def test_of_three_hosts_of_one_name_one_is_lost_for_good(
    training: Training, standalone: Standalone, hosts: list[Host]
) -> None:
    standalone.lose(training.hosts_at_work(hosts)[1])
    training.end()
    assert training.stood_still_seconds() <= STAND_STILL_SECONDS
    assert {step.world_size for step in training.steps()} == {2, 3}
    assert verify(str(training.run)).exactly_once


@pytest.mark.laws
def test_a_late_host_recovers_222_megabytes_over_100_megabits(
    standalone: Standalone, law_dataset: str, run_folder: Path
) -> None:
    release = run_folder.with_suffix(".release")
    hosts = standalone.have_workers(2)
    for host in hosts:
        host.limit(100)
    driver = standalone.train(
        law_dataset, run_folder, large_config(), holds_until(release, 3, 2 * START_SECONDS, step=2)
    )
    training = Training(driver, run_folder, release)
    try:
        training.wait_for(lambda: len(training.hosts_at_work(hosts)) == 2, "the start with two workers")
        (late,) = standalone.add_workers(1)
        late.limit(100)
        training.wait_for(
            lambda: late in training.hosts_at_work(standalone.workers).values(), "a worker on the late host"
        )
        release.touch()
        training.wait_for(lambda: recovered_megabytes(run_folder) > 220, "the recovery", RECOVERY_SECONDS)
        result = training.end()
    finally:
        driver.kill()
        for host in standalone.workers:
            host.limit(MEGABITS_PER_SECOND)
    assert (result["recoveries"], result["steps_redone"]) == (1, 0), "those who wait for the late one gave up"
    assert verify(str(run_folder)).exactly_once


def large_config() -> TrainConfig:
    """18.5 M parameters with Adam, in four steps."""
    training = TrainingConfig(epochs=1, global_batch_size=64, dtype="float32", checkpoint_every=4)
    model = ModelConfig(model_args={"n_filters": 16, "wide_units": 34816})
    return replace(config(), model=model, training=training, optim=OptimConfig(learning_rate=1e-4))


def recovered_megabytes(run: Path) -> float:
    """The size of the state that a worker has taken from its peers; 0 before."""
    found = [str(event["detail"]) for event in events(run) if event["event"] == "recovered"]
    return float(found[-1].split()[-2]) if found else 0.0
