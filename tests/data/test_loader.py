"""Laws of the loader: the plan's samples once, the same pixels whoever asks, bounded memory and patience."""

import contextlib
import dataclasses
import fcntl
import os
import random
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from sunspark.data import decode_pool
from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.dataset import Dataset
from sunspark.data.decode_pool import Batch, Request
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.loader import EvaluationLoader, Loader, LoaderConfig
from sunspark.data.order import StepPlan, even_split, replicas_of
from sunspark.data.writer import write_dataset
from sunspark.errors import ConfigError, DatasetError, DeadlineError, StorageError, WorkerError

SIZE = 16
BLOCK_SIZE = 6
NUM_IMAGES = 70
SAMPLE_BYTES = SIZE * SIZE * 3 + 16


def write_images(directory: Path, damaged: str | None = None) -> Dataset:
    """70 images of noise, 56 of them for training, in blocks of 6; `damaged` is cut short."""
    draw = np.random.default_rng(0)
    samples = []
    for number in range(NUM_IMAGES):
        path = f"class_{number % 3}/{number}.jpg"
        jpeg = simplejpeg.encode_jpeg(draw.integers(0, 256, (24 + number % 5, 30, 3), dtype=np.uint8))
        image = jpeg[:-200] if path == damaged else jpeg
        samples.append((path, number % 3, ["test" if number % 5 == 0 else "train"], image))
    return write_dataset(str(directory), samples, classes=["a", "b", "c"], block_size=BLOCK_SIZE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_images(tmp_path_factory.mktemp("dataset"))


def plan_of(dataset: Dataset, **changes: object) -> StepPlan:
    settings: dict[str, object] = {
        "dataset_id": dataset.id,
        "split": "train",
        "seed": 5,
        "num_samples": len(dataset.rows("train")),
        "global_batch_size": 10,
        "num_epochs": 3,
        "num_replicas": 4,
    }
    return StepPlan(**(settings | changes))  # type: ignore[arg-type]


Open = Callable[..., Loader]


@pytest.fixture
def open_loader(dataset: Dataset, tmp_path: Path) -> Iterator[Open]:
    """Opens loaders on the common dataset, or another, and closes them."""
    with contextlib.ExitStack() as stack:

        def open_loader(
            other: Dataset | None = None,
            plan: StepPlan | None = None,
            threads: int = 2,
            **settings: object,
        ) -> Loader:
            config = LoaderConfig(**config_of(tmp_path, **settings))  # type: ignore[arg-type]
            mine = other or dataset
            return stack.enter_context(contextlib.closing(Loader(mine, plan or plan_of(mine), config, threads)))

        yield open_loader


def config_of(directory: Path, **changes: object) -> dict[str, object]:
    return {"image_size": SIZE, "cache_directory": str(directory), "load_deadline_seconds": 30.0} | changes


def expected_batch(dataset: Dataset, plan: StepPlan, step: int, replica: int) -> Batch:
    """What a replica's batch is by definition, read without a loader."""
    rows = dataset.rows(plan.split)[plan.rows_of_slice(step, replica)]
    pixels = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)
    for place, row in enumerate(rows):
        block = dataset.block_of(row)
        jpeg = dataset.read_block(block).images[row - dataset.block_rows(block).start]
        rng = KeyedRandom(plan.seed, plan.epoch_of(step), int(dataset.sample_ids[row]))
        pixels[place] = training_pixels(jpeg, SIZE, rng)
    return Batch(sample_ids=dataset.sample_ids[rows], labels=dataset.labels[rows].astype(np.int64), pixels=pixels)


def same(batch: Batch, expected: Batch) -> bool:
    assert batch.pixels.dtype == np.uint8
    assert (batch.sample_ids.dtype, batch.labels.dtype) == (np.uint64, np.int64)
    return all(
        np.array_equal(getattr(batch, name), getattr(expected, name)) for name in ("sample_ids", "labels", "pixels")
    )


@pytest.fixture(scope="module")
def truth(dataset: Dataset) -> dict[tuple[int, int], Batch]:
    plan = plan_of(dataset)
    return {
        (step, replica): expected_batch(dataset, plan, step, replica)
        for step in range(plan.num_steps)
        for replica in range(plan.num_replicas)
    }


