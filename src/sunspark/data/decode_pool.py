"""Threads that turn samples into pixels, a batch at a time.

Threads of one process, since decoding and resampling run without the GIL; no fork, no shared memory. A request
is the samples of one batch; the threads work on the first request of a queue that has something left to begin.
Who waits for a request leaves the cores to them, and helps with what is on local disk when they are held up by storage.
Cost: docs/concepts/memory.md says what each thread holds.

Shape legend: B batch, H W pixels, 3 RGB.
"""

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from threading import Condition, RLock, Thread
from typing import final

import numpy as np
import numpy.typing as npt

from sunspark.data.blob import Sample
from sunspark.data.cache import NodeCache
from sunspark.data.dataset import Dataset
from sunspark.data.in_hand import InHand
from sunspark.data.pixels import Pixels
from sunspark.errors import ConfigError, DatasetError, DeadlineError, SunsparkError, WorkerError

logger = getLogger(__name__)

Rows = npt.NDArray[np.int64]
WritePixels = Callable[[Sample, Pixels], None]
"""Decode a sample into an array of shape (H, W, 3)."""

_CHUNK_SIZE = 4  # samples of one block that a thread takes at once
_HELP_AFTER_SECONDS = 0.05  # without an image from the threads
_CLOSE_SECONDS = 10.0
_SWITCH_SECONDS = 2e-4
"""For so long a thread waits for the GIL before it insists. With Python's 5 ms two threads waited 0.8 times an image in
place of 0.35, on a virtual machine; each wait was as long (docs/decisions/0021)."""


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B samples: who they are, as stored beside their images, and their pixels. B may be 0."""

    sample_ids: npt.NDArray[np.uint64]
    """uint64 (B,)"""
    labels: npt.NDArray[np.int64]
    """int64 (B,)"""
    pixels: Pixels
    """uint8 (B, H, W, 3), 0..255"""

    def __len__(self) -> int:
        return len(self.sample_ids)


@final
class Request:
    """The samples of one batch and how far they have come; guarded by the pool's lock, but for the batch."""

    def __init__(self, rows: Rows, chunks: list[list[int]], image_size: int, write_pixels: WritePixels) -> None:
        self.rows = rows
        self.write_pixels = write_pixels
        self.size_bytes = len(rows) * sample_size_bytes(image_size)
        self.batch = Batch(
            sample_ids=np.zeros(len(rows), np.uint64),
            labels=np.zeros(len(rows), np.int64),
            pixels=np.empty((len(rows), image_size, image_size, 3), np.uint8),
        )
        self.waiting = deque(chunks)  # of indices into rows; nobody has begun them
        self.in_hand: set[int] = set()  # a thread has them
        self.num_missing = len(rows)
        self.error: Exception | None = None
        self.dropped = False

    def next_chunk(self) -> list[int]:
        """Take the samples that come next, as indices into `rows`."""
        chunk = self.waiting.popleft()
        self.in_hand.update(chunk)
        return chunk

    def missing_rows(self) -> list[int]:
        """Rows that are still missing, those that threads are at first."""
        indices = [*sorted(self.in_hand), *(index for chunk in self.waiting for index in chunk)]
        return [int(self.rows[index]) for index in indices]


