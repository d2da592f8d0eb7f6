"""Laws of what is written to an object store: whole, and after keys have expired too."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sunspark import storage
from sunspark.storage.filesystem import forget_clients

moto_server = pytest.importorskip("moto.server")
serving = pytest.importorskip("werkzeug.serving")

EXPIRED = b'<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>ExpiredToken</Message></Error>'


class Store:
    """moto's server, which accepts one key and tells of every other."""

    def __init__(self, on_expired: Callable[[], None]) -> None:
        self.key = "first"
        self._on_expired = on_expired
        self._app = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        key = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        if key is None or key.group(1) != self.key:
            self._on_expired()
            start_response("400 Bad Request", [("Content-Type", "application/xml")])
            return [EXPIRED]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


@pytest.fixture
def store_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, str]]:
    """A store with a bucket, and the URI of a folder in it. Its keys are renewed as soon as one was refused."""
    profile = tmp_path / "credentials"

    def renew(key: str) -> None:
        profile.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = Store(lambda: renew(store.key))
    server = serving.make_server("127.0.0.1", 0, store, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    renew("first")
    forget_clients()
    options = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&allow_bucket_creation=true"
    storage.make_directory(f"s3://bucket?{options}")
    yield store, f"s3://bucket/folder?{options}"
    server.shutdown()
    server.server_close()
    forget_clients()


def test_what_is_written_after_keys_have_expired_is_there(store_and_folder: tuple[Store, str]) -> None:
    store, folder = store_and_folder
    uri = storage.join(folder, "table")
    storage.write_bytes_atomic(uri, b"old")
    store.key = "second"
    storage.write_bytes_atomic(uri, b"new")
    assert storage.read_bytes(uri) == b"new"
    store.key = "third"
    with storage.open_atomic(uri) as file:
        file.write(b"newest")
    assert storage.read_bytes(uri) == b"newest"
    store.key = "fourth"
    storage.make_directory(storage.join(folder, "empty"))
    store.key = "fifth"
    storage.delete(uri)
    assert not storage.exists(uri)


def test_a_file_is_what_was_written_whatever_its_name(store_and_folder: tuple[Store, str]) -> None:
    _, folder = store_and_folder
    for name in ("table.gz", "table.bz2", "table.zst"):
        storage.write_bytes_atomic(storage.join(folder, name), b"as it is")
        assert storage.read_bytes(storage.join(folder, name)) == b"as it is"
        with storage.open_atomic(storage.join(folder, name)) as file:
            file.write(b"written in parts")
        assert storage.read_bytes(storage.join(folder, name)) == b"written in parts"
