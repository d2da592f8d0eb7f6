"""Work on all cores of this machine, in processes of its own, without Spark.

Each process (`launch/process.py`) has one plan at a time, so it is known what a process was at when it died: that plan
is tried again in a new process. So is one that failed for a reason that may pass, unless that was waited
for already, or is a full disk.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from typing import Any, Final, final

from sunspark.data.early_end import EndedEarly, Hopeless, SoFar
from sunspark.data.poison import name_of_signal
from sunspark.errors import FullDiskError, SilentStoreError, StorageError, UserError, WorkerError, plural
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest import Engine, PlanT, ResultT
from sunspark.limits import usable_cores

_MOST_ATTEMPTS: Final = 4
"""As many as Spark grants a task."""
_RETRY_SECONDS: Final = 1.0
_LEAVE_SECONDS: Final = 10.0
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def process_engine(num_processes: int | None = None) -> Iterator[Engine]:
    """An engine with one process for each core that this one may use, or `num_processes`."""
    count = num_processes or usable_cores()
    with contextlib.ExitStack() as stack:
        yield _Engine([stack.enter_context(contextlib.closing(_Place(number))) for number in range(count)])


@final
class _Engine:
    def __init__(self, places: Sequence[_Place]) -> None:
        self._places = places

    def __call__(
        self, work: Callable[[PlanT], ResultT], plans: Sequence[PlanT], display: CountDisplay, hopeless: Hopeless
    ) -> list[ResultT]:
        """Raises what the first plan raises that fails for good; the others are not begun then."""
        waiting = queue.SimpleQueue[int]()
        for number in range(len(plans)):
            waiting.put(number)
        results: dict[int, ResultT] = {}
        so_far = SoFar()
        lock, has_failed = threading.Lock(), threading.Event()
        num_done = 0

        def serve(place: _Place) -> None:
            nonlocal num_done
            while not has_failed.is_set():
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    result = place.do(work, plans[number])
                except BaseException:
                    has_failed.set()
                    raise
                with lock:
                    results[number] = result
                    num_done += len(plans[number].images)
                    display.update(num_done)
                    so_far.note(result)
                    if hopeless(len(so_far.bad)) and len(results) < len(plans):
                        has_failed.set()
                        raise EndedEarly(so_far)

        with ThreadPoolExecutor(len(self._places), thread_name_prefix="ingest") as pool:
            try:
                serving = [pool.submit(serve, place) for place in self._places]
                for future in as_completed(serving):
                    future.result()
            except BaseException:
                has_failed.set()
                for place in self._places:
                    place.interrupt()
                raise
        return [results[number] for number in range(len(plans))]


@final
class _Place:
    """A process, and those that come after it when it dies."""

    def __init__(self, number: int) -> None:
        self._name = f"ingest-{number}"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._is_interrupted = threading.Event()

    def do(self, work: Callable[[PlanT], ResultT], plan: PlanT) -> ResultT:
        """What `work` gives for `plan`. Raises what it raises for good, and WorkerError when it kills each process."""
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            is_last = attempt == _MOST_ATTEMPTS
            try:
                return self._ask(work, plan)
            except EOFError:
                end = self._bury()
                if self._is_interrupted.is_set():
                    raise WorkerError(f"the process {self._name} was interrupted") from None
                images = plan.images
                what = (
                    f"{images[0].path} to {images[-1].path} ({plural(len(images), 'image')})" if images else "no images"
                )
                if is_last:
                    raise WorkerError(
                        f"the process {self._name} {end} while it worked on {what}, {attempt} times; an image kills "
                        "its decoder, or memory ran out: take the image out, or lower --block-size"
                    ) from None
                logger.warning("the process %s %s; %s are done again", self._name, end, what)
            except StorageError as error:
                if is_last or isinstance(error, UserError | FullDiskError | SilentStoreError):
                    raise
                logger.warning("%s; tried again", error)
                self._is_interrupted.wait(_RETRY_SECONDS)
        raise AssertionError("unreachable")

    def interrupt(self) -> None:
        """End what is under way, for good; from another thread."""
        self._is_interrupted.set()
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Let the process go."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(_LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ask(self, work: Callable[[PlanT], ResultT], plan: PlanT) -> ResultT:
        if self._connection is None:
            self._start()
            if self._is_interrupted.is_set():  # while it was started
                raise EOFError
        assert self._connection is not None
        try:
            self._connection.send((work, plan))
            has_worked, answer = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        if not has_worked:
            raise answer
        result: ResultT = answer
        return result

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "sunspark.launch.process", str(theirs.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._connection = Connection(ours.detach())

    def _bury(self) -> str:
        """How the process ended, in words; the next plan gets a new one."""
        assert self._process is not None
        assert self._connection is not None
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        self._process = self._connection = None
        return f"was ended by {name_of_signal(-code)}" if code < 0 else f"ended with exit code {code}"
