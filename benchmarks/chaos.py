"""Kill, stop, fill and unplug at random while a run trains; it must end, with every sample applied exactly once.

Three workers on a Spark standalone cluster of network namespaces (Linux, as root). What is done to whom follows from
the seed. The next thing is done when all workers train together again, or do not for too long. What an event cost is
the longest time between two applied steps from then until the next event, less the median step.

    python -m benchmarks.chaos [--minutes 10] [--seed N]
"""

import argparse
import contextlib
import itertools
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.runs import make_dataset, newest_processes, steps_of, train_together
from sunspark.data.loader import LoaderConfig
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.cluster.namespaces import Host, why_not
from tests.cluster.standalone import MEGABITS_PER_SECOND, Driver, Standalone
from tests.distributed.harness import events

WORKERS: Final = 3
SLOW_MEGABITS_PER_SECOND: Final = 200
"""A step takes a quarter of a second to travel: the network sets the pace, not the machine."""
_SECONDS_PER_STEP: Final = 0.4
_STEPS_PER_EPOCH: Final = 8
_FULL_SECONDS: Final = 15.0
_START_SECONDS: Final = 300.0
_FELT_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 40.0
_END_SECONDS: Final = 600.0

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
    cluster: Standalone
    driver: Driver
    dice: random.Random
    events: list[Event] = field(default_factory=list)

    def rage(self, seconds: float) -> None:
        """Strike again and again, unless the run ends before."""
        self.wait_for_all(0.0, _START_SECONDS)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.has_ended():
            self.strike()
            self.wait_for_all(time.time() + _FELT_SECONDS, _SETTLE_SECONDS)
            time.sleep(self.dice.uniform(0, 3))

    def strike(self) -> None:
        """Do one thing."""
        what, moment = self.dice.choice(list(ACTIONS)), time.time()
        self.events.append(Event(what, ACTIONS[what](self), moment))
        print(f"{what}: {self.events[-1].whom}", flush=True)

    def wait_for_all(self, since_unix_seconds: float, timeout_seconds: float) -> None:
        """Wait until all workers have done a step together since then; not longer than the time-out."""
        deadline = time.monotonic() + timeout_seconds
        while not train_together(self.run, WORKERS, since_unix_seconds):
            if time.monotonic() > deadline or self.has_ended():
                return
            time.sleep(0.5)

    def has_ended(self) -> bool:
        is_finished = any(event["event"] == "finished" for event in events(self.run))
        return is_finished or self.driver.process.poll() is not None

    def host(self) -> Host:
        """One of the worker hosts."""
        return self.dice.choice(self.cluster.workers)

    def send(self, number: signal.Signals, victims: Sequence[tuple[str, int]]) -> str:
        """Send a signal to one of the processes, if there is any. They are given with their names."""
        if not victims:
            return "none was there"
        name, pid = self.dice.choice(victims)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return f"{name}, process {pid}"

    def workers_on(self, hosts: Sequence[Host]) -> list[tuple[str, int]]:
        """The worker processes there."""
        there = {pid for host in hosts for pid in host.processes()}
        return sorted((f"worker {worker}", pid) for worker, pid in newest_processes(self.run).items() if pid in there)


def kill_executor(chaos: Chaos) -> str:
    pids = [pid for host in chaos.cluster.workers for pid in host.processes()]
    executors = [("executor", pid) for pid in sorted(pids) if "CoarseGrainedExecutorBackend" in _command_of(pid)]
    return chaos.send(signal.SIGKILL, executors)


def kill_worker(chaos: Chaos) -> str:
    return chaos.send(signal.SIGKILL, chaos.workers_on(chaos.cluster.workers))


def stop_worker(chaos: Chaos) -> str:
    return chaos.send(signal.SIGSTOP, chaos.workers_on(chaos.cluster.workers))


def pull_the_cable(chaos: Chaos) -> str:
    host, seconds = chaos.host(), chaos.dice.uniform(1, 25)
    with host.unplugged():
        time.sleep(seconds)
    return f"{host.address}, {seconds:.0f} s"


def fill_the_disk(chaos: Chaos) -> str:
    """Empty a host's cache, leave no room for another, and kill its worker, which must read everything again."""
    host = chaos.host()
    disk = chaos.cluster.disk_of(host)
    for blob in disk.glob("sunspark-*/*/*.blob"):
        blob.unlink(missing_ok=True)
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    victim = chaos.send(signal.SIGKILL, chaos.workers_on([host]))
    time.sleep(_FULL_SECONDS)
    filler.unlink()
    return f"{host.address}, {_FULL_SECONDS:.0f} s; {victim}"


ACTIONS: Final[Mapping[str, Action]] = {
    "executor killed": kill_executor,
    "worker killed": kill_worker,
    "worker stopped": stop_worker,
    "link down": pull_the_cable,
    "disk full": fill_the_disk,
}


def config(minutes: float) -> TrainConfig:
    """1.2 M parameters: 5 MB a step."""
    epochs = round(minutes * 60 / _SECONDS_PER_STEP / _STEPS_PER_EPOCH) + 1
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8}),
        optim=OptimConfig(learning_rate=1e-4, schedule="constant"),
        data=LoaderConfig(image_size=32),
        training=TrainingConfig(epochs=epochs, global_batch_size=32, dtype="float32", checkpoint_every=50),
        launch=LaunchConfig(workers=WORKERS),
    )


def run_chaos(cluster: Standalone, folder: Path, minutes: float, seed: int) -> bool:
    """Whether the run ended with every sample applied exactly once. `cluster` has three worker hosts."""
    print(f"seed {seed}")
    dataset, run = make_dataset(folder), folder / "run"
    for host in cluster.workers:
        host.limit(SLOW_MEGABITS_PER_SECOND)
    driver = cluster.train(dataset, run, config(minutes))
    chaos = Chaos(run, cluster, driver, random.Random(seed))
    try:
        chaos.rage(minutes * 60)
        for host in cluster.workers:  # the rest is soon done
            host.limit(MEGABITS_PER_SECOND)
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


def report(chaos: Chaos) -> None:
    """What was done, and what it cost."""
    times = [step.unix_seconds for step in steps_of(chaos.run)]
    median = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
    costs: dict[str, list[float]] = {}
    print(f"\n{'after':>7}  {'what':<16} {'whom':<46} {'stood still':>11}")
    for event, following in itertools.zip_longest(chaos.events, chaos.events[1:]):
        end = following.unix_seconds if following else times[-1]
        before = [t for t in times if t <= event.unix_seconds][-1:]
        near = [*before, *(t for t in times if event.unix_seconds < t <= end)]
        cost = max((later - earlier for earlier, later in itertools.pairwise(near)), default=median) - median
        costs.setdefault(event.what, []).append(cost)
        print(f"{event.unix_seconds - times[0]:>5.0f} s  {event.what:<16} {event.whom:<46} {cost:>9.1f} s")
    print(f"\n{'what':<16} {'times':>5} {'median':>8} {'worst':>8}")
    for what, stalls in sorted(costs.items()):
        print(f"{what:<16} {len(stalls):>5} {statistics.median(stalls):>6.1f} s {max(stalls):>6.1f} s")


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
    if reason := why_not():
        sys.exit(f"chaos needs network namespaces (Linux, as root): {reason}")
    with tempfile.TemporaryDirectory() as name, Standalone(Path(name) / "cluster") as cluster:
        cluster.have_workers(WORKERS)
        is_well = run_chaos(cluster, Path(name), arguments.minutes, arguments.seed)
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
