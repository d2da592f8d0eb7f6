"""What it costs that steps count together: the quorum of a step and the sum of its evidence, without a model.

Every member is a process on this machine with all that a worker has besides its network: the heartbeats, the pulse,
the line to the lighthouse, the group. A step is what the trainer does around the computation: come to the quorum (which
tells, too, that the step before counts), look whether the group still stands, sum evidence, losses and one number in
the place of gradients, write the ledger. All members take their steps at once, so each step is as slow as the slowest.

Times are medians over the steps of all members, after a warm-up. Fails when a bound is missed.

    python -m benchmarks.quorum [--members 2 32] [--steps 600 100]
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import torch
from torch import nn

from sunspark.launch.coordinator import Coordinator
from sunspark.launch.roster import Roster
from sunspark.parallel.all_reduce import AllReduce
from sunspark.parallel.group import Group
from sunspark.parallel.ledger import Evidence, Ledger, LedgerLine
from sunspark.parallel.membership import Lighthouse, Membership, Position, replica_id_of
from sunspark.parallel.recovery import RecoverySource
from sunspark.parallel.rpc import RpcClient, RpcServer
from sunspark.training.driver_link import DriverLink
from sunspark.training.pulse import Heart, Progress, Pulse
from sunspark.training.strategies.strategy import Share

BOUNDS_SECONDS: Final = {2: 0.003, 32: 0.040}
_HOST: Final = "127.0.0.1"
_TOKEN: Final = "benchmark"
_WARMUP_STEPS: Final = 10
_START_SECONDS: Final = 300.0
_DEADLINE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Timing:
    """One step of one member."""

    quorum_seconds: float
    """To agree, and to see that the group stands."""
    sum_seconds: float
    """To sum evidence and losses, and to write the ledger."""

    @property
    def seconds(self) -> float:
        return self.quorum_seconds + self.sum_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a member is told before it starts."""

    worker: int
    coordinator: str
    lighthouse: str
    num_members: int
    num_steps: int


class Member:
    """A worker without a network."""

    def __init__(self, place: Place) -> None:
        self._place = place
        coordinator = RpcClient(place.coordinator, _TOKEN)
        self._replica_id = _claim(coordinator, place.worker)
        source = RecoverySource(bytes)
        server = RpcServer(_HOST, 0, _TOKEN, source.handlers, source.chunk_readers)
        coordinator.call("announce", replica_id=self._replica_id, address=server.uri)
        self._membership = Membership(place.lighthouse, self._replica_id, server.uri)
        self._group = Group(coordinator, self._replica_id, _HOST)
        self._progress = Progress()
        self._pulse = Pulse(coordinator, self._replica_id, self._progress, on_leave=lambda _: None)
        self._driver = DriverLink(coordinator, self._replica_id, self._pulse)
        self._parameter = nn.Parameter(torch.zeros(1))
        self._sum = AllReduce([self._parameter])
        self._ledger = Ledger()

    def run(self) -> list[Timing]:
        """Take all steps, each with all members."""
        Heart(self._membership).start()
        self._pulse.start()
        assert self._pulse.may_go.wait(_START_SECONDS), "not all members have come"
        return [self._take(step) for step in range(_WARMUP_STEPS + self._place.num_steps)][_WARMUP_STEPS:]

    def _take(self, step: int) -> Timing:
        started = time.perf_counter()
        self._progress.enter("quorum", has_own_deadline=True)
        position = Position(step=step, lineage=self._ledger.lineage, counted=step, failures=self._group.failures)
        agreement = self._membership.agree(position, _DEADLINE_SECONDS)
        assert agreement.world_size == self._place.num_members, f"{agreement.world_size} members in step {step}"
        self._driver.check_members(agreement)
        assert len(agreement.current) == agreement.world_size, f"a member is behind in step {step}"
        self._group.form(agreement, _DEADLINE_SECONDS)
        agreed = time.perf_counter()
        self._progress.enter("reduce", has_own_deadline=True)
        share = Share.empty(range(step, step + 1))
        share.add(step, Evidence(samples=1, sample_sum=step, pixel_sum=step), loss_sum=1.0)
        self._parameter.grad = torch.ones(1)
        self._sum.reduce(share.tallies, self._group, _DEADLINE_SECONDS)
        (total,) = share.evidences
        assert total.samples == self._place.num_members, f"{total.samples} samples in step {step}"
        self._ledger.append(LedgerLine(step=step, quorum_id=agreement.quorum_id, evidence=total))
        return Timing(agreed - started, time.perf_counter() - agreed)


