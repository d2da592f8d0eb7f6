"""The local launcher: worker processes on this machine, without Spark and without Java."""

import threading
import time
from dataclasses import dataclass, field
from typing import final

from sunspark.errors import DeadlineError
from sunspark.launch.nursery import Nursery
from sunspark.launch.supervisor import supervise
from sunspark.training.spec import WorkerSpec


@final
@dataclass(slots=True)
class LocalLauncher:
    """Keeps one thread per worker; each keeps one process running."""

    _threads: list[threading.Thread] = field(default_factory=list)
    _nursery: Nursery | None = None

    def start(self, spec: WorkerSpec, num_workers: int) -> None:
        """Start `num_workers` workers. Returns at once."""
        self._nursery = Nursery(spec.cores, spec.modules)
        for worker in range(num_workers):
            thread = threading.Thread(
                target=supervise, args=(spec.for_worker(worker, 0), self._nursery), daemon=True, name=f"worker-{worker}"
            )
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_seconds: float) -> None:
        """Wait until all workers are gone. Raises DeadlineError naming those that are not."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._nursery is not None:
            self._nursery.close()
        if stayed := [thread.name for thread in self._threads if thread.is_alive()]:
            raise DeadlineError(f"{', '.join(stayed)} did not leave within {timeout_seconds:.0f} s")
