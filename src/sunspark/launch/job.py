"""The workers of one task, and what serves them: a launcher, a lighthouse and a coordinator.

Spark is imported when it is what launches them.
"""

import contextlib
import logging
import secrets
import time
from typing import Any, Final, Literal, Protocol, final

from sunspark.config import to_dict
from sunspark.errors import DeadlineError, SetupError, UserError, WorkerError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.gpus import Device, device_of_tasks, gpus_for, gpus_of_this_machine
from sunspark.launch.local import LocalLauncher
from sunspark.launch.roster import Ending, Roster
from sunspark.limits import usable_cores
from sunspark.parallel.membership import Lighthouse
from sunspark.records import last_incarnation
from sunspark.training.config import WorkConfig
from sunspark.training.spec import WorkerSpec

logger = logging.getLogger(__name__)

_JOIN_SECONDS: Final = 45.0


class Launcher(Protocol):
    """Starts workers somewhere."""

    def start(self, spec: WorkerSpec, num_workers: int) -> None: ...
    def join(self, timeout_seconds: float) -> None: ...


class Onlooker(Protocol):
    """Is told to look at the coordinator, ten times a second."""

    def look(self, coordinator: Coordinator) -> None: ...


@final
class Job:
    """Workers for one task: a launcher, a lighthouse and a coordinator, all closed at the end."""

    def __init__(self, launch: LaunchConfig, run: str) -> None:
        self.launch = launch
        self._run = run
        self._token = secrets.token_urlsafe(32)
        self._closers = contextlib.ExitStack()
        self._coordinator: Coordinator | None = None
        self._lighthouse = ""

    def __enter__(self) -> "Job":
        with self._closers:
            self._host, self.num_workers = "127.0.0.1", self.launch.workers
            self._num_expected = self.num_workers
            self._session: Any = None
            self._device: Device = "cpu"
            self._gpus: tuple[str, ...] = ()
            self._is_local = True
            if self.launch.launcher == "spark":
                self._open_spark()
            if self._is_local:
                self._warn_of_too_few_cores()
                self._gpus = gpus_for(self.num_workers, self.launch.device, gpus_of_this_machine())
                self._device = "cuda" if self._gpus else "cpu"
            self._host = self.launch.host or self._host
            self._closers = self._closers.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closers.close()

    def _open_spark(self) -> None:
        from sunspark.launch.session import (
            driver_address,
            executors_may_come,
            gpu_amount,
            is_local,
            is_on_one_machine,
            master_of,
            num_slots,
            open_session,
        )

        self._session = self._closers.enter_context(open_session(self.launch.master, "sunspark"))
        self._host = driver_address(self._session)
        master = master_of(self._session)
        self._is_local = is_local(master)
        if not self._is_local:
            context = self._session.sparkContext
            self._device = device_of_tasks(
                self.launch.device, gpu_amount(context, "executor"), gpu_amount(context, "task")
            )
        slots = num_slots(self._session, self.launch.cores_per_worker, self.launch.workers)
        if slots < 1 and executors_may_come(self._session, self.launch.cores_per_worker):
            logger.warning(
                "Spark (%s) has no executor yet; waiting for workers, %g s at most (--start-timeout)",
                master, self.launch.start_timeout,
            )  # fmt: skip
            return
        if slots < 1:
            raise SetupError(
                f"Spark ({master}) has no slot for a worker of {self.launch.cores_per_worker} cores; "
                "give it more cores, or lower --cores-per-worker"
            )
        if slots < self.num_workers:
            self._num_expected = slots
            if is_on_one_machine(master):
                self.num_workers = slots
            logger.warning(
                "%d workers of %d cores%s were asked for, Spark (%s) has slots for %d: %s with %d",
                self.launch.workers, self.launch.cores_per_worker, " and a GPU" * (self._device == "cuda"),
                master, slots, "training" if self.num_workers == slots else "training begins", slots,
            )  # fmt: skip

    def _warn_of_too_few_cores(self) -> None:
        wanted, there = self.num_workers * self.launch.cores_per_worker, usable_cores()
        if wanted > there:
            logger.warning(
                "%d workers of %d cores were asked for, this machine has %d cores: they will wait for each other; "
                "lower --workers or --cores-per-worker",
                self.num_workers, self.launch.cores_per_worker, there,
            )  # fmt: skip

    def open_coordinator(self, **options: Any) -> Coordinator:
        """The coordinator of this job, and a lighthouse beside it."""
        roster = Roster(
            self.num_workers,
            self.launch.start_timeout,
            time.monotonic(),
            last_incarnation(self._run),
            self._num_expected,
        )
        self._coordinator = Coordinator(
            host=self._host, port=self.launch.port, token=self._token, roster=roster, **options
        )
        self._closers.callback(self._coordinator.close)
        lighthouse = Lighthouse(self._host, self.launch.port and self.launch.port + 1)
        self._closers.callback(lighthouse.close)
        self._lighthouse = lighthouse.address
        return self._coordinator

    def spec(self, task: Literal["train", "evaluate"], dataset: str, split: str, work: WorkConfig) -> WorkerSpec:
        """What its workers are told; after `open_coordinator`."""
        assert self._coordinator is not None
        return WorkerSpec(
            task=task,
            coordinator=self._coordinator.uri,
            lighthouse=self._lighthouse,
            token=self._token,
            run=self._run,
            dataset=dataset,
            split=split,
            cores=self.launch.cores_per_worker,
            gradient_path=self.launch.gradient_path,
            device=self._device,
            gpus=self._gpus,
            work=to_dict(work),
        )

    def work_off(self, coordinator: Coordinator, spec: WorkerSpec, *onlookers: Onlooker) -> Ending:
        """Start the workers and wait for the end of their task.

        Raises KeyboardInterrupt when it was interrupted, and what an onlooker raises, after the workers have saved
        what they have and are gone.
        """
        launcher = self._launcher(coordinator)

        def look() -> None:
            for onlooker in onlookers:
                onlooker.look(coordinator)

        try:
            launcher.start(spec, self.num_workers)
            while (ending := coordinator.roster.ending) is None:
                time.sleep(0.1)
                coordinator.check()
                look()
        except KeyboardInterrupt:
            coordinator.stop(Ending(is_finished=False, cause="interrupted"))
            self._wait_for_workers(launcher)
            look()
            raise
        except Exception as error:  # an onlooker cannot go on: its storage is full, say
            coordinator.stop(Ending(is_finished=False, cause=str(error)))
            self._wait_for_workers(launcher)
            raise
        self._wait_for_workers(launcher)
        look()
        return ending

    def _wait_for_workers(self, launcher: Launcher) -> None:
        try:
            launcher.join(_JOIN_SECONDS)
        except DeadlineError as error:
            logger.warning("%s", error)

    def _launcher(self, coordinator: Coordinator) -> Launcher:
        if self._session is None:
            return LocalLauncher()
        from sunspark.launch.spark import SparkLauncher

        return SparkLauncher(
            self._session,
            has_ended=lambda: coordinator.roster.ending is not None,
            give_up=lambda cause: coordinator.stop(Ending(is_finished=False, cause=cause)),
            task_was_lost=coordinator.note_lost_task,
            is_deserted=coordinator.is_deserted,
        )


def raise_unless_finished(ending: Ending, addition: str = "") -> None:
    """Raise the cause of an ending before its time; `addition` is for what starting again would mend."""
    if not ending.is_finished:
        raise UserError(ending.cause) if ending.is_users_mistake else WorkerError(ending.cause + addition)
