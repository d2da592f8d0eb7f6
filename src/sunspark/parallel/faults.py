"""Faults on purpose, for tests of what a run survives: kill, stop, stall or fail a worker at a phase of a step.

They are handed to `sunspark.train` and travel in the worker's spec, so that a test (of this project or of its users)
can name the exact moment.
"""

import os
import signal
import threading
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from sunspark.errors import ConfigError

Phase = Literal[
    "quorum",
    "recovery",
    "connect",
    "data",
    "forward",
    "backward",
    "reduce",
    "reduced",
    "optimizer",
    "store",
    "applied",
    "lease",
    "pull",
    "push",
    "sent",
    "pushed",
    "evaluate",
    "publish",
    "checkpoint",
    "close",
    "end",
]
PHASES: Final[tuple[Phase, ...]] = typing.get_args(Phase)
Action = Literal["kill", "stop", "stall", "raise"]
_WITH_SERVER: Final = frozenset[Phase](("lease", "pull", "push", "sent", "pushed"))
_WITHOUT_SERVER: Final = frozenset[Phase](
    ("quorum", "recovery", "connect", "reduce", "reduced", "store", "applied", "publish", "checkpoint", "close", "end")
)
Moment = int | Literal["first", "every"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What happens to one process of a worker, and when."""

    worker: int
    phase: Phase
    """The phase just begun ("reduced": the all-reduce has ended; "applied": the step is applied; "sent": an update has
    left, its reply has not come; "pushed": it has)."""
    step: Moment = "first"
    """The step; first: the first time that the phase is reached, whatever the step; every: each time."""
    incarnation: int = 1
    """Which process of the worker: 1 is its first. 0 for every one."""
    action: Action = "kill"
    """kill: SIGKILL; stop: SIGSTOP; stall: wait in that phase; raise: an exception."""
    delay_seconds: float = 0.0
    """kill, stop: how long after the moment (the worker goes on meanwhile). stall: how long at most."""
    until_exists: str = ""
    """stall: a file whose appearance ends it."""

    def __str__(self) -> str:
        """For messages: who it is for, and when."""
        process = f" (process {self.incarnation})" if self.incarnation > 1 else ""
        return f"worker {self.worker}{process}, phase {self.phase}, step {self.step}: {self.action}"

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ConfigError(f"a step has no phase {self.phase!r}; choose one of {', '.join(PHASES)}")
        if self.action not in typing.get_args(Action):
            raise ConfigError(f"a fault cannot {self.action!r}; choose one of {', '.join(typing.get_args(Action))}")
        if self.step not in ("first", "every") and not (isinstance(self.step, int) and self.step >= 0):
            raise ConfigError(f"the step of a fault must be at least 0, first or every; got {self.step!r}")
        if self.worker < 0 or self.incarnation < 0:
            raise ConfigError(f"worker and incarnation count from 0; got {self.worker} and {self.incarnation}")
        if self.delay_seconds < 0 or (self.action == "stall" and not self.delay_seconds):
            raise ConfigError(f"a fault of {self.delay_seconds:g} s has no effect; give it a time above 0")
        if self.delay_seconds and self.action == "raise":
            raise ConfigError("an exception cannot be raised later than its phase begins; leave the delay out")
        if self.until_exists and self.action != "stall":
            raise ConfigError(f"a file ends a stall, nothing else; the fault is to {self.action}")


def kill_at(worker: int, phase: Phase, step: Moment) -> Fault:
    """SIGKILL for the worker's process as it begins that phase of that step; its next one is left alone."""
    return Fault(worker=worker, phase=phase, step=step)


def fail_at(worker: int, phase: Phase, step: Moment) -> Fault:
    """An exception in the worker's process, which ends by it; its next one is left alone."""
    return Fault(worker=worker, phase=phase, step=step, action="raise")


def stall_at(worker: int, phase: Phase, step: Moment, seconds: float) -> Fault:
    """The worker stands still for so long, whichever process of it; with step "every" it is a slow worker."""
    return Fault(worker=worker, phase=phase, step=step, incarnation=0, action="stall", delay_seconds=seconds)


def refuse_pointless(faults: Sequence[Fault], num_workers: int, num_steps: int, *, has_server: bool) -> None:
    """Raises ConfigError where a fault can never happen in a run of so many workers and steps.

    `has_server`: its workers exchange with a parameter server.
    """
    never = _WITHOUT_SERVER if has_server else _WITH_SERVER
    for fault in faults:
        if fault.phase in never:
            kind = "with" if has_server else "without"
            raise ConfigError(f"a fault is for phase {fault.phase!r}, which no worker {kind} a parameter server has")
        if fault.worker >= num_workers:
            raise ConfigError(f"a fault is for worker {fault.worker}, but workers are 0 to {num_workers - 1}")
        if isinstance(fault.step, int) and fault.step > num_steps:
            raise ConfigError(f"a fault is for step {fault.step}, but the run ends after {num_steps} steps")


@final
class FaultInjector:
    """Carries out the faults of one worker process. Without faults it costs one comparison per phase."""

    def __init__(
        self,
        faults: Sequence[Fault],
        worker: int,
        incarnation: int,
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`tell` hears the place of a fault in `faults` right before it strikes for the first time."""
        self._faults = {
            place: fault
            for place, fault in enumerate(faults)
            if fault.worker == worker and fault.incarnation in (0, incarnation)
        }
        self._tell = tell
        self._told: set[int] = set()

    def reach(self, phase: Phase, step: int) -> None:
        """The worker begins `phase` of `step`."""
        for place, fault in list(self._faults.items()):
            if fault.phase == phase and fault.step in ("first", "every", step):
                if fault.step != "every":
                    del self._faults[place]
                if place not in self._told:
                    self._told.add(place)
                    self._tell(place)
                _carry_out(fault)


def _carry_out(fault: Fault) -> None:
    match fault.action:
        case "raise":
            raise RuntimeError(f"injected fault in phase {fault.phase}")
        case "stall":
            _stall(fault)
        case "kill":
            _strike(signal.SIGKILL, fault.delay_seconds)
        case "stop":
            _strike(signal.SIGSTOP, fault.delay_seconds)


def _stall(fault: Fault) -> None:
    end = time.monotonic() + fault.delay_seconds
    while time.monotonic() < end and not (fault.until_exists and os.path.exists(fault.until_exists)):
        time.sleep(0.02)


def _strike(number: signal.Signals, delay_seconds: float) -> None:
    def strike() -> None:
        time.sleep(delay_seconds)
        os.kill(os.getpid(), number)

    if delay_seconds:
        threading.Thread(target=strike, daemon=True, name="fault").start()
    else:
        os.kill(os.getpid(), number)