Truth = dict[tuple[int, int], Batch]


@pytest.mark.parametrize("num_replicas", [1, 3, 4, 10, 13])
def test_the_batches_of_all_replicas_are_the_samples_of_the_step_once(
    num_replicas: int, dataset: Dataset, open_loader: Open
) -> None:
    plan = plan_of(dataset, num_replicas=num_replicas, num_epochs=1)
    loaders = [open_loader(plan=plan) for _ in range(3)]
    seen: list[int] = []
    for step in range(plan.num_steps):
        world_size = 1 + step % 3
        batches = [
            batch
            for rank in range(world_size)
            for batch in loaders[rank].take(step, replicas_of(rank, world_size, num_replicas))
        ]
        assert [len(batch) for batch in batches] == [len(plan.slice_of(step, r)) for r in range(num_replicas)]
        ids = np.concatenate([batch.sample_ids for batch in batches])
        assert np.array_equal(ids, dataset.sample_ids[dataset.rows("train")[plan.rows_of(step)]])
        seen.extend(ids.tolist())
    assert sorted(seen) == sorted(dataset.sample_ids[dataset.rows("train")].tolist())


def test_a_row_that_is_excused_is_in_no_batch_from_then_on(dataset: Dataset, open_loader: Open) -> None:
    plan = plan_of(dataset)
    loader = open_loader(plan=plan)
    loader.take(0, range(4))
    rows = dataset.rows("train")[plan.rows_of(1)]
    loader.excuse([int(rows[3])])  # the batch that has it is prepared by now, or about to be
    ids = np.concatenate([batch.sample_ids for batch in loader.take(1, range(4))])
    assert np.array_equal(ids, dataset.sample_ids[np.delete(rows, 3)])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("ahead", [{}, {"prefetch_steps": 0}, {"prefetch_bytes": 20_000}, {"cache_bytes": 20_000}])
def test_pixels_are_the_same_bits_whoever_asks_in_whatever_order(
    threads: int, ahead: dict[str, int], truth: Truth, open_loader: Open
) -> None:
    loader = open_loader(threads=threads, **ahead)
    draw = random.Random(threads)
    for step in [*range(6), *draw.choices(range(18), k=12)]:
        part, num_parts = draw.randrange(3), draw.randrange(3, 6)
        replicas = even_split(range(4), part, num_parts)
        batches = loader.take(step, replicas)
        assert len(batches) == len(replicas)
        assert all(same(batches[i], truth[step, replica]) for i, replica in enumerate(replicas))


def test_a_change_of_membership_midway_gives_the_new_replicas_their_samples(truth: Truth, open_loader: Open) -> None:
    loader = open_loader()
    for step, replicas in [
        (0, (0, 2)),
        (1, (0, 2)),
        (2, (0, 4)),
        (2, (1, 3)),
        (3, (2, 4)),
        (4, (2, 4)),
        (17, (0, 4)),
    ]:
        batches = loader.take(step, range(*replicas))
        assert all(same(batch, truth[step, r]) for r, batch in zip(range(*replicas), batches, strict=True))


def test_a_step_that_did_not_count_can_be_taken_again(truth: Truth, open_loader: Open) -> None:
    loader = open_loader()
    for step in (0, 1, 1, 1, 2, 0):
        assert same(loader.take(step, range(2, 3))[0], truth[step, 2])


@pytest.mark.parametrize(("before", "after"), [(5e-3, 2e-4), (1e-5, 1e-5)])
def test_threads_insist_on_the_gil_at_least_as_soon_as_the_loader_needs(
    before: float, after: float, open_loader: Open
) -> None:
    usual = sys.getswitchinterval()
    try:
        sys.setswitchinterval(before)
        open_loader()
        assert sys.getswitchinterval() == pytest.approx(after)
    finally:
        sys.setswitchinterval(usual)


def test_a_batch_belongs_to_whoever_took_it(truth: Truth, open_loader: Open) -> None:
    loader = open_loader()
    loader.take(0, range(4))[1].pixels[:] = 0
    batches = [loader.take(step, range(4))[1] for step in (0, 1, 2)]
    assert all(same(batch, truth[step, 1]) for step, batch in enumerate(batches))


