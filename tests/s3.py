"""An S3 store on loopback, a real server: moto's, in a process of its own."""

import contextlib
import importlib.util
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.harness import wait_until

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3_store(log: Path) -> Iterator[str]:
    """The URL of a store with a bucket named `bucket`; what it is asked goes to `log`."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed: an S3 store to test with")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            url = _wait_for_url(log, server)
            urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=30).close()
            yield url
        finally:
            server.kill()


def upload(url: str, folder: Path, prefix: str) -> None:
    """Put all files below a folder into the bucket."""
    for path in folder.rglob("*"):
        if path.is_file():
            key = urllib.parse.quote(f"bucket/{prefix}/{path.relative_to(folder)}")
            headers = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request(f"{url}/{key}", path.read_bytes(), headers, method="PUT")
            urllib.request.urlopen(request, timeout=30).close()


def requests_of(log: Path) -> list[str]:
    """What the store was asked: `GET /bucket/a/b.jpg`, in order."""
    return re.findall(r'"((?:GET|HEAD|PUT|DELETE|POST) [^ ]+) HTTP', log.read_text())


def _wait_for_url(log: Path, server: "subprocess.Popen[bytes]") -> str:
    def url() -> str | None:
        assert server.poll() is None, log.read_text()
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        return found[0] if found else None

    wait_until(url, 60, "the S3 store")
    return str(url())
