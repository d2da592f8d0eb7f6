"""The supervisor: keeps one worker process alive, from outside of it.

It runs in the Spark task, or in a thread of the driver (`local`). It claims the worker's place at the coordinator,
starts the process, starts it again when it dies, kills it when the coordinator finds that it hangs, and reports how
it ended: the signal in words and its last 50 lines. A worker of its own process, because a segfault or the
out-of-memory killer then leaves someone to tell of it, and because thread counts must be set before torch is loaded.
"""

import collections
import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, final

from sunspark.data.in_hand import last_hold
from sunspark.errors import SunsparkError
from sunspark.launch.autopsy import Memory, describe_end, find_poison_of
from sunspark.launch.nursery import Nursery
from sunspark.parallel.rpc import Reply, RpcClient
from sunspark.storage.temporary import temporary_folder
from sunspark.training.spec import EXIT_DONE, EXIT_FAILED, EXIT_UNWANTED, WorkerSpec

logger = logging.getLogger(__name__)

Outcome = Literal["ended", "lost place"]

_RENEW_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 1.0
_DRIVER_SILENCE_SECONDS: Final = 15.0
_FAREWELL_SECONDS: Final = 28.0
_KEPT_LINES: Final = 50


def supervise(spec: WorkerSpec, nursery: Nursery | None = None) -> Outcome:
    """Keep the worker of `spec` running until the run has ended, or this is not its supervisor any more.

    `nursery` starts the processes; a new one does when it is not given.
    """
    if nursery is not None:
        return _Supervisor(spec, nursery).run()
    nursery = Nursery(spec.cores, spec.modules)
    try:
        return _Supervisor(spec, nursery).run()
    finally:
        nursery.close()


@final
class _Supervisor:
    def __init__(self, spec: WorkerSpec, nursery: Nursery) -> None:
        self._spec = replace(spec, cores=nursery.cores)
        if self._spec.cores < spec.cores:
            logger.warning(
                "worker %d has %d threads, not %d: this machine lets it use no more cores; lower --cores-per-worker",
                spec.worker, self._spec.cores, spec.cores,
            )  # fmt: skip
        self._nursery = nursery
        self._id = uuid.uuid4().hex
        self._coordinator = RpcClient(spec.coordinator, spec.token)

    def run(self) -> Outcome:
        try:
            if self._await_place() != "granted":
                return "ended"
            with temporary_folder("sunspark-worker-") as folder:
                return self._keep_running(folder)
        finally:
            self._try_to_tell("release")
            self._coordinator.close()

    def _await_place(self) -> str:
        """Claim the place, in reserve while another supervisor has it.

        To return would tell Spark that the task is done, and of a task that it has started twice, because it takes it
        for slow (`spark.speculation`), it would kill the one that works.
        """
        while (answer := str(self._ask("claim")["answer"])) == "duplicate":
            time.sleep(_PAUSE_SECONDS)
        return answer

    def _keep_running(self, folder: Path) -> Outcome:
        while incarnation := self._ask("next_incarnation")["incarnation"]:
            spec = self._spec.for_worker(self._spec.worker, incarnation, str(folder / f"{incarnation}.in-hand"))
            try:
                with self._holding_the_place():  # the first one waits for torch to be loaded, longer than a lease
                    process = _WorkerProcess(spec, self._nursery)
            except (SunsparkError, OSError) as error:  # the nursery died while it was asked
                self._try_to_tell("process_ended", incarnation=incarnation, code=EXIT_FAILED, cause=str(error))
                time.sleep(_PAUSE_SECONDS)
                continue
            try:
                word = self._watch(process)
            finally:
                code = process.let_go()
            if word == "leave" or code == EXIT_UNWANTED:
                return "lost place"
            self._report_end(process, incarnation, code)
            if code == EXIT_DONE:
                return "ended"
        return "ended" if self._ask("claim")["answer"] == "ended" else "lost place"

    def _report_end(self, process: "_WorkerProcess", incarnation: int, code: int) -> None:
        """Tell how a process ended; where it crashed, look whether an image of those in its hands has killed it."""
        hold = last_hold(Path(process.spec.in_hand))
        self._try_to_tell(
            "process_ended",
            incarnation=incarnation,
            code=code,
            cause=describe_end(code, process.memory, process.lines),
            step=hold.step,
            rows=hold.rows,
        )
        with self._holding_the_place():
            poison = find_poison_of(process.spec, code, process.memory, hold)
        if poison:
            self._try_to_tell("excuse", rows={str(row): reason for row, reason in poison.items()})

    def _watch(self, process: "_WorkerProcess") -> str:
        """Wait for the end of the process, and end it where the coordinator says so. Gives its last word."""
        last_heard = time.monotonic()
        while not process.wait(_RENEW_SECONDS):
            process.look_at_memory()
            try:
                word = str(self._ask("renew", timeout_seconds=5)["answer"])
                last_heard = time.monotonic()
            except SunsparkError:
                if time.monotonic() - last_heard > _DRIVER_SILENCE_SECONDS:
                    return "leave"
                continue
            if word == "replace":
                process.kill()
            if word == "leave":
                return word
        return ""

    @contextlib.contextmanager
    def _holding_the_place(self) -> Iterator[None]:
        """The coordinator hears that this supervisor lives, though its process is dead."""
        is_over = threading.Event()

        def renew() -> None:
            while not is_over.wait(_RENEW_SECONDS):
                self._try_to_tell("renew")

        thread = threading.Thread(target=renew, daemon=True, name="renewals")
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _ask(self, name: str, timeout_seconds: float = 30.0, **arguments: object) -> Reply:
        return self._coordinator.call(
            name, timeout_seconds=timeout_seconds, worker=self._spec.worker, supervisor=self._id, **arguments
        )

    def _try_to_tell(self, name: str, **arguments: object) -> None:
        try:
            self._ask(name, timeout_seconds=5, **arguments)
        except SunsparkError as error:
            logger.warning("worker %d: the driver was not told (%s): %s", self._spec.worker, name, error)