def test_replicas_without_samples_get_empty_batches(dataset: Dataset, open_loader: Open) -> None:
    plan = plan_of(dataset, global_batch_size=3)
    batches = open_loader(plan=plan).take(0, range(4))
    assert [len(batch) for batch in batches] == [3, 0, 0, 0]  # no slice of a single sample
    assert batches[3].pixels.shape == (0, SIZE, SIZE, 3)
    assert open_loader(plan=plan).take(0, range(2, 2)) == []


@pytest.mark.parametrize(("step", "replicas"), [(18, range(1)), (-1, range(1)), (0, range(3, 5))])
def test_what_is_not_in_the_plan_cannot_be_taken(step: int, replicas: range, open_loader: Open) -> None:
    with pytest.raises(ValueError, match="must be in"):
        open_loader().take(step, replicas)


def test_what_is_prepared_ahead_never_exceeds_its_budget(open_loader: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = 3 * 10 * SAMPLE_BYTES + 100
    loader = open_loader(threads=3, prefetch_bytes=budget)
    enqueue, seen = loader._pool.enqueue, []

    def measured(request: Request) -> None:  # while nothing fails, nothing else makes it grow
        enqueue(request)
        seen.append(loader.prefetched_bytes())

    monkeypatch.setattr(loader._pool, "enqueue", measured)
    draw, step = random.Random(0), 0
    for _ in range(60):
        loader.take(step, even_split(range(4), 0, draw.choice([1, 1, 1, 2])))
        step = draw.choice([step + 1, step + 1, step, 0]) % 18
    assert budget - 10 * SAMPLE_BYTES <= max(seen) <= budget


def test_threads_without_work_hold_no_batch(open_loader: Open) -> None:
    loader = open_loader(threads=3, prefetch_steps=0)
    pixels = weakref.ref(loader.take(0, range(4))[0].pixels.base)  # type: ignore[arg-type]
    wait_until(lambda: pixels() is None)


@pytest.mark.parametrize("setting", ["prefetch_bytes", "prefetch_steps"])
def test_zero_prepares_nothing_ahead(setting: str, open_loader: Open) -> None:
    loader = open_loader(**{setting: 0})
    loader.take(0, range(4))
    assert loader.prefetched_bytes() == 0


def test_the_following_steps_are_prepared_and_stale_ones_dropped(open_loader: Open) -> None:
    loader = open_loader(prefetch_steps=3)
    loader.take(0, range(4))
    assert loader.prefetched_bytes() == 3 * 10 * SAMPLE_BYTES
    loader.take(1, range(2))
    wait_until(lambda: loader.prefetched_bytes() == 3 * 6 * SAMPLE_BYTES)
    loader.take(17, range(2))
    wait_until(lambda: loader.prefetched_bytes() == 0)


def test_what_a_thread_has_not_let_go_of_counts_as_prepared_ahead(
    dataset: Dataset, open_loader: Open, tmp_path: Path
) -> None:
    loader = open_loader(threads=1, prefetch_steps=1)
    for block in range(dataset.num_blocks):
        loader._pool._cache.sample(dataset.block_rows(block).start)
    block = next(block for block in blocks_of(dataset, 1) if block not in blocks_of(dataset, 0))
    (tmp_path / dataset.id[:32] / f"block-{block:08d}.blob").unlink()
    loader._pool._cache._open.clear()
    with block_locked(dataset, tmp_path, block):
        loader.take(0, range(4))
        following = loader._ahead[1, range(4)]
        wait_until(lambda: {blocks_of(dataset, 1)[index] for index in set(following.in_hand)} == {block})
        loader.take(0, range(2))
        assert loader.prefetched_bytes() == (10 + 6) * SAMPLE_BYTES
    wait_until(lambda: loader.prefetched_bytes() == 6 * SAMPLE_BYTES)


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.005)


@contextlib.contextmanager
def block_locked(dataset: Dataset, directory: Path, block: int) -> Iterator[None]:
    """As if another process were fetching a block, and never came to an end."""
    with open(directory / dataset.id[:32] / "locks" / f"block-{block:02d}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 4711 on elsewhere")
        lock.flush()
        yield


