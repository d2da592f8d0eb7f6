"""Where a worker is and how long it has been there: for its pulse, for injected faults, and for its records."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, final

from sunspark.parallel.faults import FaultInjector, Phase
from sunspark.training.pulse import Progress

EnterPhase = Callable[[Phase], AbstractContextManager[None]]
"""As `StepClock.phase`."""

_OWN_DEADLINE: Final = frozenset[Phase](
    ("data", "quorum", "recovery", "connect", "reduce", "publish", "close", "end", "lease", "pull", "push")
)
"""Phases that wait, and end by a deadline of their own: the others make progress, or the process is replaced."""


@final
class StepClock:
    """Tells phases to `progress` and `faults`, and adds up what they take."""

    def __init__(self, progress: Progress, faults: FaultInjector) -> None:
        self._progress, self._faults = progress, faults
        self._seconds: dict[str, float] = {}
        self._began = 0.0
        self.step = 0
        """The step at hand."""

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Be in that phase meanwhile."""
        if phase == "store":
            self.end_step()  # what storage takes is no part of it
        self.enter(phase)
        self.reach(phase)
        started = time.monotonic()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - started

    def enter(self, phase: Phase) -> None:
        """Tell that this worker goes on, in that phase."""
        self._progress.enter(phase, has_own_deadline=phase in _OWN_DEADLINE)

    def reach(self, phase: Phase, step: int | None = None) -> None:
        """A moment of a step, by default of the one at hand, at which faults may be injected."""
        self._faults.reach(phase, self.step if step is None else step)

    def begin_step(self, step: int) -> None:
        """This step is computed from now on."""
        self.end_step()
        self.step, self._began = step, time.monotonic()

    def end_step(self) -> None:
        """The step that was computed is over: how long it took, for deadlines."""
        if self._began:
            seconds = time.monotonic() - self._began
            self._progress.slowest_step_seconds = max(self._progress.slowest_step_seconds, seconds)
        self._began = 0.0

    def drop_step(self) -> None:
        """The step at hand is not gone on with: how long it took says nothing."""
        self._began = 0.0

    def take_seconds(self) -> dict[str, float]:
        """By phase, since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds
