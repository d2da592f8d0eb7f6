"""The local launcher: worker processes on this machine, without Spark and without Java."""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final, final

from sunspark.errors import DeadlineError
from sunspark.launch.nursery import Nursery
from sunspark.launch.supervisor import supervise
from sunspark.training.spec import WorkerSpec

logger = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 1.0


@final
@dataclass(slots=True)
class LocalLauncher:
    """Keeps one thread per worker; each keeps one process running until the run has ended."""

    _has_ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _nursery: Nursery | None = None

    def start(self, spec: WorkerSpec, num_workers: int) -> None:
        """Start `num_workers` workers. Returns at once."""
        nursery = self._nursery = Nursery(spec.cores, spec.modules)
        for worker in range(num_workers):
            thread = threading.Thread(
                target=self._keep_running,
                args=(spec.for_worker(worker, 0), nursery),
                daemon=True,
                name=f"worker-{worker}",
            )
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_seconds: float) -> None:
        """Wait until all workers are gone. Raises DeadlineError naming those that are not."""
        self._has_ended.set()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._nursery is not None:
            self._nursery.close()
        if stayed := [thread.name for thread in self._threads if thread.is_alive()]:
            raise DeadlineError(f"{', '.join(stayed)} did not leave within {timeout_seconds:.0f} s")

    def _keep_running(self, spec: WorkerSpec, nursery: Nursery) -> None:
        while True:
            try:
                outcome = supervise(spec, nursery)
            except Exception as error:  # of whatever kind: the place would stay empty for the rest of the run
                logger.warning("the supervisor of worker %d failed (%s: %s)", spec.worker, type(error).__name__, error)
                outcome = "lost place"
            if outcome == "ended" or self._has_ended.wait(_PAUSE_SECONDS):
                return
