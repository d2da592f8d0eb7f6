"""Laws of the node's cache: what was stored comes back, though writers die, blobs rot and disks are full."""

import dataclasses
import errno
import fcntl
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

import sunspark
from sunspark.data import cache as cache_module
from sunspark.data.blob import Sample
from sunspark.data.cache import NodeCache
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.scenes import draw_scenes
from sunspark.data.writer import write_dataset
from sunspark.errors import ConfigError, DeadlineError, StorageError

PLENTY = 2**30
BLOCK_SIZE = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"), seed=0)


def make_dataset(directory: Path, seed: int) -> Dataset:
    """25 images of noise in 7 blocks."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (25, 40, 50, 3), dtype=np.uint8)
    samples = [
        (f"class_{number % 3}/{number}.jpg", number % 3, ["train"], simplejpeg.encode_jpeg(image))
        for number, image in enumerate(images)
    ]
    return write_dataset(str(directory), samples, classes=["a", "b", "c"], block_size=BLOCK_SIZE)


def stored(dataset: Dataset) -> list[Sample]:
    """Every sample, read past the cache."""
    blocks = [dataset.read_block(block) for block in range(dataset.num_blocks)]
    return [
        Sample(int(sample_id), int(label), jpeg)
        for block in blocks
        for sample_id, label, jpeg in zip(block.sample_ids, block.labels, block.images, strict=True)
    ]


def everything(cache: NodeCache) -> list[Sample]:
    return [cache.sample(row) for row in range(25)]


def blobs(cache: NodeCache, kind: str = "blob") -> list[Path]:
    return sorted(cache.directory.glob(f"*.{kind}"))


def used_bytes(cache: NodeCache) -> int:
    """Bytes of all blobs, those that are being written included, while nobody adds or removes one."""
    with cache._room():
        return sum(entry.size_bytes for entry in cache._entries())


def full_cache(dataset: Dataset, directory: Path) -> NodeCache:
    """A cache that holds all blocks."""
    cache = NodeCache(dataset, str(directory), PLENTY)
    everything(cache)
    return cache


def block_bytes(dataset: Dataset, directory: Path) -> int:
    """Size of the largest blob."""
    return max(path.stat().st_size for path in blobs(full_cache(dataset, directory)))


@pytest.fixture
def other_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs, and ends those that are left."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=20)


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.01)


def test_what_was_stored_comes_back_and_each_block_is_fetched_once(dataset: Dataset, tmp_path: Path) -> None:
    expected = stored(dataset)
    mine = dataclasses.replace(dataset, uri=str(shutil.copytree(dataset.uri, tmp_path / "copy")))
    assert everything(NodeCache(mine, str(tmp_path), PLENTY)) == expected
    shutil.rmtree(mine.uri)
    assert everything(NodeCache(mine, str(tmp_path), PLENTY)) == expected


def test_identity_comes_from_what_was_stored_and_not_from_the_index(dataset: Dataset, tmp_path: Path) -> None:
    lying = dataclasses.replace(dataset, labels=dataset.labels + 1, sample_ids=dataset.sample_ids + np.uint64(1))
    assert everything(NodeCache(lying, str(tmp_path), PLENTY)) == stored(dataset)


def test_a_cached_sample_is_there_only_after_its_block_was_fetched(dataset: Dataset, tmp_path: Path) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    assert cache.cached_sample(5) is None
    cache.sample(4)
    assert cache.cached_sample(5) == stored(dataset)[5]
    assert cache.cached_sample(8) is None


def test_datasets_that_share_a_directory_do_not_mix(dataset: Dataset, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", seed=1)
    for each in (dataset, other, dataset):
        assert everything(NodeCache(each, str(tmp_path / "cache"), PLENTY)) == stored(each)


def test_equal_datasets_whose_blocks_begin_elsewhere_do_not_mix(tmp_path: Path) -> None:
    """As when a bad file was taken out of the source: the same samples, and so the same id, in other blocks."""
    source = tmp_path / "source"
    draw_scenes(str(source), num_classes=2, images_per_class=20)
    config = IngestConfig(launcher="local", short_side=32, block_size=5, test_fraction=0.0, max_bad_fraction=1.0)
    whole = sunspark.ingest(str(source), str(tmp_path / "whole"), config).dataset
    class_folder = next(source.iterdir())
    for number in range(4):
        (class_folder / f"bad-{number}.jpg").write_bytes(b"no image")
    shifted = sunspark.ingest(str(source), str(tmp_path / "shifted"), config).dataset
    one, other = Dataset.open(whole), Dataset.open(shifted)
    assert one.id == other.id
    starts = [[each.block_rows(block).start for block in range(each.num_blocks)] for each in (one, other)]
    assert starts[0] != starts[1]
    for each in (one, other, one):
        cache = NodeCache(each, str(tmp_path / "cache"), PLENTY)
        assert [cache.sample(row).sample_id for row in range(len(each))] == each.sample_ids.tolist()


READS_EVERYTHING = """
    import sys
    from sunspark.data.cache import NodeCache
    from sunspark.data.dataset import Dataset
    uri, directory, log = sys.argv[1:]
    read_block = Dataset.read_block
    def logged(self, block):
        with open(log, "a") as file:
            file.write(f"{block}\\n")
        return read_block(self, block)
    Dataset.read_block = logged
    cache = NodeCache(Dataset.open(uri), directory, 2**30)
    print(sum(cache.sample(row).sample_id for row in range(25)))
