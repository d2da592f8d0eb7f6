"""A folder as an S3 bucket on loopback: a real HTTP server that speaks as much S3 as reading a dataset takes.

It counts what it sends, fails as often as it is told to (503, an answer cut short, a connection reset), takes requests
and says nothing when it is told to, and accepts the keys that it is told to accept.
"""

import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET: Final = "bucket"
KEY: Final = "a-key"
"""The access key that is accepted at first."""
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_HEADERS: Final = {
    "Content-Type": "application/xml",
    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "ETag": '"1"',
}


class S3Server(ThreadingHTTPServer):
    """Serves the files of `folder`; its attributes may be changed while it serves."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.failing_share = 0.0
        """Of the requests, those that fail."""
        self.busy_requests = 0
        """So many of those that come are answered with 503."""
        self.may_answer = threading.Event()
        """While it is not set, requests are taken and not answered."""
        self.may_answer.set()
        self.requests_before_silence = -1
        """After so many, `may_answer` is unset; never where it is negative."""
        self.keys = {KEY}
        """Access keys that are accepted; with another one, credentials have expired."""
        self.sent_bytes: Counter[str] = Counter()
        """Of the bodies of files, by path."""
        self.answers: Counter[str] = Counter()
        self._draw = random.Random(0)
        self._lock = threading.Lock()

    def uri(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}?endpoint_override=127.0.0.1:{self.server_port}&scheme=http&region=us-east-1"

    def note(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] += 1

    def next_failure(self) -> str | None:
        """How the next request fails, if it does."""
        with self._lock:
            if self.busy_requests:
                self.busy_requests -= 1
                return "503"
            fails = self._draw.random() < self.failing_share
            return self._draw.choice(["503", "cut", "reset"]) if fails else None

    def wait_for_word(self) -> None:
        """Returns when the next request may be answered."""
        with self._lock:
            if self.requests_before_silence == 0:
                self.may_answer.clear()
            self.requests_before_silence -= 1
        self.may_answer.wait()

    def count(self, path: str, num_bytes: int) -> None:
        with self._lock:
            self.sent_bytes[path] += num_bytes

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nobody's fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _answer(self) -> None:
        self.server.wait_for_word()
        url = urlsplit(self.path)
        path, query = unquote(url.path).strip("/").removeprefix(BUCKET).strip("/"), parse_qs(url.query)
        key = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        failure = self.server.next_failure()
        if key is None or key.group(1) not in self.server.keys:
            self._send("expired", 400, _error("ExpiredToken"))
        elif failure == "503":
            self._send("503", 503, _error("SlowDown"))
        elif failure == "reset":
            self._reset()
        elif "list-type" in query:
            self._send("list", 200, self._listing(query.get("prefix", [""])[0], "delimiter" in query))
        elif not (self.server.folder / path).is_file():
            self._send("missing", 404, _error("NoSuchKey"))
        else:
            self._send_file(path, is_cut=failure == "cut")

    def _send_file(self, path: str, is_cut: bool) -> None:
        body, status, headers = (self.server.folder / path).read_bytes(), 200, {}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            start, end = int(asked.group(1)), min(int(asked.group(2)) + 1, len(body))
            headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
            body, status = body[start:end], 206
        if self.command == "GET" and is_cut:
            self._send("cut", status, body[: len(body) // 2], headers | {"Content-Length": str(len(body))})
            self.close_connection = True
            return
        self._send("file" if self.command == "GET" else "head", status, body, headers)
        if self.command == "GET":
            self.server.count(path, len(body))

    def _send(self, answer: str, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.server.note(answer)
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.server.note("reset")
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.connection.close()

    def _listing(self, prefix: str, by_folder: bool) -> bytes:
        root = self.server.folder
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        names = [name for name in names if name.startswith(prefix)]
        folders = set()
        if by_folder:
            inside = [name for name in names if "/" in name[len(prefix) :]]
            folders = {prefix + name[len(prefix) :].partition("/")[0] + "/" for name in inside}
            names = [name for name in names if name not in inside]
        files = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{(root / name).stat().st_size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in names
        )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        return _xml(
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{BUCKET}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(names) + len(folders)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{files}{common}</ListBucketResult>"
        )


def _error(code: str) -> bytes:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")


def _xml(body: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[S3Server]:
    """The server, in a thread of its own."""
    server = S3Server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        server.server_close()
