"""Samples to pixels in the background: the batches of a step, ready when the step begins.

Threads of one process, since decoding and resampling run without the GIL; no fork, no shared memory. A crew
of threads works on requests; a request is the samples of one step. `Loader` requests the step that is wanted
and, on the guess that membership stays, those after it, as many as fit into `prefetch_bytes`. The thread that
waits for a step helps with it.
Cost: the prefetched batches; for each thread one decoded image and, while a block is fetched, that block.

Shape legend: B batch, H W pixels, 3 RGB.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from logging import getLogger
from threading import Condition, Thread
from typing import final

import numpy as np
import numpy.typing as npt

from sunspark.data.augment import AugmentConfig, KeyedRandom, Pixels, evaluation_pixels, training_pixels
from sunspark.data.blob import Sample
from sunspark.data.cache import NodeCache
from sunspark.data.dataset import Dataset
from sunspark.data.order import StepPlan
from sunspark.errors import ConfigError, DatasetError, DeadlineError, SunsparkError, WorkerError

_log = getLogger(__name__)

Rows = npt.NDArray[np.int64]

_NO_ROWS = np.zeros(0, np.int64)
_CHUNK_SIZE = 4  # samples of one block that a thread takes at once
_HELP_AGAIN_SECONDS = 0.05
_CLOSE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Size of the images, and how much memory, disk and patience the loader may use."""

    image_size: int = 128
    """Height and width of the images that the network sees, in pixels."""
    cache_directory: str | None = None
    """Local directory that keeps the dataset's blocks; by default one per user where temporary files go."""
    cache_bytes: int = 8 * 2**30
    """Most bytes of a dataset that are kept there; the least recently used blocks go first."""
    prefetch_bytes: int = 64 * 2**20
    """Most bytes of batches that are prepared ahead; 0 prepares none."""
    prefetch_steps: int = 8
    """Most steps that are prepared ahead; 0 prepares none."""
    load_deadline_seconds: float = 120.0
    """Longest wait for one batch, in seconds."""
    lock_deadline_seconds: float = 60.0
    """Longest wait for another process of this machine that fetches the same block, in seconds."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How training images vary, and what evaluation looks at."""

    def __post_init__(self) -> None:
        for name in ("image_size", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("prefetch_bytes", "prefetch_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}; 0 prepares none")
        for name in ("load_deadline_seconds", "lock_deadline_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")


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
class Loader:
    """The training batches of any step for any replicas; those that follow are prepared in the background.

    A batch is a function of plan, step, replica and image settings alone, not of who asks, when, in which
    order or with how many threads. Ask from one thread; close it in the end.
    """

    def __init__(self, dataset: Dataset, plan: StepPlan, config: LoaderConfig, num_threads: int) -> None:
        """Start `num_threads` threads; ConfigError when `plan` was not made for this dataset."""
        self._plan = plan
        self._config = config
        self._split_rows = dataset.rows(plan.split)
        if dataset.id != plan.dataset_id or len(self._split_rows) != plan.num_samples:
            raise ConfigError(
                f"the plan is for {plan.num_samples} samples of dataset {plan.dataset_id}, but split "
                f"{plan.split!r} of {dataset.uri} holds {len(self._split_rows)} and its id is {dataset.id}"
            )
        self._ahead: dict[int, _Request] = {}  # by step
        self._ahead_replicas = range(0)
        self._crew = _Crew(dataset, config, num_threads)

    def take(self, step: int, replicas: range) -> list[Batch]:
        """The batches of `replicas` in `step`, one each, in order; without samples it is an empty one.

        Then the following steps are prepared for the same replicas. Any step and any replicas may be asked
        for at any time; what was prepared for others is dropped.
        Raises DeadlineError, naming what is missing, after `load_deadline_seconds`; DatasetError for an image
        that cannot be decoded; and what reading the dataset raises, with the path of the sample.
        """
        request = self._request_for(step, replicas)
        self._crew.prefer(request)
        self._prefetch_after(step, replicas)
        batch = self._crew.finish(request, f"step {step}")
        return _cut(batch, [len(self._plan.slice_of(step, replica)) for replica in replicas])

    def prefetched_bytes(self) -> int:
        """Bytes of the batches that are prepared ahead, or dropped but still in a thread's hands."""
        ahead_bytes = sum(request.size_bytes for request in list(self._ahead.values()))
        return ahead_bytes + self._crew.lingering_bytes()

    def close(self) -> None:
        """End the threads, each after the image it has in hand; a thread that hangs is left behind."""
        self._crew.close()

    def _request_for(self, step: int, replicas: range) -> "_Request":
        """What was prepared, if it was for these replicas, else a new request; what is stale is dropped."""
        useful = range(step, step + self._config.prefetch_steps + 1)
        for other in list(self._ahead):
            if self._ahead_replicas != replicas or other not in useful:
                self._crew.drop(self._ahead.pop(other))
        self._ahead_replicas = replicas
        request = self._ahead.pop(step, None) or self._new_request(step, replicas)
        if request.error is None:
            return request
        self._crew.drop(request)
        return self._new_request(step, replicas)  # what failed in the background is tried once more

    def _prefetch_after(self, step: int, replicas: range) -> None:
        end = min(step + self._config.prefetch_steps + 1, self._plan.num_steps)
        for other in range(step + 1, end):
            if other in self._ahead:
                continue
            num_samples = sum(len(self._plan.slice_of(other, replica)) for replica in replicas)
            size_bytes = num_samples * _sample_size_bytes(self._config.image_size)
            if self.prefetched_bytes() + size_bytes > self._config.prefetch_bytes:
                return
            self._ahead[other] = self._new_request(other, replicas)
            self._crew.enqueue(self._ahead[other])

    def _new_request(self, step: int, replicas: range) -> "_Request":
        epoch, seed = self._plan.epoch_of(step), self._plan.seed
        size, augment = self._config.image_size, self._config.augment

        def to_pixels(sample: Sample) -> Pixels:
            return training_pixels(sample.jpeg, size, KeyedRandom(seed, epoch, sample.sample_id), augment)

        indices = [self._plan.rows_of_slice(step, replica) for replica in replicas]
        return self._crew.new_request(self._split_rows[np.concatenate([_NO_ROWS, *indices])], to_pixels)


@final
class EvaluationLoader:
    """Batches of any rows of a dataset as evaluation sees them: resized, the centre cut out, nothing random.

    Ask from one thread; close it in the end.
    """

    def __init__(self, dataset: Dataset, config: LoaderConfig, num_threads: int) -> None:
        """Start `num_threads` threads."""
        self._config = config
        self._crew = _Crew(dataset, config, num_threads)

    def load_rows(self, rows: Rows) -> Batch:
        """The samples of `rows` of the dataset, int64 (B,), in that order; raises what `Loader.take` does."""
        return self._crew.finish(self._begin(rows), "a batch")

    def batches(self, rows: Rows, batch_size_per_worker: int) -> Iterator[Batch]:
        """The samples of `rows` in batches of at most that size; while one is used the next is prepared."""
        starts = range(0, len(rows), batch_size_per_worker)
        parts = [rows[start : start + batch_size_per_worker] for start in starts]
        upcoming = deque(self._begin(part) for part in parts[:1])
        try:
            for following in [*parts[1:], None]:
                if following is not None:
                    upcoming.append(self._begin(following))
                if upcoming:
                    yield self._crew.finish(upcoming.popleft(), "a batch")
        finally:
            for request in upcoming:
                self._crew.drop(request)

    def close(self) -> None:
        """End the threads, each after the image it has in hand."""
        self._crew.close()

    def _begin(self, rows: Rows) -> "_Request":
        size, augment = self._config.image_size, self._config.augment
        request = self._crew.new_request(rows, lambda sample: evaluation_pixels(sample.jpeg, size, augment))
        self._crew.enqueue(request)
        return request


@final
class _Request:
    """The samples of one batch and how far they have come; guarded by the crew's lock, but for the batch."""

    def __init__(
        self, rows: Rows, chunks: list[list[int]], image_size: int, to_pixels: Callable[[Sample], Pixels]
    ) -> None:
        self.rows = rows
        self.to_pixels = to_pixels
        self.size_bytes = len(rows) * _sample_size_bytes(image_size)
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
        chunk = self.waiting.popleft()
        self.in_hand.update(chunk)
        return chunk

    def missing_rows(self) -> list[int]:
        """Rows that are still missing, those that threads are at first."""
        indices = [*sorted(self.in_hand), *(index for chunk in self.waiting for index in chunk)]
        return [int(self.rows[index]) for index in indices]


@final
class _Crew:
    """Threads that work on requests, the first in the queue first."""

    def __init__(self, dataset: Dataset, config: LoaderConfig, num_threads: int) -> None:
        if num_threads < 1:
            raise ConfigError(f"num_threads must be at least 1, got {num_threads}; use the number of cores")
        self._dataset = dataset
        self._config = config
        self._cache = NodeCache(
            dataset,
            config.cache_directory,
            config.cache_bytes,
            lock_deadline_seconds=config.lock_deadline_seconds,
        )
        self._changed = Condition()  # guards what follows, and the requests
        self._queue: list[_Request] = []
        self._lingering: list[_Request] = []  # dropped, but a thread is still at them
        self._closing = False
        self._threads = [
            Thread(target=self._work, name=f"sunspark-loader-{number}", daemon=True) for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def new_request(self, rows: Rows, to_pixels: Callable[[Sample], Pixels]) -> _Request:
        chunks = _chunks_of([self._dataset.block_of(int(row)) for row in rows])
        return _Request(rows, chunks, self._config.image_size, to_pixels)

    def enqueue(self, request: _Request) -> None:
        with self._changed:
            self._queue.append(request)
            self._changed.notify_all()

    def prefer(self, request: _Request) -> None:
        """Put a request first, whether it is in the queue or not."""
        with self._changed:
            self._queue = [request, *(other for other in self._queue if other is not request)]
            self._changed.notify_all()

    def drop(self, request: _Request) -> None:
        with self._changed:
            request.dropped = True
            self._queue = [other for other in self._queue if other is not request]
            if request.in_hand and request not in self._lingering:
                self._lingering.append(request)

    def lingering_bytes(self) -> int:
        with self._changed:
            return sum(request.size_bytes for request in self._lingering)

    def finish(self, request: _Request, what: str) -> Batch:
        """Wait for a request of the queue, helping with it; it leaves the queue in any case."""
        give_up_at = time.monotonic() + self._config.load_deadline_seconds
        try:
            while (chunk := self._wait_for_chunk(request, what, give_up_at)) is not None:
                if not self._help(request, chunk):
                    self._pause(give_up_at)
        finally:
            self.drop(request)
        return request.batch

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._cache.close()
        give_up_at = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if thread.is_alive():
                _log.warning("%s did not end within %g s; leaving it behind", thread.name, _CLOSE_SECONDS)

    def _work(self) -> None:
        while (task := self._next_task()) is not None:
            request, chunk = task
            for index in chunk:
                if request.dropped or request.error or self._closing:
                    break
                self._load(request, index, self._cache.sample)
            self._put_down(request, chunk, unfinished=[])

    def _next_task(self) -> tuple[_Request, list[int]] | None:
        with self._changed:
            while not self._closing:
                for request in self._queue:
                    if request.waiting and not request.error:
                        return request, request.next_chunk()
                self._changed.wait()
        return None

    def _wait_for_chunk(self, request: _Request, what: str, give_up_at: float) -> list[int] | None:
        """Samples of the request to help with; None when it is complete."""
        with self._changed:
            while request.num_missing:
                if request.error:
                    raise request.error  # made by the thread that failed, with its cause
                if self._closing:
                    raise WorkerError(f"the loader was closed while {what} was asked for")
                if time.monotonic() >= give_up_at:
                    raise DeadlineError(self._describe(request, what))
                if request.waiting:
                    return request.next_chunk()
                self._changed.wait(give_up_at - time.monotonic())
        return None

    def _help(self, request: _Request, chunk: list[int]) -> bool:
        """Load what is on local disk; leave the rest to the threads: who waits must not hang on storage."""
        for number, index in enumerate(chunk):
            if not self._load(request, index, self._cache.cached_sample):
                self._put_down(request, chunk, unfinished=chunk[number:])
                return False
        self._put_down(request, chunk, unfinished=[])
        return True

    def _pause(self, give_up_at: float) -> None:
        """Let the threads fetch for a while."""
        with self._changed:
            self._changed.wait(max(0.0, min(_HELP_AGAIN_SECONDS, give_up_at - time.monotonic())))

    def _load(self, request: _Request, index: int, read: Callable[[int], Sample | None]) -> bool:
        """Load one sample, or note why that failed; False when `read` does not have it."""
        row = int(request.rows[index])
        try:
            sample = read(row)
            if sample is None:
                return False
            pixels = _decode(request, sample)
        except Exception as error:
            with self._changed:
                request.error = request.error or self._explain(error, row)
            return True
        request.batch.pixels[index] = pixels
        request.batch.sample_ids[index] = sample.sample_id
        request.batch.labels[index] = sample.label
        with self._changed:
            request.num_missing -= 1
            request.in_hand.discard(index)
        return True

    def _put_down(self, request: _Request, chunk: list[int], unfinished: list[int]) -> None:
        with self._changed:
            request.in_hand.difference_update(chunk)
            if unfinished:
                request.waiting.appendleft(unfinished)
            if not request.in_hand and request in self._lingering:
                self._lingering.remove(request)
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

    def _describe(self, request: _Request, what: str) -> str:
        row, *others = request.missing_rows()
        sample = f"{self._dataset.path_of(row)} (row {row}, block {self._dataset.block_of(row)})"
        return (
            f"{what} is not there after {self._config.load_deadline_seconds:g} s: {1 + len(others)} of its "
            f"{len(request.rows)} samples are missing, first {sample} of {self._dataset.uri}; check that "
            "this storage answers, or raise load_deadline_seconds"
        )


def _decode(request: _Request, sample: Sample) -> Pixels:
    try:
        return request.to_pixels(sample)
    except Exception as error:
        raise DatasetError(f"the image cannot be decoded: {error}; run `sunspark ingest` again") from error


def _chunks_of(blocks: list[int]) -> list[list[int]]:
    """Indices into `blocks` in chunks of one block each, those of different blocks taking turns.

    A thread stays with a block that it has fetched, and threads that start together fetch different blocks.
    """
    indices_of = defaultdict(list)
    for index, block in enumerate(blocks):
        indices_of[block].append(index)
    chunks = [
        (turn, indices[turn : turn + _CHUNK_SIZE])
        for indices in indices_of.values()
        for turn in range(0, len(indices), _CHUNK_SIZE)
    ]
    return [chunk for _, chunk in sorted(chunks)]


def _cut(batch: Batch, sizes: list[int]) -> list[Batch]:
    """Consecutive parts of a batch, of those sizes, sharing its memory."""
    ends = np.cumsum(sizes).tolist()
    return [
        Batch(
            sample_ids=batch.sample_ids[end - size : end],
            labels=batch.labels[end - size : end],
            pixels=batch.pixels[end - size : end],
        )
        for size, end in zip(sizes, ends, strict=True)
    ]


def _sample_size_bytes(image_size: int) -> int:
    return image_size * image_size * 3 + 16  # pixels; sample id and label