def _claim(coordinator: RpcClient, worker: int) -> str:
    """Take the worker's place, as its supervisor and its process do; the name of that process."""
    supervisor = f"supervisor{worker}"
    coordinator.call("claim", worker=worker, supervisor=supervisor)
    incarnation = coordinator.call("next_incarnation", worker=worker, supervisor=supervisor)["incarnation"]
    replica_id = replica_id_of(worker, incarnation)
    coordinator.call("join", timeout_seconds=_START_SECONDS, replica_id=replica_id, host=_HOST, pid=os.getpid())
    return replica_id


def _main(place: Place, answer: Connection) -> None:
    torch.set_num_threads(1)
    answer.send(Member(place).run())
    answer.recv()  # the others may still need this one's part of the last sum


def measure(num_members: int, num_steps: int) -> list[list[Timing]]:
    """The steps of every member."""
    roster = Roster(num_members, _START_SECONDS, time.monotonic())
    coordinator = Coordinator(host=_HOST, port=0, token=_TOKEN, roster=roster)
    lighthouse = Lighthouse(_HOST, 0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Member.__module__])
    processes, ends = [], []
    try:
        for worker in range(num_members):
            end, other = context.Pipe()
            place = Place(
                worker=worker,
                coordinator=coordinator.uri,
                lighthouse=lighthouse.address,
                num_members=num_members,
                num_steps=num_steps,
            )
            processes.append(context.Process(target=_main, args=(place, other), daemon=True))
            processes[-1].start()
            other.close()
            ends.append(end)
        timings = [end.recv() for end in ends]
        for end in ends:
            end.send(None)
        for process in processes:
            process.join(10)
        return timings
    finally:
        for process in processes:
            process.kill()
        lighthouse.close()
        coordinator.close()


def line_of(num_members: int, timings: Sequence[Sequence[Timing]], bound_seconds: float | None) -> str:
    """A row of the table: median (10th to 90th percentile), in milliseconds."""
    steps = list(itertools.chain.from_iterable(timings))
    cells = [
        spread([timing.seconds for timing in steps]),
        spread([timing.quorum_seconds for timing in steps]),
        spread([timing.sum_seconds for timing in steps]),
        "" if bound_seconds is None else f"< {1000 * bound_seconds:g}",
    ]
    return f"| {num_members} | {len(timings[0])} | {' | '.join(cells)} |"


def spread(seconds: Sequence[float]) -> str:
    """In milliseconds."""
    deciles = statistics.quantiles(seconds, n=10)
    return f"{1000 * statistics.median(seconds):.2f} ({1000 * deciles[0]:.2f} to {1000 * deciles[-1]:.2f})"


def keeps(timings: Sequence[Sequence[Timing]], bound_seconds: float | None) -> bool:
    """Whether the median step stays below its bound."""
    steps = itertools.chain.from_iterable(timings)
    return bound_seconds is None or statistics.median(timing.seconds for timing in steps) < bound_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[2, 32])
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[600, 100], help="measured steps, for each of --members"
    )
    arguments = parser.parse_args()
    if len(arguments.steps) != len(arguments.members):
        parser.error("give as many --steps as --members")
    print("| members | steps | ms a step | quorum, ms | sum, ms | bound, ms |\n|---|---|---|---|---|---|")
    is_well = True
    for num_members, num_steps in zip(arguments.members, arguments.steps, strict=True):
        bound = BOUNDS_SECONDS.get(num_members)
        timings = measure(num_members, num_steps)
        print(line_of(num_members, timings, bound), flush=True)
        is_well &= keeps(timings, bound)
    sys.exit(0 if is_well else "a step costs more than its bound")


if __name__ == "__main__":
    main()
