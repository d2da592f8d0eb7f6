"""Laws of a dataset behind S3: fetched once per node, right whatever the store answers, read on after keys expire."""

import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sunspark import storage
from sunspark.data.codec import encode_jpeg
from sunspark.data.containers import read_images, read_in_order
from sunspark.data.dataset import Dataset
from sunspark.data.kept_archive import close_kept
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.data.sources import ListedImage, Scan, list_source
from sunspark.data.sources.archive import scan_archive
from sunspark.data.writer import write_dataset
from sunspark.errors import SilentStoreError, StorageError
from sunspark.storage import filesystem, retrying
from sunspark.storage.filesystem import forget_clients
from tests.data.source_kinds import images, make, write_tar
from tests.failing_s3 import S3Server, serve

NUM_IMAGES = 120


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Noise in 15 blocks."""
    folder = tmp_path_factory.mktemp("bucket")
    samples = [(f"{n}.jpg", n % 3, ["train"], jpeg_of(n)) for n in range(NUM_IMAGES)]
    return write_dataset(str(folder / "dataset"), samples, classes=["a", "b", "c"], block_size=8)


def jpeg_of(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return encode_jpeg(pixels)


@pytest.fixture
def server(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Serves the dataset; the environment holds a key that it accepts, and no other way to find one."""
    for name, value in {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_clients()
    with serve(Path(dataset.uri).parent) as server:
        yield server
    forget_clients()


def batches(dataset: Dataset, cache: Path, num_epochs: int = 2) -> list[bytes]:
    """Ids, labels and pixels of every step."""
    plan = StepPlan(
        dataset_id=dataset.id,
        split="train",
        seed=0,
        num_samples=NUM_IMAGES,
        global_batch_size=16,
        num_epochs=num_epochs,
        num_replicas=1,
    )
    loader = Loader(dataset, plan, LoaderConfig(image_size=16, cache_directory=str(cache)), num_threads=2)
    try:
        taken = [loader.take(step, range(1))[0] for step in range(plan.num_steps)]
    finally:
        loader.close()
    return [batch.sample_ids.tobytes() + batch.labels.tobytes() + batch.pixels.tobytes() for batch in taken]


_LOAD = """
    import sys
    from pathlib import Path
    from sunspark.data.dataset import Dataset
    from tests.data.test_s3 import batches
    print(len(batches(Dataset.open(sys.argv[1]), Path(sys.argv[2]))))
"""


def test_each_byte_is_fetched_once_per_node_however_many_workers(
    dataset: Dataset, server: S3Server, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_LOAD), server.uri("dataset"), str(tmp_path)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [worker.communicate(timeout=100)[0] for worker in workers] == ["16\n"] * 3
    blocks = {f"dataset/{block['name']}": block["size_bytes"] for block in dataset.manifest["blocks"]}
    assert {path: count for path, count in server.sent_bytes.items() if path in blocks} == blocks


@pytest.mark.parametrize("failing_share", [0.05, 0.3])
def test_whatever_the_store_answers_no_batch_is_wrong(
    failing_share: float, dataset: Dataset, server: S3Server, tmp_path: Path
) -> None:
    expected = batches(dataset, tmp_path / "local", num_epochs=1)
    server.failing_share = failing_share
    for attempt in range(20):  # as many runs on new nodes as it takes to have seen each failure
        opened = Dataset.open(server.uri("dataset"))
        assert batches(opened, tmp_path / f"cache-{attempt}", num_epochs=1) == expected
        if min(server.answers[kind] for kind in ("503", "cut", "reset")) >= 2:
            return
    pytest.fail(f"{server.answers}: too few requests failed")


def test_credentials_that_expire_are_read_again(
    dataset: Dataset, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts new ones into the file of the profile; the SDK itself looks there at intervals of minutes."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))

    def renew(key: str) -> None:
        profile.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    renew("a-key")
    opened = Dataset.open(server.uri("dataset"))
    assert opened.read_block(0).images == dataset.read_block(0).images
    server.keys = {"b-key"}
    with pytest.raises(StorageError, match=r"block-000001.*credentials"):
        opened.read_block(1)
    assert server.answers["expired"] > 1
    renew("b-key")
    assert opened.read_block(1).images == dataset.read_block(1).images
    server.keys = {"c-key"}
    renew("c-key")
    assert batches(opened, tmp_path / "cache", num_epochs=1) == batches(dataset, tmp_path / "local", num_epochs=1)


@pytest.mark.parametrize("path", ["dataset/manifest.json", "dataset/data", "dataset/data/"])
def test_a_file_or_folder_is_named_without_the_options_of_its_uri(server: S3Server, path: str) -> None:
    entry = storage.entry_at(server.uri(path))
    assert entry is not None
    assert entry.name == path.rstrip("/").rpartition("/")[2]
    assert entry.is_file == path.endswith(".json")


def test_a_store_that_falls_silent_is_named_after_a_while(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is asked; with shorter times than a store is given."""
    monkeypatch.setattr(filesystem, "_MOST_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(filesystem, "_REPETITIONS", 1)
    monkeypatch.setattr(retrying, "_PATIENCE_SECONDS", 2.0)
    uri = server.uri("dataset/manifest.json")
    with storage.open_random_access(uri) as file:
        server.may_answer.clear()
        for ask in (lambda: storage.exists(uri), lambda: storage.read_bytes(uri), lambda: file.read(10)):
            started = time.monotonic()
            with pytest.raises(
                SilentStoreError,
                match=rf":{server.server_port}.*does not answer, asked \d times? in \d+ s .* check that it runs",
            ):
                ask()
            assert time.monotonic() - started < 20
        server.may_answer.set()
        assert file.read(10) == storage.read_bytes(uri)[:10]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet", "csv"])
def test_a_store_that_falls_silent_while_a_source_is_listed_or_read_is_named(
    kind: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever library reads the source: it is not the source that is damaged."""
    monkeypatch.setattr(filesystem, "_MOST_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(filesystem, "_REPETITIONS", 0)
    monkeypatch.setattr(retrying, "_LEAST_TRIES", 1)
    monkeypatch.setattr(retrying, "_PATIENCE_SECONDS", -1.0)
    folder = server.folder / kind
    made = make(kind, folder, images(8))
    uri = server.uri(str(Path(made.source).relative_to(server.folder)))

    def read() -> None:
        listing = list_source(uri)
        by_place = sorted(listing.images, key=lambda image: image.position)
        for _ in read_in_order(by_place, by_place[0].container.seek_index) if kind != "csv" else read_images(by_place):
            pass

    before = sum(server.answers.values())
    read()
    num_requests = sum(server.answers.values()) - before
    for answered in {num_requests // 4, num_requests // 2, num_requests - 1}:
        forget_clients()
        close_kept()
        server.requests_before_silence = answered
        with pytest.raises(SilentStoreError, match="the store does not answer"):
            read()
        server.may_answer.set()


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("num_threads", [1, 2, 8])
def test_an_archive_is_fetched_once_in_few_requests(kind: str, num_threads: int, server: S3Server) -> None:
    """One for each 4 MiB, however many threads decompress; of 2 MiB for images: two at their ends, and the head."""
    rng = random.Random(0)
    name = f"large-{num_threads}.{kind}"
    bodies = {f"SUN/a/{number:03d}.jpg": rng.randbytes(250_000) for number in range(240)}
    write_tar(server.folder / name, bodies)
    size_bytes = (server.folder / name).stat().st_size
    num_blocks = -(-size_bytes // (4 * 2**20))
    uri = server.uri(name)
    archive = scan_archive(uri, Scan(size_bytes=size_bytes), lambda *_: None, num_threads)
    assert num_blocks - 1 <= server.answers["file"] <= 1.2 * num_blocks
    assert 0.9 * size_bytes <= server.sent_bytes[name] <= 1.2 * size_bytes
    if kind == "tar":
        return
    server.answers.clear()
    server.sent_bytes.clear()
    images = [
        ListedImage(
            path=one.path,
            label=0,
            splits=0,
            size_bytes=one.size_bytes,
            container=archive.container,
            position=one.offset,
        )
        for one in archive.members.values()
    ]
    read: dict[str, object] = {}
    for start in range(0, len(images), 80):
        close_kept()  # as for another process
        piece = images[start : start + 80]
        read |= {image.path: body for image, body in read_in_order(piece, archive.container.seek_index)}
    close_kept()
    assert read == bodies
    assert server.answers["file"] <= 2 * num_blocks + 3 * 3
    assert server.sent_bytes[name] <= size_bytes + 3 * 3 * 2 * 2**20


def test_a_store_that_is_busy_for_a_while_is_waited_for(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_LONGEST_PAUSE_SECONDS", 0.2)
    uri = server.uri("dataset/manifest.json")
    with storage.open_random_access(uri) as file:
        for ask in (lambda: storage.exists(uri), lambda: storage.read_bytes(uri), lambda: file.read(10)):
            server.busy_requests = 30
            assert ask()
            assert server.busy_requests == 0
    server.busy_requests = 30
    assert len(storage.list_tree(server.uri("dataset"))) > 3


def test_a_file_whose_name_has_a_question_mark_is_read(server: S3Server) -> None:
    names = ["a/so?x=1", "a/what?", "a/what?.jpg", "b?/1.jpg"]
    for name in names:
        path = server.folder / "questions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    files = [entry for entry in storage.list_tree(server.uri("questions")) if entry.is_file]
    assert [entry.name for entry in files] == names
    for entry in files:
        assert storage.read_bytes(entry.uri).decode() == entry.name
        assert storage.exists(entry.uri)
        assert storage.read_bytes(storage.beside(server.uri("questions"), entry.name)).decode() == entry.name


def test_what_is_not_there_is_said_at_once(server: S3Server) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        storage.read_bytes(server.uri("nothing.json"))
    assert server.answers["missing"] <= 2
    assert not storage.exists(server.uri("nothing.json"))
