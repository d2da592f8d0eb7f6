"""The writer of a file of records.

Cost: `RecordWriter.write` only formats a line; a thread writes the lines at least every `FLUSH_SECONDS`.
"""

import threading
from types import TracebackType
from typing import Self, final

from sunspark import storage
from sunspark.errors import DeadlineError
from sunspark.records.kinds import Record
from sunspark.records.line import to_line

FLUSH_SECONDS = 2.0
"""A record reaches storage no later than this after it was written (seconds)."""
_DEADLINE_SECONDS = 60.0


@final
class RecordWriter:
    """Appends records to one file; any thread may write.

    A record is on its way to storage after `FLUSH_SECONDS` at most, and at `close`. What storage refuses is
    raised by the next `write`, `flush` or `close` as `StorageError`.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._stream = storage.append_text(uri)
        self._lines = ["\n\n"] if _ends_torn(uri) else []  # an empty line says that the one before it was torn
        self._lines_lock = threading.Lock()  # held for a moment, so that a step never waits for storage
        self._stream_lock = threading.Lock()  # held while writing; always taken first
        self._failure: Exception | None = None
        self._closing = threading.Event()
        self._closing_lock = threading.Lock()  # held until all is written: a worker ends once it has closed its records
        self._thread = threading.Thread(target=self._flush_regularly, name="records", daemon=True)
        self._thread.start()

    def write(self, record: Record) -> None:
        """Take one record; returns at once."""
        self._raise_failure()
        line = to_line(record)
        with self._lines_lock:
            if self._closing.is_set():
                raise ValueError("this RecordWriter is closed; open another one to append")
            self._lines.append(line)

    def flush(self) -> None:
        """Hand everything written so far to storage, now."""
        self._raise_failure()
        if not self._stream_lock.acquire(timeout=_DEADLINE_SECONDS):
            raise self._too_slow()
        try:
            with self._lines_lock:
                lines, self._lines = self._lines, []
            if lines:
                with storage.storage_errors(self._uri):
                    self._stream.write("".join(lines))
                    self._stream.flush()
        finally:
            self._stream_lock.release()

    def close(self) -> None:
        """Write what is left and let go of the file; whoever closes it a second time waits for the first."""
        with self._closing_lock:
            if not self._closing.is_set():
                self._finish()

    def _finish(self) -> None:
        with self._lines_lock:
            self._closing.set()
        self._thread.join(_DEADLINE_SECONDS)
        if self._thread.is_alive():
            raise self._too_slow()
        try:
            self.flush()
        finally:
            with storage.storage_errors(self._uri):
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush_regularly(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS / 2):
            try:
                self.flush()
            except Exception as error:  # told to whoever writes next: this thread has nobody to tell
                self._failure = error
                return

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _too_slow(self) -> DeadlineError:
        return DeadlineError(
            f"{self._uri} did not take records for {_DEADLINE_SECONDS:.0f} s; is its storage reachable?"
        )


def _ends_torn(uri: str) -> bool:
    """Whether the file holds something and does not end with the end of a line."""
    with storage.open_random_access(uri) as file:
        size = file.size()
        return bool(size) and file.read_at(1, size - 1) != b"\n"
