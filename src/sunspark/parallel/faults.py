"""Faults on purpose, for tests of what a run survives: kill, stop, stall or fail a worker at a phase of a step.

They travel in the worker's spec, so that a test (of this project or of its users) can name the exact moment.
"""

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

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
    "checkpoint",
    "close",
    "end",
]
Action = Literal["kill", "stop", "stall", "raise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What happens to one process of a worker, and when."""

    worker: int
    phase: Phase
    """The phase just begun ("reduced": the all-reduce has ended; "applied": the step is applied; "sent": an update has
    left, its reply has not come; "pushed": it has)."""
    step: int = -1
    """The step; -1 for the first time that the phase is reached."""
    incarnation: int = 1
    """Which process of the worker: 1 is its first. 0 for every one."""
    action: Action = "kill"
    """kill: SIGKILL; stop: SIGSTOP; stall: wait in that phase; raise: an exception."""
    delay_seconds: float = 0.0
    """kill, stop: how long after the moment (the worker goes on meanwhile). stall: how long at most."""
    until_exists: str = ""
    """stall: a file whose appearance ends it."""


@final
class FaultInjector:
    """Carries out the faults of one worker process. Without faults it costs one comparison per phase."""

    def __init__(self, faults: Sequence[Fault], worker: int, incarnation: int) -> None:
        self._faults = [f for f in faults if f.worker == worker and f.incarnation in (0, incarnation)]

    def reach(self, phase: Phase, step: int) -> None:
        """The worker begins `phase` of `step`."""
        for fault in list(self._faults):
            if fault.phase == phase and fault.step in (-1, step):
                self._faults.remove(fault)
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
