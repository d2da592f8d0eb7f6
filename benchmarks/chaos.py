"""Kill, stop, fill and unplug at random while a run trains; it must end, with every sample applied exactly once.

Three workers on a Spark standalone cluster of network namespaces; where those cannot be made, on `local-cluster`,
without what needs hosts. What is done to whom follows from the seed. The cost of an event is the longest time between
two applied steps from then until the next event, less the median step.

    python -m benchmarks.chaos [--minutes 10] [--seed N]
"""

import argparse
import contextlib
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from benchmarks.stall import make_dataset, newest_processes, steps_of
from sunspark.data.loader import LoaderConfig
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.cluster.namespaces import Host, why_not
from tests.cluster.standalone import Driver, Standalone, training_command
from tests.distributed.harness import descendants, events, is_running

WORKERS: Final = 3
MEGABITS_PER_SECOND: Final = 200
"""A step takes a quarter of a second to travel: the network sets the pace, not the machine."""
_SECONDS_PER_STEP: Final = 0.4
_STEPS_PER_EPOCH: Final = 8
_FULL_SECONDS: Final = 15.0
_START_SECONDS: Final = 300.0
_SETTLE_SECONDS: Final = 40.0
_END_SECONDS: Final = 900.0


class Cluster(Protocol):
    """Where the run trains."""

    def train(self, dataset: str, run: Path, config: TrainConfig) -> Driver: ...
    def processes(self) -> list[int]:
        """All of its processes, and nobody else's."""
        ...


Action = Callable[["Chaos"], str]
"""Does something, and says to whom."""


@dataclass(frozen=True, slots=True)
class Event:
    """What was done, to whom, and when."""

    what: str
    whom: str
    unix_seconds: float


@dataclass(slots=True)
class Chaos:
    """One run, and what is done to it."""

    run: Path
    cluster: Cluster
    dice: random.Random
    events: list[Event] = field(default_factory=list)

    def strike(self, actions: Mapping[str, Action]) -> None:
        """Do one thing."""
        what, moment = self.dice.choice(list(actions)), time.time()
        self.events.append(Event(what, actions[what](self), moment))
        print(f"{what}: {self.events[-1].whom}", flush=True)

    def send_to_worker(self, number: signal.Signals) -> str:
        """Send a signal to one of the workers."""
        alive = set(self.cluster.processes())
        workers = sorted(
            (f"worker {worker}", pid) for worker, pid in newest_processes(self.run).items() if pid in alive
        )
        return _send(number, *self.dice.choice(workers)) if workers else "none was there"

    def host(self) -> Host:
        """One of the worker hosts."""
        assert isinstance(self.cluster, Namespaces)
        return self.dice.choice(self.cluster.standalone.workers)


def kill_executor(chaos: Chaos) -> str:
    pids = sorted(filter(_is_executor, chaos.cluster.processes()))
    return _send(signal.SIGKILL, "executor", chaos.dice.choice(pids)) if pids else "none was there"


def kill_worker(chaos: Chaos) -> str:
    return chaos.send_to_worker(signal.SIGKILL)


def stop_worker(chaos: Chaos) -> str:
    return chaos.send_to_worker(signal.SIGSTOP)


def pull_the_cable(chaos: Chaos) -> str:
    host, seconds = chaos.host(), chaos.dice.uniform(1, 25)
    with host.unplugged():
        time.sleep(seconds)
    return f"{host.address}, {seconds:.0f} s"


def fill_the_disk(chaos: Chaos) -> str:
    """Empty a host's cache, leave no room for another, and kill its worker, which must read everything again."""
    assert isinstance(chaos.cluster, Namespaces)
    host = chaos.host()
    disk = chaos.cluster.disk_of(host)
    for blob in [path for path in disk.rglob("*") if path.is_file()]:
        blob.unlink(missing_ok=True)
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    here = set(host.processes())
    for worker, pid in newest_processes(chaos.run).items():
        if pid in here:
            _send(signal.SIGKILL, f"worker {worker}", pid)
    time.sleep(_FULL_SECONDS)
    filler.unlink()
    return f"{host.address}, {_FULL_SECONDS:.0f} s"


ANYWHERE: Final[Mapping[str, Action]] = {
    "executor killed": kill_executor,
    "worker killed": kill_worker,
    "worker stopped": stop_worker,
}
ON_HOSTS: Final[Mapping[str, Action]] = {"link down": pull_the_cable, "disk full": fill_the_disk}


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Three hosts, each in a network namespace."""

    standalone: Standalone

    def train(self, dataset: str, run: Path, config: TrainConfig) -> Driver:
        return self.standalone.train(dataset, run, config)

    def processes(self) -> list[int]:
        return [pid for host in self.standalone.workers for pid in host.processes()]

    def disk_of(self, host: Host) -> Path:
        """The host's own disk, seen from here: through one of its processes."""
        daemon = next(pid for pid in host.processes() if "deploy.worker.Worker" in _command_of(pid))
        return Path(f"/proc/{daemon}/root{self.standalone.disk}")


