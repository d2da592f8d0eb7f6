"""The Spark launcher: one single-task job per worker, submitted again until the run has ended.

No barrier stage: it starts all tasks together or not at all, forbids dynamic allocation and dies with its first lost
executor. One job per worker lets Spark place and replace workers one at a time, and makes the run independent of
`spark.task.maxFailures` and of `local[N]`, where a failed task is never retried.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, final

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import RDD, SparkContext, TaskContext
from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from sunspark.errors import DeadlineError
from sunspark.launch.session import GPU, is_on_one_machine
from sunspark.launch.supervisor import supervise
from sunspark.training.spec import WorkerSpec

logger = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.5


@final
@dataclass(slots=True)
class SparkLauncher:
    """Keeps one thread per worker; each keeps one Spark job running."""

    session: SparkSession
    has_ended: Callable[[], bool]
    give_up: Callable[[str], None]
    """Called with the cause when no task can be started any more."""
    task_was_lost: Callable[[str], None]
    """Called with what Spark says of a task that it could not run to its end; another is started."""
    is_deserted: Callable[[int], bool]
    """Whether nobody works at the place of that worker."""
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, spec: WorkerSpec, num_workers: int) -> None:
        """Start `num_workers` workers. Returns at once."""
        for worker in range(num_workers):
            thread = threading.Thread(
                target=self._keep_running,
                args=(spec.for_worker(worker, 0),),
                daemon=True,
                name=f"worker-{worker}",
            )
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_seconds: float) -> None:
        """Wait until all tasks have returned; cancel those that have not. Raises DeadlineError naming them.

        A task that waits for a free slot, or was on a host that is lost, is not waited for.
        """
        deadline = time.monotonic() + timeout_seconds
        while (stayed := self._running()) and time.monotonic() < deadline:
            for worker in filter(self.is_deserted, stayed):
                self._cancel(worker)
            self._threads[stayed[0]].join(_LOOK_SECONDS)
        for worker in stayed:
            self._cancel(worker)
        if stayed:
            names = ", ".join(self._threads[worker].name for worker in stayed)
            raise DeadlineError(f"{names} did not leave within {timeout_seconds:.0f} s")

    def _running(self) -> list[int]:
        return [worker for worker, thread in enumerate(self._threads) if thread.is_alive()]

    def _cancel(self, worker: int) -> None:
        with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone, and its tasks with it
            self.session.sparkContext.cancelJobGroup(_job_group(worker))

    def _keep_running(self, spec: WorkerSpec) -> None:
        name = f"worker-{spec.worker}"
        group, what = _job_group(spec.worker), f"sunspark {spec.task}, {name}"
        self.session.sparkContext.setJobGroup(group, what, interruptOnCancel=True)
        while not self.has_ended():
            try:
                outcome = self._one_task(spec).collect()[0]
            except (Py4JNetworkError, ConnectionError) as error:
                self.give_up(f"Spark's driver process is gone ({error}); its log may tell why")
                return
            except Exception as error:  # of whatever kind: the place would stay empty for the rest of the run
                cause = _cause_of_lost_task(str(error) or type(error).__name__)
                logger.info("%s: its task was lost: %s", name, cause)
                if not self.has_ended():
                    self.task_was_lost(cause)
                outcome = "task lost"
            if outcome == "ended":
                return
            time.sleep(_PAUSE_SECONDS)

    def _one_task(self, spec: WorkerSpec) -> "RDD[str]":
        text = spec.to_json()

        def run(_: Iterable[int]) -> Iterator[str]:
            yield supervise(_on_gpu_of_task(WorkerSpec.from_json(text)))

        return one_task(self.session.sparkContext, spec.worker, run, spec.cores, needs_gpu=spec.device == "cuda")


def one_task(
    context: SparkContext,
    item: object,
    work: Callable[[Iterable[Any]], Iterator[str]],
    cores: int,
    *,
    needs_gpu: bool,
) -> "RDD[str]":
    """A job of a single task that asks for `cores`, and for a GPU if it `needs_gpu`."""
    task = context.parallelize([item], 1).mapPartitions(work)
    # local-cluster too makes no request: Spark takes profiles of resources on real cluster managers only.
    if is_on_one_machine(str(context.master)) or cores == int(context.getConf().get("spark.task.cpus", "1") or 1):
        return task
    request = TaskResourceRequests().cpus(cores)
    if needs_gpu:
        request = request.resource(GPU, 1)
    return task.withResources(ResourceProfileBuilder().require(request).build)


def _cause_of_lost_task(text: str) -> str:
    """Why the last attempt ended, in Spark's words without the stacks, with the host where it tells."""
    last_failure = text.partition("most recent failure: ")[2] or text
    first, *others = re.split(r"\n\s+at |\nDriver stacktrace", last_failure)[0].strip().splitlines()
    where = re.search(r"\((\S+ executor \S+)\): (.*)", first)
    why = others[-1] if others else where[2] if where else first
    return f"{why} ({where[1]})" if where else why


def _on_gpu_of_task(spec: WorkerSpec) -> WorkerSpec:
    """On the GPU that Spark has given to the task that asks, when the worker is to be on one."""
    context = TaskContext.get()
    given = context.resources().get(GPU) if context is not None else None
    if spec.device == "cpu" or spec.gpu or given is None:
        return spec
    return replace(spec, gpu=given.addresses[0])


def _job_group(worker: int) -> str:
    return f"sunspark-worker-{worker}"
