"""Faults are refused where they could never happen, and happen when they are said to."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict

import pytest

from sunspark.errors import ConfigError
from sunspark.parallel.faults import Fault, FaultInjector, fail_at, kill_at, refuse_pointless, stall_at


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kill_at(0, "forwards", step=1), "no phase 'forwards'; choose one of quorum, .*, forward, .*end"),
        (lambda: Fault(worker=0, phase="data", action="explode"), "cannot 'explode'; choose one of kill, stop"),
        (lambda: fail_at(0, "data", step=-1), "at least 0, first or every; got -1"),
        (lambda: fail_at(0, "data", step="last"), "at least 0, first or every; got 'last'"),
        (lambda: kill_at(-1, "data", step=1), "count from 0; got -1 and 1"),
        (lambda: stall_at(0, "data", step=1, seconds=0), "of 0 s has no effect"),
        (lambda: Fault(worker=0, phase="data", action="raise", delay_seconds=1), "cannot be raised later"),
        (
            lambda: Fault(worker=0, phase="data", until_exists="file"),
            "ends a stall, nothing else; the fault is to kill",
        ),
        (
            lambda: refuse_pointless([kill_at(0, "push", 1)], 2, 10, has_server=False),
            "'push', which no worker without a",
        ),
        (
            lambda: refuse_pointless([kill_at(0, "reduce", 1)], 2, 10, has_server=True),
            "'reduce', which no worker with a",
        ),
        (
            lambda: refuse_pointless([kill_at(2, "data", 1)], 2, 10, has_server=False),
            "for worker 2, but workers are 0 to 1",
        ),
        (
            lambda: refuse_pointless([kill_at(1, "data", 11)], 2, 10, has_server=False),
            "for step 11, but the run ends after 10 steps",
        ),
    ],
)
def test_what_could_never_happen_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_fault_happens_once_at_its_step_and_to_its_process_alone() -> None:
    fault = fail_at(1, "backward", step=3)
    others = [FaultInjector([fault], worker, incarnation) for worker, incarnation in ((0, 1), (1, 2))]
    injector = FaultInjector([fault], 1, 1)
    for step in range(5):
        for other in others:
            other.reach("backward", step)
        injector.reach("forward", step)
        if step == 3:
            with pytest.raises(RuntimeError, match="injected fault in phase backward"):
                injector.reach("backward", step)
        injector.reach("backward", step)


def test_a_fault_tells_that_it_strikes_before_it_does_and_once() -> None:
    faults = [kill_at(1, "data", 2), fail_at(0, "data", 2), stall_at(0, "data", "every", seconds=0.001)]
    told: list[int] = []
    injector = FaultInjector(faults, 0, 1, told.append)
    injector.reach("data", 1)
    injector.reach("data", 1)
    assert told == [2]
    with pytest.raises(RuntimeError):
        injector.reach("data", 2)
    assert told == [2, 1]
    assert str(faults[0]) == "worker 1, phase data, step 2: kill"


def test_a_stall_at_every_step_is_a_slow_worker_and_survives_the_way_to_it() -> None:
    fault = Fault(**json.loads(json.dumps(asdict(stall_at(0, "forward", "every", seconds=0.05)))))
    injector = FaultInjector([fault], 0, 7)
    started = time.monotonic()
    for step in range(3):
        injector.reach("forward", step)
    assert time.monotonic() - started >= 0.15