def blocks_of(dataset: Dataset, step: int) -> list[int]:
    rows = dataset.rows("train")[plan_of(dataset).rows_of(step)]
    return [dataset.block_of(row) for row in rows]


def test_take_waits_no_longer_than_its_deadline_and_names_what_is_missing(
    dataset: Dataset, truth: Truth, open_loader: Open, tmp_path: Path
) -> None:
    loader = open_loader(threads=1, load_deadline_seconds=1.0, prefetch_steps=0)
    blocks = blocks_of(dataset, 0)
    block = blocks[3]
    for other in range(dataset.num_blocks):
        if other != block:
            loader._pool._cache.sample(dataset.block_rows(other).start)
    missing = rf"{blocks.count(block)} of its 10 samples .* class_\d/\d+\.jpg .*block {block}\)"
    with block_locked(dataset, tmp_path, block):
        began_at = time.monotonic()  # the others come, although the only thread hangs
        with pytest.raises(DeadlineError, match=rf"step 0 .* after 1 s: {missing}"):
            loader.take(0, range(4))
        assert 1.0 <= time.monotonic() - began_at < 10
    assert all(same(batch, truth[0, r]) for r, batch in enumerate(loader.take(0, range(4))))


def test_a_block_that_another_process_does_not_finish_is_an_error_with_the_holder(
    dataset: Dataset, truth: Truth, open_loader: Open, tmp_path: Path
) -> None:
    loader = open_loader(lock_deadline_seconds=0.3)
    block = blocks_of(dataset, 0)[0]
    with (
        block_locked(dataset, tmp_path, block),
        pytest.raises(DeadlineError, match=rf"class_.*jpg .*waited 0\.3 s .*block {block} .*process 4711"),
    ):
        loader.take(0, range(4))
    assert same(loader.take(0, range(4))[0], truth[0, 0])


def test_closing_ends_threads_that_wait(dataset: Dataset, open_loader: Open, tmp_path: Path) -> None:
    loader = open_loader(load_deadline_seconds=0.2)
    threads = loader._pool._threads
    with block_locked(dataset, tmp_path, blocks_of(dataset, 0)[0]):
        with pytest.raises(DeadlineError):
            loader.take(0, range(4))
        loader.close()
        assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(WorkerError, match="closed"):
        loader.take(0, range(4))


