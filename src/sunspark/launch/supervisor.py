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
import subprocess
import sys
import threading
import time
import uuid
from typing import IO, Final, Literal, final

from sunspark.errors import SunsparkError
from sunspark.parallel.rpc import Reply, RpcClient
from sunspark.training.spec import EXIT_DONE, EXIT_UNWANTED, WorkerSpec

logger = logging.getLogger(__name__)

Outcome = Literal["ended", "duplicate", "lost place"]

_RENEW_SECONDS: Final = 0.5
_DRIVER_SILENCE_SECONDS: Final = 15.0
_FAREWELL_SECONDS: Final = 28.0
_KEPT_LINES: Final = 50


def supervise(spec: WorkerSpec) -> Outcome:
    """Keep the worker of `spec` running until the run has ended, or this is not its supervisor any more."""
    return _Supervisor(spec).run()


@final
class _Supervisor:
    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._id = uuid.uuid4().hex
        self._coordinator = RpcClient(spec.coordinator, spec.token)

    def run(self) -> Outcome:
        try:
            answer = self._ask("claim")["answer"]
            if answer != "granted":
                return "ended" if answer == "ended" else "duplicate"
            return self._keep_running()
        finally:
            self._try_to_tell("release")
            self._coordinator.close()

    def _keep_running(self) -> Outcome:
        while incarnation := self._ask("next_incarnation")["incarnation"]:
            process = _WorkerProcess(self._spec.for_worker(self._spec.worker, incarnation))
            try:
                word = self._watch(process)
            finally:
                process.let_go()
            if word == "leave" or process.code == EXIT_UNWANTED:
                return "lost place"
            self._try_to_tell("process_ended", incarnation=incarnation, code=process.code, cause=process.describe_end())
            if process.code == EXIT_DONE:
                return "ended"
        return "ended"

    def _watch(self, process: "_WorkerProcess") -> str:
        """Wait for the end of the process, and end it where the coordinator says so. Gives its last word."""
        last_heard = time.monotonic()
        while not process.wait(_RENEW_SECONDS):
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

    def __init__(self, spec: WorkerSpec) -> None:
        threads = str(spec.cores)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "RUST_LOG": "error",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        # A session of its own: what ends Spark's Python processes must leave it the time to save its state.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sunspark.training.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._keep_lines, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        with contextlib.suppress(BrokenPipeError):  # it died at once; `wait` will tell
            self._process.stdin.write(spec.to_json().encode() + b"\n")
            self._process.stdin.flush()

    @property
    def code(self) -> int:
        """The exit code; negative: the signal that ended it."""
        return self._process.returncode if self._process.returncode is not None else 0

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it has ended within that time."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self._process.kill()

    def let_go(self) -> None:
        """Ask it to leave, if it still runs; kill it when it stays longer than a worker may."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        if not self.wait(_FAREWELL_SECONDS):
            self._process.kill()
            self._process.wait()
        self._reader.join(2)
        if not self._reader.is_alive() and self._process.stderr is not None:
            self._process.stderr.close()

    def describe_end(self) -> str:
        """How it ended, in words, then its last lines."""
        if self.code < 0:
            how = f"worker process ended by {signal.Signals(-self.code).name}"
        else:
            how = f"worker process ended with exit code {self.code}"
        return "\n".join([how, *self._lines])

    def _keep_lines(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            logger.debug("%s", text)
