"""A lock that many may share, or one may have alone. Who wants it alone is not kept waiting by those who come later."""

import contextlib
import threading
from collections.abc import Iterator
from typing import final


@final
class SharedLock:
    """Not reentrant."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._num_sharing = 0
        self._num_waiting = 0
        self._is_exclusive = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others, but not beside one who has it alone."""
        with self._condition:
            self._condition.wait_for(lambda: not (self._is_exclusive or self._num_waiting))
            self._num_sharing += 1
        try:
            yield
        finally:
            with self._condition:
                self._num_sharing -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Alone."""
        with self._condition:
            self._num_waiting += 1
            try:
                self._condition.wait_for(lambda: not (self._is_exclusive or self._num_sharing))
            finally:  # Ctrl-C ends the wait, too
                self._num_waiting -= 1
                self._condition.notify_all()
            self._is_exclusive = True
        try:
            yield
        finally:
            with self._condition:
                self._is_exclusive = False
                self._condition.notify_all()
