"""A process that works for its parent: `python -m sunspark.launch.process DESCRIPTOR`.

Over the socket of that number come a function and its argument, and back goes (True, result) or (False, exception).
Both are pickled: the parent has started this process itself, and nobody else has the socket. It ends with its parent,
whatever it is at: a driver that comes after must not find it writing.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection

from sunspark.errors import SunsparkError, WorkerError, first_line_of


def main() -> None:
    """Serve until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_the_parent, args=[int(sys.argv[1])], daemon=True).start()
    with Connection(int(sys.argv[1])) as parent, contextlib.suppress(EOFError, ConnectionError):
        while True:
            work, plan = parent.recv()
            try:
                answer = True, work(plan)
            except Exception as error:
                answer = False, _as_told(error)
            parent.send(answer)


def _end_with_the_parent(descriptor: int) -> None:
    hang_up = select.poll()
    hang_up.register(descriptor, select.POLLRDHUP)
    hang_up.poll()
    os._exit(1)


def _as_told(error: Exception) -> SunsparkError:
    """Our own errors as they are, without the cause, which may not travel; others by name."""
    if isinstance(error, SunsparkError):
        error.__cause__ = error.__context__ = None
        return error
    return WorkerError(f"unexpected {type(error).__name__} in process {os.getpid()}: {first_line_of(error)}")


if __name__ == "__main__":
    main()