"""


def test_processes_share_one_copy(
    dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    log = tmp_path / "fetched"
    readers = [other_process(READS_EVERYTHING, dataset.uri, tmp_path / "cache", log) for _ in range(3)]
    answers = {int(reader.communicate(timeout=60)[0]) for reader in readers}
    assert answers == {sum(sample.sample_id for sample in stored(dataset))}
    assert sorted(map(int, log.read_text().split())) == list(range(dataset.num_blocks))


def test_threads_share_one_copy(dataset: Dataset, tmp_path: Path) -> None:
    cache, expected = NodeCache(dataset, str(tmp_path), PLENTY), stored(dataset)
    rows = [row for row in range(25) for _ in range(8)]
    random.Random(0).shuffle(rows)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(cache.sample, rows)) == [expected[row] for row in rows]
    assert len(blobs(cache)) == dataset.num_blocks


STOPS_WHILE_WRITING = """
    import sys, time
    from sunspark.data import cache
    from sunspark.data.cache import NodeCache
    from sunspark.data.dataset import Dataset
    cache.blob_parts = lambda content, key: iter(lambda: time.sleep(60), b"")
    uri, directory, row = sys.argv[1:]
    NodeCache(Dataset.open(uri), directory, 2**30).sample(int(row))
"""


@pytest.mark.parametrize("row", [0, 24])
def test_a_killed_writer_leaves_nothing_that_harms(
    row: int, dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    writer = other_process(STOPS_WHILE_WRITING, dataset.uri, tmp_path, row)
    wait_until(lambda: blobs(cache, "part"))
    with pytest.raises(DeadlineError):
        NodeCache(dataset, str(tmp_path), PLENTY, lock_deadline_seconds=0.2).sample(row)
    writer.send_signal(signal.SIGKILL)
    writer.wait(timeout=20)
    leftover = blobs(cache, "part")
    assert used_bytes(cache) == sum(path.stat().st_size for path in leftover) > 0
    assert cache.sample(24 - row) == stored(dataset)[24 - row]
    assert not blobs(cache, "part"), "another block's writer tidies up"
    assert everything(cache) == stored(dataset)
    assert len(blobs(cache)) == dataset.num_blocks


def test_a_part_that_is_being_written_is_left_alone(
    dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    other_process(STOPS_WHILE_WRITING, dataset.uri, tmp_path, 0)
    wait_until(lambda: blobs(cache, "part"))
    cache.sample(24)
    assert len(blobs(cache, "part")) == 1


READS_FOR_EVER = """
    import random, sys
    from sunspark.data.cache import NodeCache
    from sunspark.data.dataset import Dataset
    uri, directory, capacity, seed = sys.argv[1:]
    dataset, draw = Dataset.open(uri), random.Random(seed)
    cache = NodeCache(dataset, directory, int(capacity))
    blocks = [dataset.read_block(block) for block in range(dataset.num_blocks)]
    truth = [pair for block in blocks for pair in zip(block.sample_ids.tolist(), block.images)]
    print("reading", flush=True)
    while True:
        row = draw.randrange(25)
        sample = cache.sample(row)
        assert (sample.sample_id, sample.jpeg) == truth[row], row
        with cache._room():
            assert sum(entry.size_bytes for entry in cache._entries()) <= int(capacity)
