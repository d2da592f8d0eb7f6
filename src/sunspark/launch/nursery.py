"""The parent's side of a nursery: starts it, asks it for workers, knows which of them have ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final, final

from sunspark.errors import DeadlineError, WorkerError
from sunspark.limits import usable_cores

_MAX_PACKET_BYTES: Final = 4096
_START_SECONDS: Final = 120.0
_KEEP_MEMORY: Final = ":".join(
    (
        # Every step needs the same large buffers again: keep them, in large pages, instead of asking the system anew.
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_threshold=1073741824",
        "glibc.malloc.trim_threshold=8589934592",
    )
)


@final
class Nursery:
    """Forks worker processes on this machine. Safe to use from several threads; starts itself again when it dies."""

    def __init__(self, cores: int, modules: Sequence[str] = ()) -> None:
        """A worker has `cores` threads, where there are as many; `modules` are loaded beside what all workers need."""
        self.cores = usable_cores(cores)
        self._modules = modules
        self._asking = threading.Lock()
        """One question at a time, since answers do not say which they belong to."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._started: list[int] = []
        self._codes: dict[int, int | None] = {}
        """Of every worker of every nursery: their supervisors ask also when it is another's turn."""

    def start_worker(self, stdin: int, stderr: int) -> int:
        """Fork a worker with these file descriptors; gives its process id.

        Raises DeadlineError when the nursery does not answer, WorkerError when it cannot run.
        """
        with self._asking, self._changed:
            deadline = time.monotonic() + _START_SECONDS
            if self._socket is None:
                self._open()
            assert self._socket is not None
            assert self._process is not None
            connection = self._socket
            socket.send_fds(connection, [b"{}"], [stdin, stderr])
            self._started = []
            while not self._started:
                if self._socket is not connection:
                    raise WorkerError("the nursery of the workers died; its last words are on standard error")
                if not self._changed.wait(deadline - time.monotonic()):
                    self._process.kill()
                    self._socket = None  # the next one is asked in its place
                    raise DeadlineError(f"the nursery started no worker within {_START_SECONDS:.0f} s")
            return self._started.pop()

    def wait(self, pid: int, timeout_seconds: float) -> int | None:
        """The exit code of a worker, negative for a signal; None while it runs, after `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while self._codes[pid] is None and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._codes[pid]

    def close(self) -> None:
        """End the nursery; workers that still run lose their parent."""
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)

    def _open(self) -> None:
        """Start the process; with the lock held."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threads = str(self.cores)
        environment = (
            {"GLIBC_TUNABLES": _KEEP_MEMORY}
            | os.environ
            | {
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
                "OMP_PROC_BIND": "false",  # else the threads of all workers are bound to the same cores
                "RUST_LOG": "error",
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            }
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sunspark.training.nursery", str(theirs.fileno()), *self._modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )
        self._socket = ours
        threading.Thread(target=self._listen, args=(ours, self._process), daemon=True, name="nursery").start()

    def _listen(self, connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        pids = set()
        with connection:
            while packet := _receive(connection):
                message = json.loads(packet)
                with self._changed:
                    if "started" in message:
                        pids.add(message["started"])
                        self._codes[message["started"]] = None
                        if self._socket is connection:  # whoever asked still waits
                            self._started.append(message["started"])
                    else:
                        self._codes[message["ended"]] = message["code"]
                    self._changed.notify_all()
        process.kill()
        process.wait()
        with self._changed:
            for pid in pids:
                if self._codes[pid] is None:
                    self._codes[pid] = -signal.SIGKILL
            if self._socket is connection:
                self._socket = None
            self._changed.notify_all()


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_MAX_PACKET_BYTES)
    except OSError:
        return b""