def test_nothing_hangs_with_a_storage_that_hangs(
    dataset: Dataset,
    open_loader: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(decode_pool, "_CLOSE_SECONDS", 0.3)
    copy = dataclasses.replace(dataset, uri=str(shutil.copytree(dataset.uri, tmp_path / "copy")))
    block = blocks_of(dataset, 0)[0]
    path = Path(copy.uri) / copy.manifest["blocks"][block]["name"]
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits until somebody writes
    loader = open_loader(copy, load_deadline_seconds=0.3, threads=1)
    began_at = time.monotonic()
    with pytest.raises(DeadlineError, match="step 0 is not there"):
        loader.take(0, range(4))
    loader.close()
    assert time.monotonic() - began_at < 10
    assert "sunspark-loader-0 did not end within 0.3 s" in caplog.text
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # for the thread that was left behind
    wait_until(lambda: not loader._pool._threads[0].is_alive())


def test_an_image_that_cannot_be_decoded_is_an_error_with_its_path(open_loader: Open, tmp_path: Path) -> None:
    broken = write_images(tmp_path / "broken", damaged="class_1/37.jpg")
    plan, row = plan_of(broken), broken.paths.to_pylist().index("class_1/37.jpg")
    steps = range(plan.steps_per_epoch)
    bad_step = next(step for step in steps if row in broken.rows("train")[plan.rows_of(step)])
    loader = open_loader(broken)
    for step in [*steps, bad_step]:
        if step == bad_step:
            with pytest.raises(DatasetError, match=rf"class_1/37\.jpg \(row {row} of .*cannot be decoded"):
                loader.take(step, range(4))
        else:
            assert len(loader.take(step, range(4))) == 4


def test_a_storage_that_fails_is_an_error_with_the_path_and_can_recover(
    dataset: Dataset, truth: Truth, open_loader: Open, tmp_path: Path
) -> None:
    copy = dataclasses.replace(dataset, uri=str(shutil.copytree(dataset.uri, tmp_path / "copy")))
    loader = open_loader(copy)
    data = Path(copy.uri) / "data"
    data.rename(data.with_name("gone"))
    with pytest.raises(StorageError, match=r"class_\d/\d+\.jpg \(row \d+ of ") as caught:
        loader.take(0, range(4))
    assert isinstance(caught.value.__cause__, StorageError)
    data.with_name("gone").rename(data)
    for step in range(3):  # what failed in the background is tried again
        assert same(loader.take(step, range(4))[0], truth[step, 0])
    loader.take(17, range(4))
    assert loader._pool._queue == []


def test_a_plan_for_another_dataset_is_refused(dataset: Dataset, open_loader: Open) -> None:
    with pytest.raises(ConfigError, match="its id is"):
        open_loader(plan=plan_of(dataset, dataset_id="0" * 64))
    with pytest.raises(ConfigError, match="holds 14"):
        open_loader(plan=plan_of(dataset, split="test"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 0),
        ("cache_bytes", 0),
        ("prefetch_bytes", -1),
        ("prefetch_steps", -1),
        ("load_deadline_seconds", 0.0),
        ("lock_deadline_seconds", float("nan")),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        LoaderConfig(**{field: value})  # type: ignore[arg-type]


def test_a_loader_without_threads_is_refused(open_loader: Open) -> None:
    with pytest.raises(ConfigError, match="num_threads"):
        open_loader(threads=0)


def test_evaluation_sees_the_centre_of_every_row_in_the_order_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    config = LoaderConfig(**config_of(tmp_path), augment=AugmentConfig(evaluation_crop=0.7))  # type: ignore[arg-type]
    images = [image for block in range(dataset.num_blocks) for image in dataset.read_block(block).images]
    rows = np.random.default_rng(0).permutation(NUM_IMAGES)[:23].astype(np.int64)
    with contextlib.closing(EvaluationLoader(dataset, config, 2)) as loader:
        batches = [*loader.batches(rows, 23), *loader.batches(rows, 5), *loader.batches(rows[:0], 5)]
    assert [len(batch) for batch in batches] == [23, 5, 5, 5, 5, 3]
    for batch in (batches[0], join(batches[1:])):
        assert np.array_equal(batch.sample_ids, dataset.sample_ids[rows])
        assert np.array_equal(batch.labels, dataset.labels[rows])
        for place, row in enumerate(rows):
            assert np.array_equal(batch.pixels[place], evaluation_pixels(images[row], SIZE, config.augment))


def join(batches: list[Batch]) -> Batch:
    return Batch(
        sample_ids=np.concatenate([batch.sample_ids for batch in batches]),
        labels=np.concatenate([batch.labels for batch in batches]),
        pixels=np.concatenate([batch.pixels for batch in batches]),
    )


def test_an_evaluation_that_is_left_early_leaves_nothing_behind(dataset: Dataset, tmp_path: Path) -> None:
    with contextlib.closing(EvaluationLoader(dataset, LoaderConfig(**config_of(tmp_path)), 1)) as loader:  # type: ignore[arg-type]
        batches = loader.batches(np.arange(70), 10)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        wait_until(lambda: loader._pool.lingering_bytes() == 0)
        assert loader._pool._queue == []


def test_an_evaluation_that_is_collected_as_garbage_under_the_lock_does_not_hang(
    dataset: Dataset, tmp_path: Path
) -> None:
    with contextlib.closing(EvaluationLoader(dataset, LoaderConfig(**config_of(tmp_path)), 1)) as loader:  # type: ignore[arg-type]
        batches = loader.batches(np.arange(70), 10)
        next(batches)
        with loader._pool._lock:
            del batches
        assert loader._pool._queue == []


def test_evaluation_waits_no_longer_than_its_deadline(dataset: Dataset, tmp_path: Path) -> None:
    config = LoaderConfig(**config_of(tmp_path, load_deadline_seconds=0.3))  # type: ignore[arg-type]
    with (
        contextlib.closing(EvaluationLoader(dataset, config, 1)) as loader,
        block_locked(dataset, tmp_path, 2),
        pytest.raises(DeadlineError, match=r"a batch is not there after 0\.3 s"),
    ):
        next(loader.batches(np.array([12]), 1))