"""


def test_processes_killed_at_random_harm_nobody_and_the_capacity_holds(
    dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    capacity = int(3.2 * block_bytes(dataset, tmp_path / "size"))
    survivor, *victims = [
        other_process(READS_FOR_EVER, dataset.uri, tmp_path / "cache", capacity, draw.random()) for _ in range(4)
    ]
    for victim in victims:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "reading\n"
        time.sleep(draw.uniform(0.0, 0.5))
        victim.kill()
        victim.wait(timeout=20)
    cache = NodeCache(dataset, str(tmp_path / "cache"), capacity)
    assert everything(cache) == stored(dataset)
    assert survivor.poll() is None, "the one that was not killed reads on"
    assert used_bytes(cache) <= capacity


def flip_byte(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: flip_byte(path, 0),
        lambda path: flip_byte(path, 30),
        lambda path: flip_byte(path, 80),
        lambda path: flip_byte(path, -1),
        lambda path: shutil.copy(path.with_name("block-00000002.blob"), path),
    ],
    ids=["empty", "short", "long", "zeroed", "magic", "header", "table", "image", "another block"],
)
@pytest.mark.parametrize("opened", [False, True], ids=["closed", "open"])
def test_a_damaged_blob_is_fetched_again(
    damage: Callable[[Path], object], opened: bool, dataset: Dataset, tmp_path: Path
) -> None:
    first = NodeCache(dataset, str(tmp_path), PLENTY)
    everything(first)
    path = blobs(first)[1]
    whole = path.read_bytes()
    damage(path)
    cache = first if opened else NodeCache(dataset, str(tmp_path), PLENTY)
    assert cache.cached_sample(7) in (None, stored(dataset)[7])
    assert everything(cache) == stored(dataset)
    assert everything(NodeCache(dataset, str(tmp_path), PLENTY)) == stored(dataset)
    assert path.read_bytes() == whole


def test_a_blob_of_a_changed_dataset_is_not_taken(dataset: Dataset, tmp_path: Path) -> None:
    """Block 1 of another dataset of the same shape, under this one's name."""
    other = NodeCache(make_dataset(tmp_path / "other", seed=1), str(tmp_path), PLENTY)
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    everything(other)
    shutil.copytree(other.directory, cache.directory, dirs_exist_ok=True)
    assert everything(cache) == stored(dataset)


def test_the_capacity_holds_and_samples_stay_right(dataset: Dataset, tmp_path: Path) -> None:
    capacity = int(2.5 * block_bytes(dataset, tmp_path / "size"))
    caches = [NodeCache(dataset, str(tmp_path / "cache"), capacity) for _ in range(2)]
    expected, used, done = stored(dataset), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            used.append(used_bytes(caches[0]))

    def read(number: int) -> bool:
        row = random.Random(number).randrange(25)
        return caches[number % 2].sample(row) == expected[row]

    with ThreadPoolExecutor(5) as pool:
        watcher = pool.submit(watch)
        right = list(pool.map(read, range(200)))
        done.set()
        watcher.result(timeout=20)
    assert all(right)
    assert 0 < max(used) <= capacity


