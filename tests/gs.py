"""A store that speaks Google's protocol, on loopback: an emulator, in a process of its own."""

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator

import pytest

_SERVE = """
from functools import partial
from http.server import HTTPServer
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

storage = Storage(use_memory_fs=True)
create_bucket("bucket", storage)
server = HTTPServer(("127.0.0.1", 0), partial(RequestHandler, storage))
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def gs_store() -> Iterator[str]:
    """What follows a `gs://anonymous@bucket/...` of a store that has this bucket, and nobody else's."""
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        pytest.skip("gcp-storage-emulator is not installed: a Google store to test with")
    command = [sys.executable, "-c", _SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"?scheme=http&endpoint_override=127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()