@final
class _WorkerProcess:
    """One incarnation of a worker."""

    def __init__(self, spec: WorkerSpec, nursery: Nursery) -> None:
        self.spec = spec
        self.lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        """Its last ones."""
        self._nursery = nursery
        stdin_reader, stdin_writer = os.pipe()
        stderr_reader, stderr_writer = os.pipe()
        self._stdin = open(stdin_writer, "wb")  # noqa: SIM115
        self._reader = threading.Thread(target=self._keep_lines, args=(stderr_reader,), daemon=True)
        self._reader.start()
        try:
            self._pid = nursery.start_worker(stdin_reader, stderr_writer)
        except BaseException:
            self._stdin.close()
            raise
        finally:
            os.close(stdin_reader)
            os.close(stderr_writer)
        self.code: int | None = None
        """The exit code; negative: the signal that ended it."""
        self.memory = Memory.of(self._pid)
        """As it was at the last look."""
        with contextlib.suppress(BrokenPipeError):  # it died at once; `wait` will tell
            self._stdin.write(spec.to_json().encode() + b"\n")
            self._stdin.flush()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it has ended within that time."""
        if self.code is None:
            self.code = self._nursery.wait(self._pid, timeout_seconds)
        return self.code is not None

    def kill(self) -> None:
        if not self.wait(0):
            with contextlib.suppress(ProcessLookupError):  # it has ended this moment; `wait` will tell
                os.kill(self._pid, signal.SIGKILL)

    def let_go(self) -> int:
        """Ask it to leave, if it still runs; kill it when it stays longer than a worker may. Gives its exit code."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        if not self.wait(_FAREWELL_SECONDS):
            self.kill()
            self.wait(_FAREWELL_SECONDS)
        self._reader.join(2)
        return -signal.SIGKILL if self.code is None else self.code

    def look_at_memory(self) -> None:
        seen = Memory.of(self._pid)
        if seen.used_bytes:  # it still lives
            self.memory = seen

    def _keep_lines(self, descriptor: int) -> None:
        with open(descriptor, "rb") as stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                self.lines.append(text)
                logger.debug("%s", text)