def test_what_fits_as_a_whole_is_pinned(
    dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    size_bytes = sum(path.stat().st_size for path in blobs(full_cache(dataset, tmp_path / "size")))
    readers = [other_process(READS_FOR_EVER, dataset.uri, tmp_path / "cache", size_bytes, seed) for seed in range(2)]
    cache = NodeCache(dataset, str(tmp_path / "cache"), size_bytes)
    assert everything(cache) == stored(dataset)
    inodes = [path.stat().st_ino for path in blobs(cache)]
    assert len(inodes) == dataset.num_blocks
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
    time.sleep(0.5)
    assert [reader.poll() for reader in readers] == [None, None]
    assert [path.stat().st_ino for path in blobs(cache)] == inodes, "a blob was removed and fetched again"


def test_the_least_recently_used_block_goes_first(dataset: Dataset, tmp_path: Path) -> None:
    capacity = int(2.5 * block_bytes(dataset, tmp_path / "size"))
    for block in (0, 1, 0, 2):  # each by a process of its own, as far as the cache can see
        cache = NodeCache(dataset, str(tmp_path / "cache"), capacity)
        cache.sample(block * BLOCK_SIZE)
        time.sleep(0.02)
    assert [path.name for path in blobs(cache)] == ["block-00000000.blob", "block-00000002.blob"]


def test_a_blob_that_is_removed_while_it_is_read_can_be_read_to_the_end(dataset: Dataset, tmp_path: Path) -> None:
    reader, expected = NodeCache(dataset, str(tmp_path), PLENTY), stored(dataset)
    everything(reader)
    size = max(path.stat().st_size for path in blobs(reader))
    NodeCache(dataset, str(tmp_path), size + 100).sample(0)  # already there: nothing has to go
    assert len(blobs(reader)) == dataset.num_blocks
    for path in blobs(reader):
        path.unlink()
    assert [reader.cached_sample(row) for row in range(25)] == expected
    assert everything(reader) == expected


def test_a_small_capacity_is_announced(dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    NodeCache(dataset, str(tmp_path), 1000)
    assert "raise cache_bytes to at least" in caplog.text


def test_a_block_larger_than_the_capacity_is_read_through(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = NodeCache(dataset, str(tmp_path), 1000)
    assert everything(cache) == stored(dataset)
    assert used_bytes(cache) == 0
    assert len([record for record in caplog.records if "without keeping it" in record.message]) == 1


WRITES_ON_A_FULL_DISK = """
    import logging, resource, sys
    from sunspark.data.cache import NodeCache
    from sunspark.data.dataset import Dataset
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    uri, directory = sys.argv[1:]
    cache = NodeCache(Dataset.open(uri), directory, 2**30)
    cache.sample(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # every write beyond fails
    print("sum", sum(cache.sample(row).sample_id for row in range(25)))
"""


def test_without_space_it_warns_once_and_reads_on(
    dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    process = other_process(WRITES_ON_A_FULL_DISK, dataset.uri, tmp_path)
    output = process.communicate(timeout=60)[0].splitlines()
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    assert output[-1] == f"sum {sum(sample.sample_id for sample in stored(dataset))}"
    assert [line for line in output if "without keeping it" in line and "free some space" in line] == output[:-1]
    assert [path.name for path in blobs(cache)] == ["block-00000000.blob"]
    assert not blobs(cache, "part")


READS_ON_A_SMALL_DISK = """
    import logging, sys
    from sunspark.data.cache import NodeCache
    from sunspark.data.dataset import Dataset
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    cache = NodeCache(Dataset.open(sys.argv[1]), sys.argv[2], 2**30)
    for _ in range(3):
        print("sum", sum(cache.sample(row).sample_id for row in range(25)))
"""


def test_a_disk_that_is_really_full_turns_the_cache_off_with_a_warning(
    dataset: Dataset, small_disk: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    readers = [other_process(READS_ON_A_SMALL_DISK, dataset.uri, small_disk) for _ in range(2)]
    total = f"sum {sum(sample.sample_id for sample in stored(dataset))}"
    for reader in readers:
        output = reader.communicate(timeout=60)[0].splitlines()
        assert [line for line in output if line.startswith("sum")] == [total] * 3
        assert len([line for line in output if "without keeping it" in line and "free some space" in line]) == 1
    cache = NodeCache(dataset, str(small_disk), PLENTY)
    assert 0 < len(blobs(cache)) < dataset.num_blocks
    assert not blobs(cache, "part")
    free_bytes = shutil.disk_usage(small_disk).free
    assert free_bytes < blobs(cache)[0].stat().st_size, "there was room for another"


STARTS_ON_A_FULL_DISK = """
    import logging, resource, sys
    from pathlib import Path
    from sunspark.data.cache import NodeCache
    from sunspark.data.dataset import Dataset
    from sunspark.data.in_hand import InHand
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write fails
    cache = NodeCache(Dataset.open(sys.argv[1]), None, 2**30)
    with InHand(cache.directory / "table").hold(0):
        print("sum", sum(cache.sample(row).sample_id for row in range(25)))
    print(cache.directory.parent.parent)
"""


def test_a_process_that_starts_on_a_full_disk_reads_all_the_same(
    dataset: Dataset,
    tmp_path: Path,
    other_process: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = other_process(STARTS_ON_A_FULL_DISK, dataset.uri)
    *warnings, total, folder = process.communicate(timeout=60)[0].splitlines()
    assert total == f"sum {sum(sample.sample_id for sample in stored(dataset))}"
    assert folder == str(tmp_path)
    assert [line for line in warnings if "without keeping it" in line]
    assert [line for line in warnings if "will not be found" in line]


HOLDS_A_LOCK = """
    import sys, time
    from pathlib import Path
    from sunspark.data.locks import try_lock
    assert try_lock(Path(sys.argv[1])) is not None
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_that_is_not_released_is_waited_for_no_longer_than_its_deadline(
    dataset: Dataset, tmp_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY, lock_deadline_seconds=0.3)
    holder = other_process(HOLDS_A_LOCK, cache.directory / "locks" / "block-02")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    began_at = time.monotonic()
    with pytest.raises(DeadlineError, match=rf"waited 0\.3 s .*held by process {holder.pid} on "):
        cache.sample(2 * BLOCK_SIZE)
    assert 0.3 <= time.monotonic() - began_at < 10
    holder.kill()
    holder.wait(timeout=20)
    assert everything(cache) == stored(dataset)


def test_a_block_is_used_where_another_process_keeps_it_from_the_disk(
    dataset: Dataset,
    tmp_path: Path,
    other_process: Callable[..., subprocess.Popen[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY, lock_deadline_seconds=0.3)
    holder = other_process(HOLDS_A_LOCK, cache.directory / "locks" / "room")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert everything(cache) == stored(dataset)
    assert "without keeping it on local disk, which is slow: waited 0.3 s" in caplog.text
    assert f"held by process {holder.pid} on " in caplog.text


def test_an_image_that_the_disk_does_not_give_back_is_fetched_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    assert everything(cache) == stored(dataset)
    honest = os.pread

    def bad_sector(*_: int) -> bytes:
        monkeypatch.setattr(os, "pread", honest)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", bad_sector)
    assert everything(cache) == stored(dataset)


def test_closing_ends_the_wait_for_a_lock(dataset: Dataset, tmp_path: Path) -> None:
    cache = NodeCache(dataset, str(tmp_path), PLENTY)
    with open(cache.directory / "locks" / "block-00", "w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pool.submit(cache.sample, 0)
        time.sleep(0.1)
        cache.close()
        with pytest.raises(StorageError, match="closed while waiting for block 0"):
            waiting.result(timeout=20)


def test_open_files_are_bounded(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_MAX_OPEN_BLOBS", 2)
    cache, expected = NodeCache(dataset, str(tmp_path), PLENTY), stored(dataset)

    def num_open() -> int:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(link).endswith(".blob") for link in links)

    rows = [random.Random(0).randrange(25) for _ in range(300)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(cache.sample, rows)) == [expected[row] for row in rows]
    assert num_open() <= 2
    cache.close()
    assert num_open() == 0


def test_a_directory_that_somebody_removed_is_made_again(dataset: Dataset, tmp_path: Path) -> None:
    cache = NodeCache(dataset, str(tmp_path / "cache"), PLENTY)
    cache.sample(0)
    shutil.rmtree(tmp_path / "cache")
    assert everything(cache) == stored(dataset)
    assert len(blobs(cache)) >= dataset.num_blocks - 1


def test_by_default_every_user_has_a_directory_that_nobody_else_can_enter(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"sunspark-{os.geteuid()}").mkdir(mode=0o777)
    cache = NodeCache(dataset, None, PLENTY)
    assert cache.directory.parent == tmp_path / f"sunspark-{os.geteuid()}"
    for path in (cache.directory, cache.directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    cache.sample(0)
    assert stat.S_IMODE(blobs(cache)[0].stat().st_mode) == 0o600


def test_a_directory_behind_a_link_is_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "trap").mkdir()
    (tmp_path / f"sunspark-{os.geteuid()}").symlink_to(tmp_path / "trap")
    with pytest.raises(ConfigError, match="is a link"):
        NodeCache(dataset, None, PLENTY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that belongs to another user")
def test_a_directory_of_another_user_is_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "sunspark-0").mkdir()
    os.chown(tmp_path / "sunspark-0", 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        NodeCache(dataset, None, PLENTY)


def test_a_file_in_the_place_of_the_directory_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another cache_directory"):
        NodeCache(dataset, str(tmp_path / "file"), PLENTY)
