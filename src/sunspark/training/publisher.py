"""What a worker writes for the whole run: checkpoints, the end, and its candidate when it must leave.

A checkpoint is written in a thread of its own while training goes on; but training waits for that of the best state
so far, which no other step can give again. Where the best weights are kept, nobody goes on before it is on storage, so
no checkpoint tells of a best state that is not there. A state counts as published only once it is on storage: whoever
leaves before saves a candidate.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, final

from sunspark.data.dataset import Dataset
from sunspark.errors import DeadlineError
from sunspark.parallel.faults import FaultInjector
from sunspark.parallel.recovery import Snapshot
from sunspark.records import EventName
from sunspark.training import checkpoint, state_file
from sunspark.training.config import WorkConfig
from sunspark.training.export import export_model
from sunspark.training.state import TrainingState
from sunspark.training.validation import best_of

logger = logging.getLogger(__name__)

_WRITE_SECONDS: Final = 900.0
_PAUSE_SECONDS: Final = 30.0
"""Between a checkpoint that storage did not take and the next attempt."""
_PATIENT_PAUSE_SECONDS: Final = 5.0
_PATIENT_SECONDS: Final = 45.0
"""How long the best state, and a server's last, is tried again; workers wait in their sum, for a minute at least."""


@final
class Publisher:
    """Writes the states of one run; `published_step` is the furthest that is known to be on storage."""

    def __init__(
        self,
        run: str,
        work: WorkConfig,
        dataset: Dataset,
        note: Callable[[EventName, int, str], None],
        faults: FaultInjector,
    ) -> None:
        """`note` tells the driver of an event: its name, the step, details."""
        self._run = run
        self._work = work
        self._dataset = dataset
        self._note = note
        self._faults = faults
        self._writing: threading.Thread | None = None
        self._not_before = 0.0
        self._failure: Exception | None = None
        self.published_step = 0

    def is_due(self, state: TrainingState) -> bool:
        """Whether a checkpoint is to be written now: of a new best state, or after so many steps."""
        if state.step == self.published_step:
            return False
        best = best_of(state.evaluations)
        if best is not None and best.step == state.step:
            return True
        is_writing = self._writing is not None and self._writing.is_alive()
        is_time = state.step - self.published_step >= self._work.training.checkpoint_every
        return is_time and not is_writing and time.monotonic() >= self._not_before

    def publish_when_due(self, state: TrainingState) -> None:
        """Write a checkpoint of a step that counts, if it is due and none is under way; the best one in any case."""
        if not self.is_due(state):
            return
        best = best_of(state.evaluations)
        if best is None or best.step < state.step:
            self._start_writing(state.snapshot(), best.step if best else 0)
            return
        self._wait_for_writing()

        def write() -> None:
            self._start_writing(state.snapshot(), state.step)
            self._wait_for_writing()
            if self._failure is not None:
                raise self._failure

        _patiently(write)

    def publish_now(self, state: TrainingState) -> None:
        """Write a checkpoint, due or not, and wait for it; storage that does not take it is told of."""
        self._wait_for_writing()
        best = best_of(state.evaluations)
        self._start_writing(state.snapshot(), best.step if best else 0)
        self._wait_for_writing()

    def _start_writing(self, snapshot: Snapshot, best_step: int) -> None:
        self._faults.reach("checkpoint", snapshot.step)
        self._writing = threading.Thread(target=self._write, args=(snapshot, best_step), daemon=True, name="publish")
        self._writing.start()

    def _write(self, snapshot: Snapshot, best_step: int) -> None:
        self._failure = None
        try:
            uri = checkpoint.publish(self._run, snapshot, best_step)
        except Exception as error:  # whatever it was, training goes on
            self._failure = error
            self._not_before = time.monotonic() + _PAUSE_SECONDS
            self._note("unsaved", snapshot.step, f"no checkpoint: {error}")
            return
        self.published_step = snapshot.step
        self._note("checkpoint", snapshot.step, uri)

    def _wait_for_writing(self) -> None:
        if self._writing is None:
            return
        self._writing.join(_WRITE_SECONDS)
        if self._writing.is_alive():
            raise DeadlineError(f"storage did not take a checkpoint within {_WRITE_SECONDS:.0f} s: {self._run}")

    def publish_end(self, state: TrainingState) -> None:
        """Write the last checkpoint and the finished model.

        Raises DeadlineError when storage takes longer than 15 minutes: another worker shall try.
        """
        self._wait_for_writing()
        failures: list[Exception] = []

        def write() -> None:
            try:
                self._write_end(state)
            except Exception as error:
                failures.append(error)

        last = threading.Thread(target=write, daemon=True, name="publish-end")
        last.start()
        last.join(_WRITE_SECONDS)
        if last.is_alive():
            raise DeadlineError(f"storage did not take the end of the run within {_WRITE_SECONDS:.0f} s: {self._run}")
        if failures:
            raise failures[0]

    def publish_end_patiently(self, state: TrainingState) -> None:
        """The same, for who alone holds the state: storage that fails for some seconds must not cost it."""
        _patiently(lambda: self.publish_end(state))

    def _write_end(self, state: TrainingState) -> None:
        best = best_of(state.evaluations)
        checkpoint.publish(self._run, state.snapshot(), best.step if best else 0)
        model = copy.deepcopy(state.judged_model)
        if best and best.step < state.step and self._work.validation.keep == "best":
            uri = checkpoint.uri_of(self._run, best.step)
            model.load_state_dict(state_file.read(checkpoint.read_bytes(uri), uri).judged_weights)
        export_model(self._run, self._work, self._dataset, model)

    def save_candidate(self, state: TrainingState, replica_id: str) -> None:
        """Save the state of a worker that leaves, if it is further than what is published; it moves on no more."""
        state.lock.acquire()  # and never given back: nothing is applied any more
        if state.is_whole and state.step > self.published_step:
            uri = checkpoint.save_candidate(self._run, state.snapshot(), replica_id)
            logger.info("saved %s", uri)


def _patiently(write: Callable[[], None]) -> None:
    """Try again while storage does not take it, for 45 s; raises what the last attempt did."""
    give_up_at = time.monotonic() + _PATIENT_SECONDS
    while True:
        try:
            return write()
        except Exception:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(_PATIENT_PAUSE_SECONDS)