@dataclass(slots=True)
class LocalCluster:
    """Executors of this machine."""

    folder: Path
    driver: Driver | None = None

    def train(self, dataset: str, run: Path, config: TrainConfig) -> Driver:
        log = self.folder / "driver.log"
        with log.open("wb") as output:
            command = training_command(self.folder, dataset, run, config)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.driver = Driver(process, log)
        return self.driver

    def processes(self) -> list[int]:
        assert self.driver is not None
        return descendants(self.driver.process.pid)


@contextlib.contextmanager
def open_cluster(folder: Path) -> Iterator[tuple[Cluster, Mapping[str, Action]]]:
    """The cluster that can be made here, and what can be done to it."""
    if reason := why_not():
        print(f"on local-cluster, where no link goes down and no disk fills: {reason}")
        yield LocalCluster(folder), ANYWHERE
        return
    with Standalone(folder / "cluster", megabits_per_second=MEGABITS_PER_SECOND) as standalone:
        standalone.add_workers(WORKERS)
        yield Namespaces(standalone), {**ANYWHERE, **ON_HOSTS}


def config(minutes: float, master: str | None) -> TrainConfig:
    """1.2 M parameters: 5 MB a step."""
    steps = minutes * 60 / _SECONDS_PER_STEP
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8}),
        optim=OptimConfig(learning_rate=1e-4, schedule="constant"),
        data=LoaderConfig(image_size=32),
        training=TrainingConfig(
            epochs=round(steps / _STEPS_PER_EPOCH) + 1, global_batch_size=32, dtype="float32", checkpoint_every=50
        ),
        launch=LaunchConfig(workers=WORKERS, master=master),
    )


def rage(chaos: Chaos, actions: Mapping[str, Action], driver: Driver, seconds: float) -> None:
    """Strike again and again, each time when all workers train together, or do not for too long."""
    wait_for_all(chaos.run, driver, _START_SECONDS)
    end = time.monotonic() + seconds
    while time.monotonic() < end and driver.process.poll() is None and not has_ended(chaos.run):
        chaos.strike(actions)
        wait_for_all(chaos.run, driver, _SETTLE_SECONDS)
        time.sleep(chaos.dice.uniform(0, 3))


def wait_for_all(run: Path, driver: Driver, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline and driver.process.poll() is None and not has_ended(run):
        time.sleep(0.5)
        latest = steps_of(run)[-1:]
        fresh = [step for step in latest if float(str(step["time_unix_seconds"])) > time.time() - 4]
        if fresh and fresh[0]["world_size"] == WORKERS and all(map(is_running, newest_processes(run).values())):
            return


def has_ended(run: Path) -> bool:
    return any(event["event"] == "finished" for event in events(run))


def report(chaos: Chaos) -> None:
    """What was done, and what it cost."""
    times = sorted({float(str(step["time_unix_seconds"])) for step in steps_of(chaos.run, keep_all=True)})
    median = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
    costs: dict[str, list[float]] = {}
    print(f"\n{'after':>7}  {'what':<16} {'whom':<34} {'stood still':>11}")
    for event, following in itertools.zip_longest(chaos.events, chaos.events[1:]):
        end = following.unix_seconds if following else times[-1]
        before = [t for t in times if t <= event.unix_seconds][-1:]
        near = [*before, *(t for t in times if event.unix_seconds < t <= end)]
        cost = max((later - earlier for earlier, later in itertools.pairwise(near)), default=median) - median
        costs.setdefault(event.what, []).append(cost)
        print(f"{event.unix_seconds - times[0]:>5.0f} s  {event.what:<16} {event.whom:<34} {cost:>9.1f} s")
    print(f"\n{'what':<16} {'times':>5} {'median':>8} {'worst':>8}")
    for what, stalls in sorted(costs.items()):
        print(f"{what:<16} {len(stalls):>5} {statistics.median(stalls):>6.1f} s {max(stalls):>6.1f} s")


def run_chaos(folder: Path, minutes: float, seed: int) -> bool:
    """Whether the run ended with every sample applied exactly once."""
    print(f"seed {seed}")
    dataset, run = make_dataset(folder), folder / "run"
    with open_cluster(folder) as (cluster, actions):
        master = "local-cluster[3,1,1024]" if isinstance(cluster, LocalCluster) else None
        driver = cluster.train(dataset, run, config(minutes, master))
        chaos = Chaos(run, cluster, random.Random(seed))
        try:
            rage(chaos, actions, driver, minutes * 60)
            result = driver.result(_END_SECONDS)
        finally:
            driver.kill()
    report(chaos)
    verdict = verify(str(run))
    print(
        f"\nseed {seed}: {result['steps']} steps, {len(chaos.events)} events, {result['steps_redone']} steps redone, "
        f"{result['recoveries']} recoveries; exactly once: {'yes' if verdict.exactly_once else 'NO'}"
    )
    for problem in verdict.problems:
        print(problem)
    return verdict.exactly_once


def _send(number: signal.Signals, whose: object, pid: int) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return f"{whose}, process {pid}"


def _is_executor(pid: int) -> bool:
    command = _command_of(pid)
    return "/java " in command and "CoarseGrainedExecutorBackend" in command


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if run_chaos(Path(folder), arguments.minutes, arguments.seed) else 1)


if __name__ == "__main__":
    main()
