"""Laws of storage: what is written is there whole or not at all; failures name the URI and the remedy."""

import contextlib
import errno
import io
import os
import re
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from sunspark import storage
from sunspark.errors import ConfigError, FullDiskError, PathError, SilentStoreError, StorageError, UserError
from sunspark.storage import filesystem, retrying, writing
from sunspark.storage.endpoint import refuse_silent_endpoint
from sunspark.storage.reading import ranges_of
from sunspark.storage.retrying import retried
from sunspark.storage.unique_names import final_name, temporary_name
from tests.deep_folder import LEVELS, deep_folder


@pytest.mark.parametrize(
    ("uri", "parts", "joined"),
    [
        ("/data", ("a", "b.txt"), "/data/a/b.txt"),
        ("/data/", ("/a/",), "/data/a"),
        ("relative", ("a",), "relative/a"),
        ("s3://bucket", ("a",), "s3://bucket/a"),
        ("s3://bucket/x?endpoint_override=h:9000", ("a", "b"), "s3://bucket/x/a/b?endpoint_override=h:9000"),
        ("/what?", ("a",), "/what?/a"),
        ("s3://bucket/what?", ("a",), "s3://bucket/what/a?"),
        ("s3://bucket", ("what?.jpg",), "s3://bucket/what?.jpg"),
        ("s3://bucket", ("so?", "x=1"), "s3://bucket/so?/x=1"),
        ("s3://bucket", ("so?x=1",), "s3://bucket/so?x=1?"),
        ("s3://bucket?region=r", ("so?x=1",), "s3://bucket/so?x=1?region=r"),
    ],
)
def test_join_goes_below_and_keeps_options_at_the_end(uri: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(uri, *parts) == joined


@pytest.mark.parametrize("name", ["what?.jpg", "what?", "so?x=1", "?", "a?b?c=d.jpg"])
@pytest.mark.parametrize("folder", ["s3://bucket/x", "s3://bucket/x?region=r&scheme=http", "gs://bucket/x"])
def test_a_question_mark_in_a_name_is_no_end_of_it(folder: str, name: str) -> None:
    uri = storage.join(folder, name)
    assert storage.name_of(uri) == name
    assert storage.join(storage.parent(uri), name) == uri
    assert storage.beside(storage.parent(uri), name) == uri
    assert storage.name_of(storage.with_endpoint(storage.join("s3://bucket", name), "http://minio:9000")) == name


def test_file_uris_and_plain_paths_are_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "with space and #"
    storage.write_bytes_atomic(str(folder / "a"), b"1")
    assert storage.read_bytes((folder / "a").as_uri()) == b"1"
    assert storage.as_local_path((folder / "a").as_uri()) == folder / "a"
    assert storage.as_local_path("s3://bucket/a") is None


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_bytes("here/a", b"1")
    assert storage.absolute("here/a") == str(tmp_path / "here" / "a")
    assert storage.exists("here/a")
    assert storage.absolute("s3://bucket/a") == "s3://bucket/a"


def test_readers_see_the_old_or_the_new_file_never_a_part(tmp_path: Path) -> None:
    uri = str(tmp_path / "file")
    contents = [bytes([number]) * 300_000 for number in range(40)]
    storage.write_bytes_atomic(uri, contents[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(storage.read_bytes(uri))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for content in contents:
            storage.write_bytes_atomic(uri, content)
    finally:
        done.set()
        reader.join(timeout=30)
    assert seen
    assert set(seen) <= set(contents)
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(StorageError, match="taken"):
        storage.write_bytes_atomic(str(tmp_path / "taken"), b"1")
    assert os.listdir(tmp_path) == ["taken"]


def test_json_goes_round_and_damage_is_reported(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.json")
    value = {"b": [1, 2.5, None], "a": "ü"}
    storage.write_json_atomic(uri, value)
    assert storage.read_json(uri) == value
    (tmp_path / "a.json").write_text('{"b": ')
    with pytest.raises(StorageError, match="is not JSON"):
        storage.read_json(uri)


def test_listings_are_sorted_and_a_missing_directory_is_empty(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    names = [(entry.name, entry.is_directory, entry.size_bytes) for entry in storage.list_directory(str(tmp_path))]
    assert names == [("a", False, 1), ("b", True, 0), ("c", True, 0)]
    tree = storage.list_tree(str(tmp_path))
    assert [entry.name for entry in tree] == ["a", "b", "b/1", "b/2", "c", "c/d", "c/d/e"]
    assert storage.read_bytes(tree[-1].uri) == b"c/d/e"
    assert storage.list_directory(str(tmp_path / "missing")) == []


def test_a_tree_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    with deep_folder(tmp_path) as path:
        tree = storage.list_tree(str(tmp_path))
        assert len(tree) == LEVELS + 1
        assert tree[-1].name == path
        assert storage.read_bytes(tree[-1].uri) == b"1"


def test_links_are_followed_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """So that of two to one folder it is always the same that names what is in it."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    storage.write_bytes(str(elsewhere / "1"), b"1")
    for place in ("b", "a/z", "a/b/c", "c"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(elsewhere)
    assert [entry.name for entry in storage.list_tree(str(root)) if entry.is_file] == ["a/b/c/1"]


def test_deleting_is_for_files_folders_and_nothing(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "folder" / "file"), b"1")
    storage.write_bytes(str(tmp_path / "file"), b"1")
    for name in ("folder", "file", "missing"):
        storage.delete(str(tmp_path / name))
    assert os.listdir(tmp_path) == []


def test_ranged_reads(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "file"), bytes(range(100)))
    with storage.open_random_access(str(tmp_path / "file")) as file:
        assert file.read_at(3, 50) == bytes([50, 51, 52])


def test_appending_keeps_what_is_there(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "records.jsonl")
    for line in ("first\n", "second\n"):
        with storage.append_text(uri) as stream:
            stream.write(line)
    assert storage.read_bytes(uri) == b"first\nsecond\n"


def test_object_stores_refuse_to_append() -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/a cannot be appended to.*use a local or hdfs"):
        storage.append_text("s3://bucket/a")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (storage.read_bytes, storage.open_random_access):
        with pytest.raises(StorageError, match=r"missing does not exist; check the path"):
            read(str(tmp_path / "missing"))


def test_an_unknown_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"ftp:// is not supported; use a local path or one of .*s3://"):
        storage.read_bytes("ftp://host/file")
    with pytest.raises(ConfigError, match="is empty"):
        storage.exists("")


def test_hdfs_without_libhdfs_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HADOOP_HOME", "ARROW_LIBHDFS_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageError, match=r"hdfs:// needs libhdfs, JAVA_HOME and CLASSPATH"):
        storage.read_bytes("hdfs://localhost:1/file")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be accessed .*check its owner and mode"),
        (errno.EPERM, "may not be accessed .*check its owner and mode"),
        (errno.EROFS, "a disk that may only be read; choose another path"),
        (errno.EEXIST, "a file where a folder is needed .*choose another path"),
        (errno.ENOTDIR, "a file where a folder is needed .*choose another path"),
        (errno.EISDIR, "a folder where a file is needed .*choose another path"),
    ],
)
def test_a_path_that_cannot_be_used_like_this_is_the_users_mistake(number: int, words: str) -> None:
    with pytest.raises(UserError, match=rf"^run.* {words}") as caught, storage.storage_errors("run"):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value, StorageError)
    assert caught.value.exit_code == 2


def test_a_file_where_a_folder_is_needed_is_refused_whoever_asks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file, inside = str(tmp_path / "file"), str(tmp_path / "file" / "inside")
    attempts = [
        lambda: storage.make_directory(file),
        lambda: storage.make_directory(inside),
        lambda: storage.list_directory(file),
        lambda: storage.write_bytes_atomic(inside, b""),
        lambda: storage.append_text(inside),
    ]
    for attempt in attempts:
        with pytest.raises(PathError, match=r"a file where a folder is needed .*; choose another path"):
            attempt()


def test_a_stream_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "table.csv")
    with storage.open_atomic(uri) as file:
        for _ in range(3):
            file.write(b"row\n")
        assert not storage.exists(uri)
    assert storage.read_bytes(uri) == b"row\n" * 3
    with contextlib.suppress(KeyboardInterrupt), storage.open_atomic(uri) as file:
        file.write(b"half a r")
        raise KeyboardInterrupt
    assert storage.read_bytes(uri) == b"row\n" * 3
    assert [entry.name for entry in storage.list_directory(str(tmp_path / "new"))] == ["table.csv"]


def test_a_disk_that_takes_no_more_is_an_error_of_storage_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: it, too, is met when what is held back is written."""

    def fill(error: Exception | None) -> None:
        with storage.open_atomic(str(tmp_path / "table.csv")) as file:
            file.write(bytes(101))
            if error:
                raise error

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"table\.csv: .*File too large"):
            fill(None)
        with pytest.raises(StorageError, match=r"^the first$"):
            fill(StorageError("the first"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_a_remedy(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (storage.write_bytes, storage.write_bytes_atomic):
        with pytest.raises(FullDiskError, match=rf"^{small_disk}/file: its disk is full \(.*No space left.* free some"):
            write(str(small_disk / "file"), bytes(2**20))
        (small_disk / "file").unlink(missing_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    uri = "s3://bucket/file"
    (small_disk / "other").write_bytes(bytes(65_536))
    for size_bytes in (100, 2**20):  # the first is held back until the end
        with (
            pytest.raises(FullDiskError, match=rf"^{small_disk}: its disk is full .* goes to {uri}; .*TMPDIR"),
            storage.open_atomic(uri) as file,
            storage.storage_errors(uri),
        ):
            file.write(bytes(size_bytes))
    assert [path.name for path in small_disk.iterdir()] == ["other"]


@pytest.mark.parametrize("error", [OSError("a bad sector"), KeyboardInterrupt()])
def test_an_object_is_not_left_half_when_reading_its_pieces_fails(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local folder stands for a bucket: there, too, to close a stream completes what it wrote."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise error

    monkeypatch.setattr(writing, "resolve", lambda _: (pafs.LocalFileSystem(), str(tmp_path / "table")))
    with pytest.raises(type(error)):
        writing._put("s3://bucket/table", pieces())
    assert list(tmp_path.iterdir()) == []
    writing._put("s3://bucket/table", [b"who", b"le"])
    assert (tmp_path / "table").read_bytes() == b"whole"


def test_an_object_stays_when_the_new_one_of_its_size_cannot_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unanswered(io.BytesIO):
        def __exit__(self, *_: object) -> None:
            raise OSError("503")

    class Store:
        """Takes what is written, and answers no more when it is to be completed."""

        def open_output_stream(self, _: str, **__: None) -> Unanswered:
            return Unanswered()

        def __getattr__(self, name: str) -> object:
            return getattr(pafs.LocalFileSystem(), name)

    (tmp_path / "table").write_bytes(b"old")
    monkeypatch.setattr(writing, "resolve", lambda _: (Store(), str(tmp_path / "table")))
    with pytest.raises(OSError, match="503"):
        writing._put("s3://bucket/table", [b"new"])
    assert (tmp_path / "table").read_bytes() == b"old"


def test_what_is_at_a_path_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    folder, file = storage.entry_at(str(tmp_path)), storage.entry_at(str(tmp_path / "file"))
    assert folder is not None
    assert file is not None
    assert (folder.is_directory, folder.is_file, file.is_directory, file.is_file) == (True, False, False, True)
    assert (file.name, file.size_bytes) == ("file", 3)
    assert storage.entry_at(str(tmp_path / "nothing")) is None


def test_a_lock_has_one_holder_and_leaves_nothing_behind(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    for folder in (new, old):
        with storage.only_holder(str(folder), ".lock", UserError("held")):
            assert storage.is_held(str(folder), ".lock")
            with pytest.raises(UserError, match="held"), storage.only_holder(str(folder), ".lock", UserError("held")):
                pass
            assert (folder / ".lock").exists()
        assert not storage.is_held(str(folder), ".lock")
    assert os.listdir(tmp_path) == ["old"]
    assert os.listdir(old) == []
    with contextlib.suppress(ConfigError), storage.only_holder(str(new), ".lock", UserError("held")):
        (new / "work").touch()
        raise ConfigError("refused")
    assert os.listdir(new) == ["work"]


def test_a_lock_of_somebody_killed_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    assert not storage.is_held(str(tmp_path), ".lock")
    with storage.only_holder(str(tmp_path), ".lock", UserError("held")):
        assert storage.is_held(str(tmp_path), ".lock")


def test_of_many_who_come_and_go_one_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    inside, most, taken = [0], [0], [0]

    def come_and_go() -> None:
        for _ in range(50):
            with contextlib.suppress(UserError), storage.only_holder(str(tmp_path), ".lock", UserError("held")):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                taken[0] += 1
                inside[0] -= 1
            storage.is_held(str(tmp_path), ".lock")

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert taken[0] >= 50


def test_local_names_that_are_no_utf8_are_written_in_letters(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"1")
    (directory,) = storage.list_directory(str(tmp_path))
    assert (directory.name, directory.uri) == (r"caf\xe9", rf"{tmp_path}/caf\xe9")
    assert [entry.name for entry in storage.list_tree(str(tmp_path))] == [r"caf\xe9", r"caf\xe9/\xff.jpg"]
    uri = storage.join(directory.uri, r"\xff.jpg")
    entry = storage.entry_at(uri)
    assert entry is not None
    assert (entry.name, entry.size_bytes) == (r"\xff.jpg", 1)
    assert storage.read_bytes(uri) == b"1"
    assert storage.absolute(os.fsdecode(folder)) == directory.uri
    storage.write_bytes_atomic(uri, b"22")
    assert Path(os.fsdecode(folder + b"/\xff.jpg")).read_bytes() == b"22"
    storage.delete(directory.uri)
    assert not list(tmp_path.iterdir())


def test_links_in_a_path_are_followed_also_where_nothing_is_at_its_end(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path.resolve()) + b"/caf\xe9"
    os.mkdir(folder)
    (tmp_path / "link").symlink_to(os.fsdecode(folder))
    (tmp_path / "circle").symlink_to("circle")
    assert storage.without_links(f"{tmp_path}/link/new/file") == rf"{tmp_path.resolve()}/caf\xe9/new/file"
    assert storage.without_links(f"file://{tmp_path}/link") == rf"{tmp_path.resolve()}/caf\xe9"
    assert storage.without_links(f"{tmp_path}/circle").endswith("/circle")
    assert storage.without_links("s3://bucket/link") == "s3://bucket/link"


def test_links_that_lead_nowhere_or_in_a_circle_are_listed_as_files(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    found = {entry.name: (entry.is_file, entry.is_directory) for entry in storage.list_tree(str(tmp_path))}
    assert found == {"circle": (True, False), "nowhere": (True, False), "pipe": (False, False)}


S3 = "s3://bucket/file"


@pytest.mark.parametrize(
    ("uri", "error", "num_failures", "num_calls"),
    [
        (S3, OSError("AWS Error EXPIRED_TOKEN"), 5, 6),
        (S3, OSError("AWS Error EXPIRED_TOKEN"), 9, 6),
        (S3, OSError("AWS Error SLOW_DOWN"), 7, 8),
        (S3, pa.ArrowInvalid("cut short"), 1, 2),
        (S3, FileNotFoundError("no such key"), 1, 1),
        (S3, PermissionError("not yours"), 1, 1),
        (S3, ValueError("a mistake of our own"), 1, 1),
        ("/tmp/file", OSError("the disk"), 1, 1),
    ],
)
def test_only_what_may_pass_is_tried_again(
    uri: str, error: Exception, num_failures: int, num_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "_LONGEST_PAUSE_SECONDS", 0.1)
    calls = []

    def ask() -> str:
        calls.append(uri)
        if len(calls) <= num_failures:
            raise error
        return "answer"

    if num_calls > num_failures:
        assert retried(uri, ask) == "answer"
    else:
        with pytest.raises(type(error), match=str(error)):
            retried(uri, ask)
    assert len(calls) == num_calls


def test_a_store_that_was_given_up_is_not_waited_for_again_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_PATIENCE_SECONDS", 1.0)
    calls = []

    def ask(uri: str, *, is_silent: bool) -> None:
        calls.append(uri)
        if is_silent:
            raise OSError("AWS Error NETWORK_CONNECTION")

    one, same, other = "s3://given-up/file", "s3://given-up/other", "s3://not-given-up/file"
    for uri, least, most in ((one, 3, 99), (same, 1, 1), (other, 3, 99), (one, 1, 1)):
        calls.clear()
        with pytest.raises(SilentStoreError, match=rf"^{uri}: the store does not answer, asked \d+ times? in \d+ s"):
            retried(uri, partial(ask, uri, is_silent=True))
        assert least <= len(calls) <= most, uri
    retried(one, partial(ask, one, is_silent=False))
    calls.clear()
    with pytest.raises(SilentStoreError):
        retried(one, partial(ask, one, is_silent=True))
    assert len(calls) >= 3


def test_a_store_of_googles_that_is_gone_is_named_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client alone would try for 15 minutes."""
    monkeypatch.setattr(filesystem, "_MOST_GOOGLE_SECONDS", 2)
    monkeypatch.setattr(retrying, "_PATIENCE_SECONDS", 1.0)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and not listened at
        place = f"127.0.0.1:{held.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(
            SilentStoreError, match=rf"endpoint_override={place}: the store does not answer, asked \d+ times? in \d+ s"
        ):
            storage.read_bytes(f"gs://anonymous@bucket/file?scheme=http&endpoint_override={place}")
        assert time.monotonic() - started < 30


def test_what_a_store_refuses_after_it_was_busy_is_tried_as_often_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_LONGEST_PAUSE_SECONDS", 0.1)
    reasons = ["AWS Error SLOW_DOWN"] * 8 + ["only 7 of 9 bytes came"] * 5

    def ask() -> str:
        if reasons:
            raise OSError(reasons.pop(0))
        return "answer"

    assert retried(S3, ask) == "answer"


def test_what_takes_long_is_tried_again_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gigabytes do, of which the last part is refused: the store was not silent all the while."""
    monkeypatch.setattr(retrying, "_PATIENCE_SECONDS", 0.1)
    calls = []

    def put() -> str:
        calls.append(time.sleep(0.2))
        if len(calls) < 3:
            raise OSError("AWS Error SLOW_DOWN")
        return "whole"

    assert retried("s3://slow/file", put) == "whole"


@pytest.mark.parametrize("size_bytes", [0, 1, 1000, 16 * 2**20, 16 * 2**20 + 1, 40 * 2**20 + 7])
def test_a_file_that_is_read_whole_comes_in_ranges(size_bytes: int, tmp_path: Path) -> None:
    ranges = ranges_of(size_bytes)
    assert [0, *(part.stop for part in ranges)] == [*(part.start for part in ranges), size_bytes]
    assert all(8 * 2**20 <= len(part) <= 16 * 2**20 for part in ranges) or len(ranges) <= 1
    body = np.random.default_rng(0).bytes(size_bytes)
    (tmp_path / "file").write_bytes(body)
    assert storage.read_whole(str(tmp_path / "file"), size_bytes).to_pybytes() == body
    with pytest.raises(StorageError, match="bytes at"):
        storage.read_whole(str(tmp_path / "file"), size_bytes + 1)


def test_an_endpoint_where_nobody_answers_is_blamed_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and not listened at
        port = held.getsockname()[1]
        uri = storage.with_endpoint("s3://bucket/file", f"http://127.0.0.1:{port}")
        started = time.monotonic()
        for ask in (storage.exists, storage.read_bytes, storage.list_tree):
            with pytest.raises(StorageError, match=rf"^no store answers at 127\.0\.0\.1:{port} \(Connection refused"):
                ask(uri)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("endpoint", ["minio:port", ":9000", ""])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=rf"an endpoint is given as HOST:PORT or HOST, got '{endpoint}'"):
        storage.exists(f"s3://bucket/file?endpoint_override={endpoint}&scheme=http")


def test_an_endpoint_that_has_answered_is_not_asked_again() -> None:
    """It may be gone for a moment: that is for those who try again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = f"?endpoint_override=127.0.0.1:{server.getsockname()[1]}&scheme=http"
        refuse_silent_endpoint(options)
    refuse_silent_endpoint(options)
    refuse_silent_endpoint("?region=us-east-1")


def test_file_uris_have_no_options_and_one_host(tmp_path: Path) -> None:
    (tmp_path / "what?").mkdir()
    (tmp_path / "what?" / "a").write_bytes(b"a")
    for uri in (f"file://{tmp_path}/what?", f"file://localhost{tmp_path}/what%3F"):
        assert storage.read_bytes(storage.join(uri, "a")) == b"a"
    assert storage.as_local_path(f"file://localhosts{tmp_path}") != tmp_path


@pytest.mark.parametrize(
    ("one", "other"), [("gs://b/a", "gcs://b/a/d"), ("s3://b/a", "s3://b//a/d"), ("/a//b/", "/a/b/c")]
)
def test_two_names_of_a_place_lie_in_each_other(one: str, other: str) -> None:
    assert storage.lie_in_each_other(one, other)
    assert not storage.lie_in_each_other(one, f"{other}/../../elsewhere".replace("/a/", "/z/"))


def test_a_temporary_name_is_given_once_and_tells_what_the_file_is_to_become() -> None:
    names = {temporary_name("manifest.json") for _ in range(100)}
    assert len(names) == 100
    assert {final_name(name) for name in names} == {"manifest.json"}
    assert [final_name(name) for name in ("manifest.json", ".tmp", ".a.tmp", f"a.{32 * '0'}.tmp")] == [None] * 4


def test_two_attempts_write_under_two_names() -> None:
    names = {storage.attempt_name("piece-000003", ".bin") for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"piece-000003-[0-9a-f]{16}\.bin", name) for name in names)