@final
class DecodePool:
    """Threads that work on requests, the first in the queue first."""

    def __init__(
        self,
        dataset: Dataset,
        cache: NodeCache,
        *,
        image_size: int,
        num_threads: int,
        load_deadline_seconds: float,
        in_hand: InHand,
    ) -> None:
        """Start `num_threads` threads that read through `cache`, which is the pool's to close.

        `in_hand` is told what they decode. The process switches between its threads more readily from now on,
        also after `close`.
        """
        if num_threads < 1:
            raise ConfigError(f"num_threads must be at least 1, got {num_threads}; use the number of cores")
        self._dataset = dataset
        self._cache = cache
        self._image_size = image_size
        self._load_deadline_seconds = load_deadline_seconds
        self._in_hand = in_hand
        # Guards what follows, and the requests. A generator that is collected as garbage under it may drop some.
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._queue: list[Request] = []
        self._lingering: list[Request] = []  # dropped, but a thread is still at them
        self._closing = False
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
        self._threads = [
            Thread(target=self._work, name=f"sunspark-loader-{number}", daemon=True) for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def new_request(self, rows: Rows, write_pixels: WritePixels) -> Request:
        """A request for `rows` of the dataset, int64 (B,); nobody works on it before it is enqueued or preferred."""
        chunks = chunks_of([self._dataset.block_of(row) for row in rows.tolist()])
        return Request(rows, chunks, self._image_size, write_pixels)

    def enqueue(self, request: Request) -> None:
        """Put a request last."""
        with self._changed:
            self._queue.append(request)
            self._changed.notify_all()

    def prefer(self, request: Request) -> None:
        """Put a request first, whether it is in the queue or not."""
        with self._changed:
            self._queue = [request, *(other for other in self._queue if other is not request)]
            self._changed.notify_all()

    def drop(self, request: Request) -> None:
        """Take a request out of the queue; a thread that is at it puts it down after the image it has in hand."""
        with self._lock:
            request.dropped = True
            self._queue = [other for other in self._queue if other is not request]
            if request.in_hand and request not in self._lingering:
                self._lingering.append(request)

    def lingering_bytes(self) -> int:
        """Bytes of the batches that were dropped but are still in a thread's hands."""
        with self._lock:
            return sum(request.size_bytes for request in self._lingering)

    def finish(self, request: Request, what: str) -> Batch:
        """Wait for a request of the queue, helping where the threads are held up; it leaves the queue in any case.

        `what` names it in errors: DeadlineError, naming what is missing, after the deadline; DatasetError for an
        image that cannot be decoded; and what reading the dataset raises, with the path of the sample.
        """
        give_up_at = time.monotonic() + self._load_deadline_seconds
        try:
            while not self._wait(request, what, give_up_at):
                self._help(request)
        finally:
            self.drop(request)
        return request.batch

    def close(self) -> None:
        """End the threads, each after the image it has in hand; a thread that hangs is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._cache.close()
        give_up_at = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if thread.is_alive():
                logger.warning("%s did not end within %g s; leaving it behind", thread.name, _CLOSE_SECONDS)

    def _work(self) -> None:
        while task := self._next_task():
            self._work_on(*task)
            del task  # a thread that waits for work holds no batch

    def _work_on(self, request: Request, chunk: list[int]) -> None:
        for index in chunk:
            if request.dropped or request.error or self._closing:
                break
            self._load(request, index, self._cache.sample)
        self._put_down(request, chunk, unfinished=[])

    def _next_task(self) -> tuple[Request, list[int]] | None:
        with self._changed:
            while not self._closing:
                if task := self._begin_next():
                    return task
                self._changed.wait()
        return None

    def _begin_next(self) -> tuple[Request, list[int]] | None:
        for request in self._queue:
            if request.waiting and not request.error:
                return request, request.next_chunk()
        return None

    def _wait(self, request: Request, what: str, give_up_at: float) -> bool:
        """Whether the request is complete; False when the threads have brought nothing for a while."""
        num_missing, since = -1, 0.0
        with self._changed:
            while request.num_missing:
                if request.error:
                    raise request.error  # made by the thread that failed, with its cause
                if self._closing:
                    raise WorkerError(f"the loader was closed while {what} was asked for")
                now = time.monotonic()
                if now >= give_up_at:
                    raise DeadlineError(self._describe(request, what))
                if request.num_missing != num_missing:
                    num_missing, since = request.num_missing, now
                elif now >= since + _HELP_AFTER_SECONDS:
                    return False
                self._changed.wait(min(since + _HELP_AFTER_SECONDS, give_up_at) - now)
        return True

    def _help(self, request: Request) -> None:
        """Load what is on local disk; leave the rest to the threads: who waits must not hang on storage."""
        while (chunk := self._chunk_of(request)) is not None:
            for number, index in enumerate(chunk):
                if not self._load(request, index, self._cache.cached_sample):
                    self._put_down(request, chunk, unfinished=chunk[number:])
                    return
            self._put_down(request, chunk, unfinished=[])

    def _chunk_of(self, request: Request) -> list[int] | None:
        with self._lock:
            is_to_do = request.waiting and not request.error and not self._closing
            return request.next_chunk() if is_to_do else None

    def _load(self, request: Request, index: int, read: Callable[[int], Sample | None]) -> bool:
        """Load one sample, or note why that failed; False when `read` does not have it."""
        row = int(request.rows[index])
        try:
            sample = read(row)
            if sample is None:
                return False
            with self._in_hand.hold(row):
                _decode(request, sample, request.batch.pixels[index])
            request.batch.sample_ids[index] = sample.sample_id
            request.batch.labels[index] = sample.label
        except Exception as error:
            with self._lock:
                request.error = request.error or self._explain(error, row)
            return True
        with self._lock:
            request.num_missing -= 1
            request.in_hand.discard(index)
        return True

    def _put_down(self, request: Request, chunk: list[int], unfinished: list[int]) -> None:
        with self._lock:
            request.in_hand.difference_update(chunk)
            if unfinished:
                request.waiting.appendleft(unfinished)
            if not request.in_hand and request in self._lingering:
                self._lingering.remove(request)
            if unfinished or request.error or not request.num_missing:
                self._changed.notify_all()

    def _explain(self, error: Exception, row: int) -> Exception:
        """The error with the sample it is about; `raise` of it shows the original as its cause."""
        where = f"{self._dataset.path_of(row)} (row {row} of {self._dataset.uri})"
        explained = (
            type(error)(f"{where}: {error}")
            if isinstance(error, SunsparkError)
            else WorkerError(f"{where} could not be loaded: {type(error).__name__}: {error}")
        )
        explained.__cause__ = error
        return explained

    def _describe(self, request: Request, what: str) -> str:
        row, *others = request.missing_rows()
        sample = f"{self._dataset.path_of(row)} (row {row}, block {self._dataset.block_of(row)})"
        return (
            f"{what} is not there after {self._load_deadline_seconds:g} s: {1 + len(others)} of its "
            f"{len(request.rows)} samples are missing, first {sample} of {self._dataset.uri}; check that "
            "this storage answers, or raise load_deadline_seconds"
        )


def _decode(request: Request, sample: Sample, out: Pixels) -> None:
    try:
        request.write_pixels(sample, out)
    except Exception as error:
        raise DatasetError(
            f"the image cannot be decoded: {error}; delete the dataset and run `sunspark ingest` again"
        ) from error


def chunks_of(blocks: list[int]) -> list[list[int]]:
    """Indices into `blocks` in chunks of one block each, those of different blocks taking turns.

    A thread stays with a block that it has fetched, and threads that start together fetch different blocks.
    """
    indices_of = defaultdict(list)
    for index, block in enumerate(blocks):
        indices_of[block].append(index)
    most = max(map(len, indices_of.values()), default=0)
    return [
        indices[start : start + _CHUNK_SIZE]
        for start in range(0, most, _CHUNK_SIZE)
        for indices in indices_of.values()
        if start < len(indices)
    ]


def sample_size_bytes(image_size: int) -> int:
    """Bytes of one sample in a batch."""
    return image_size * image_size * 3 + 16  # pixels; sample id and label
