"""Samples to pixels in the background: the batches of a step, ready when the step begins.

`Loader` requests the step that is wanted from a `DecodePool` and, on the guess that membership stays, those after
it, as many as fit into `prefetch_bytes`.
Cost: the prefetched batches, and what the pool's threads hold.

Shape legend: B batch.
"""

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np

from sunspark.config import refuse_not_finite
from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.blob import Sample
from sunspark.data.cache import NodeCache
from sunspark.data.dataset import Dataset
from sunspark.data.decode_pool import Batch, DecodePool, Request, Rows, sample_size_bytes
from sunspark.data.in_hand import InHand
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.order import StepPlan
from sunspark.data.pixels import Pixels
from sunspark.errors import ConfigError

_MAX_IMAGE_SIZE: Final = 16_384
_MAX_DEADLINE_SECONDS: Final = 86_400
_NO_ROWS = np.zeros(0, np.int64)

Place = tuple[int, range]
"""A step, and replicas of it."""


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
        refuse_not_finite(self)
        for name in ("image_size", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("prefetch_bytes", "prefetch_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}; 0 prepares none")
        if self.image_size > _MAX_IMAGE_SIZE:
            raise ConfigError(
                f"image_size must be at most {_MAX_IMAGE_SIZE}, got {self.image_size}; 128 to 512 is usual"
            )
        for name in ("load_deadline_seconds", "lock_deadline_seconds"):
            if not 0 < getattr(self, name) <= _MAX_DEADLINE_SECONDS:
                raise ConfigError(
                    f"{name} must be above 0 and at most {_MAX_DEADLINE_SECONDS} (a day), got {getattr(self, name)}; "
                    "leave it out if in doubt"
                )


@final
class Loader:
    """The training batches of any step for any replicas; those that follow are prepared in the background.

    A batch is a function of plan, step, replica and image settings alone, not of who asks, when, in which
    order or with how many threads. Ask from one thread; close it in the end.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: StepPlan,
        config: LoaderConfig,
        num_threads: int,
        in_hand: InHand | None = None,
    ) -> None:
        """Start `num_threads` threads, which tell `in_hand` what they decode.

        Raises ConfigError when `plan` was not made for this dataset.
        """
        self._plan = plan
        self._config = config
        self._split_rows = dataset.rows(plan.split)
        if dataset.id != plan.dataset_id or len(self._split_rows) != plan.num_samples:
            raise ConfigError(
                f"the plan is for {plan.num_samples} samples of dataset {plan.dataset_id}, but split "
                f"{plan.split!r} of {dataset.uri} holds {len(self._split_rows)} and its id is {dataset.id}"
            )
        self._ahead: dict[Place, Request] = {}
        self._excused: frozenset[int] = frozenset()
        self._in_hand = in_hand or InHand()
        self._pool = _open_pool(dataset, config, num_threads, self._in_hand)

    def excuse(self, rows: Iterable[int]) -> None:
        """Leave these rows of the dataset out of all batches from now on; may be called from another thread."""
        self._excused = frozenset(rows)

    def take(self, step: int, replicas: range, following: Iterable[Place] | None = None) -> list[Batch]:
        """The batches of `replicas` in `step`, one each, in order; without samples it is an empty one.

        Then what is asked for next is prepared: `following`, else the steps after this one for the same replicas. Any
        step and any replicas may be asked for at any time; what was prepared for others is dropped.
        Raises DeadlineError, naming what is missing, after `load_deadline_seconds`; DatasetError for an image
        that cannot be decoded; and what reading the dataset raises, with the path of the sample.
        """
        self._in_hand.set_step(step)
        if following is None:
            following = ((other, replicas) for other in range(step + 1, self._plan.num_steps))
        upcoming = list(itertools.islice(following, self._config.prefetch_steps))
        request = self._request_for((step, replicas), upcoming)
        self._pool.prefer(request)
        self._prefetch(upcoming)
        batch = self._pool.finish(request, f"step {step}")
        kept = set(request.rows.tolist())
        return _cut(batch, [sum(row in kept for row in rows.tolist()) for rows in self._rows_of(step, replicas)])

    def prefetched_bytes(self) -> int:
        """Bytes of the batches that are prepared ahead, or dropped but still in a thread's hands."""
        ahead_bytes = sum(request.size_bytes for request in list(self._ahead.values()))
        return ahead_bytes + self._pool.lingering_bytes()

    def close(self) -> None:
        """End the threads, each after the image it has in hand; a thread that hangs is left behind."""
        self._pool.close()

    def _request_for(self, place: Place, upcoming: Sequence[Place]) -> Request:
        """What was prepared, or a new request; what is not upcoming, or has rows that are excused since, is dropped."""
        for other, request in list(self._ahead.items()):
            is_stale = bool(self._excused) and not self._excused.isdisjoint(request.rows.tolist())
            if is_stale or other not in (place, *upcoming):
                self._pool.drop(self._ahead.pop(other))
        prepared = self._ahead.pop(place, None)
        request = prepared or self._new_request(*place)
        if request.error is None:
            return request
        self._pool.drop(request)
        return self._new_request(*place)  # what failed in the background is tried once more

    def _prefetch(self, upcoming: Iterable[Place]) -> None:
        for step, replicas in upcoming:
            if (step, replicas) in self._ahead:
                continue
            num_samples = sum(len(self._plan.slice_of(step, replica)) for replica in replicas)
            size_bytes = num_samples * sample_size_bytes(self._config.image_size)
            if self.prefetched_bytes() + size_bytes > self._config.prefetch_bytes:
                return
            self._ahead[step, replicas] = self._new_request(step, replicas)
            self._pool.enqueue(self._ahead[step, replicas])

    def _new_request(self, step: int, replicas: range) -> Request:
        epoch, seed = self._plan.epoch_of(step), self._plan.seed
        size, augment = self._config.image_size, self._config.augment

        def write_pixels(sample: Sample, out: Pixels) -> None:
            training_pixels(sample.jpeg, size, KeyedRandom(seed, epoch, sample.sample_id), augment, out)

        rows = np.concatenate([_NO_ROWS, *self._rows_of(step, replicas)])
        return self._pool.new_request(without(rows, self._excused), write_pixels)

    def _rows_of(self, step: int, replicas: range) -> list[Rows]:
        """The rows of the dataset that each of the replicas owns in that step."""
        return [self._split_rows[self._plan.rows_of_slice(step, replica)] for replica in replicas]


@final
class EvaluationLoader:
    """Batches of any rows of a dataset as evaluation sees them: resized, the centre cut out, nothing random.

    Ask from one thread; close it in the end.
    """

    def __init__(self, dataset: Dataset, config: LoaderConfig, num_threads: int, in_hand: InHand | None = None) -> None:
        """Start `num_threads` threads, which tell `in_hand` what they decode."""
        self._config = config
        self._pool = _open_pool(dataset, config, num_threads, in_hand or InHand())

    def batches(self, rows: Rows, batch_size_per_worker: int) -> Iterator[Batch]:
        """The samples of `rows` (int64, in that order) in batches of at most that size; raises what `Loader.take` does.

        While one is used the next is prepared.
        """
        starts = range(0, len(rows), batch_size_per_worker)
        parts = [rows[start : start + batch_size_per_worker] for start in starts]
        upcoming = deque(self._begin(part) for part in parts[:1])
        try:
            for following in [*parts[1:], None]:
                if following is not None:
                    upcoming.append(self._begin(following))
                if upcoming:
                    yield self._pool.finish(upcoming.popleft(), "a batch")
        finally:
            for request in upcoming:
                self._pool.drop(request)

    def close(self) -> None:
        """End the threads, each after the image it has in hand."""
        self._pool.close()

    def _begin(self, rows: Rows) -> Request:
        size, augment = self._config.image_size, self._config.augment

        def write_pixels(sample: Sample, out: Pixels) -> None:
            evaluation_pixels(sample.jpeg, size, augment, out)

        request = self._pool.new_request(rows, write_pixels)
        self._pool.enqueue(request)
        return request


def without(rows: Rows, excused: Collection[int]) -> Rows:
    """`rows` in their order, without those that are excused."""
    return rows[~np.isin(rows, list(excused))] if excused else rows


def _open_pool(dataset: Dataset, config: LoaderConfig, num_threads: int, in_hand: InHand) -> DecodePool:
    cache = NodeCache(
        dataset, config.cache_directory, config.cache_bytes, lock_deadline_seconds=config.lock_deadline_seconds
    )
    return DecodePool(
        dataset,
        cache,
        image_size=config.image_size,
        num_threads=num_threads,
        load_deadline_seconds=config.load_deadline_seconds,
        in_hand=in_hand,
    )


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
