"""Calls between the processes of one run: JSON over Arrow Flight, refused without the run's token.

One seam for pyarrow.flight: a call is a Flight action (JSON in, JSON out), a stream of bytes is a Flight `do_get` from
the server, and a `do_put` to it, which is answered with JSON.
Nothing is unpickled. Servers listen on the one address that they are given.
"""

import hmac
import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.flight as flight

from sunspark.errors import DeadlineError, SetupError, SunsparkError, WorkerError, first_line_of

Reply = dict[str, Any]
Handler = Callable[..., Reply]
ChunkReader = Callable[..., Iterator[bytes | memoryview]]
ChunkWriter = Callable[..., Reply]
"""Gets the chunks of a stream as its first argument."""

_HEADER = "authorization"
_LONGEST_CAUSE = 300
"""Characters of a cause; Flight puts all that gRPC knows into one line."""
_CHUNK_SCHEMA = pa.schema([("chunk", pa.large_binary())])


@final
class RpcServer(flight.FlightServerBase):  # type: ignore[misc]
    """Answers calls by name. `handlers` get the call's JSON object as keyword arguments, in any thread."""

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        handlers: Mapping[str, Handler],
        chunk_readers: Mapping[str, ChunkReader] | None = None,
        chunk_writers: Mapping[str, ChunkWriter] | None = None,
    ) -> None:
        """Listen on `host`:`port` (0: any free port). Raises SetupError when that cannot be."""
        self._handlers = dict(handlers)
        self._chunk_readers = dict(chunk_readers or {})
        self._chunk_writers = dict(chunk_writers or {})
        self._host = host
        try:
            super().__init__(f"grpc://{host}:{port}", middleware={"token": _TokenCheck(token)})
        except (pa.ArrowException, OSError) as error:
            _refuse_address_of_others(host)
            raise SetupError(
                f"cannot listen on {host}:{port} ({first_line_of(error)}); the port may be taken: "
                "choose another with --port, or 0 for any free one"
            ) from error

    @property
    def uri(self) -> str:
        return f"grpc://{self._host}:{self.port}"

    def do_action(self, _context: flight.ServerCallContext, action: flight.Action) -> list[flight.Result]:
        handler = self._handlers.get(action.type)
        if handler is None:
            raise flight.FlightServerError(f"there is no call {action.type!r}")
        reply = handler(**json.loads(action.body.to_pybytes()))
        return [flight.Result(json.dumps(reply).encode())]

    def do_get(self, _context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:
        request = json.loads(ticket.ticket)
        chunks = self._chunk_readers[request.pop("stream")](**request)
        return flight.GeneratorStream(_CHUNK_SCHEMA, (_batch_of(chunk) for chunk in chunks))

    def do_put(
        self,
        _context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        request = json.loads(descriptor.command)
        reply = self._chunk_writers[request.pop("stream")]((_chunk_of(batch) for batch in reader), **request)
        writer.write(json.dumps(reply).encode())


@final
class RpcClient:
    """Calls one server. Safe to use from several threads."""

    def __init__(self, uri: str, token: str) -> None:
        self.uri = uri
        self._headers = [(_HEADER.encode(), f"Bearer {token}".encode())]
        self._client = flight.connect(uri)

    def call(self, name: str, *, timeout_seconds: float = 10.0, **arguments: Any) -> Reply:
        """The reply of the call `name`.

        Raises DeadlineError after `timeout_seconds`, WorkerError when the server cannot be reached or fails.
        """
        with _flight_errors(f"the call {name!r} to {self.uri}", timeout_seconds):
            action = flight.Action(name, json.dumps(arguments).encode())
            results = list(self._client.do_action(action, self._options(timeout_seconds)))
            reply: Reply = json.loads(results[0].body.to_pybytes())
        return reply

    def read_chunks(self, stream: str, *, timeout_seconds: float, **arguments: Any) -> Iterator[memoryview]:
        """The chunks of a stream, one after the other. Raises like `call`."""
        with _flight_errors(f"the stream {stream!r} from {self.uri}", timeout_seconds):
            ticket = flight.Ticket(json.dumps({"stream": stream, **arguments}).encode())
            for batch in self._client.do_get(ticket, self._options(timeout_seconds)):
                yield _chunk_of(batch)

    def write_chunks(
        self,
        stream: str,
        chunks: Iterable[bytes | memoryview],
        *,
        timeout_seconds: float,
        when_sent: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> Reply:
        """Send the chunks of a stream; the reply. `when_sent` is called before it is waited for. Raises like `call`."""
        with _flight_errors(f"the stream {stream!r} to {self.uri}", timeout_seconds):
            descriptor = flight.FlightDescriptor.for_command(json.dumps({"stream": stream, **arguments}).encode())
            writer, replies = self._client.do_put(descriptor, _CHUNK_SCHEMA, self._options(timeout_seconds))
            with writer:
                for chunk in chunks:
                    writer.write_batch(_batch_of(chunk))
                writer.done_writing()
                when_sent()
                reply: Reply = json.loads(replies.read().to_pybytes())
        return reply

    def close(self) -> None:
        self._client.close()

    def _options(self, timeout_seconds: float) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(timeout=timeout_seconds, headers=self._headers)


def address_towards(uri: str) -> str:
    """This host's address on the way to `uri`."""
    parts = urlsplit(uri)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname, parts.port))
        return str(probe.getsockname()[0])


class _TokenCheck(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        super().__init__()
        self._expected = f"Bearer {token}"

    def start_call(self, _info: flight.CallInfo, headers: Mapping[str, list[str]]) -> None:
        given = headers.get(_HEADER, [""])[0]
        if not hmac.compare_digest(given.encode(), self._expected.encode()):
            raise flight.FlightUnauthenticatedError("this call needs the token of the run")


class _flight_errors:
    """Turn Flight's errors into ours; keep the cause."""

    def __init__(self, what: str, timeout_seconds: float) -> None:
        self._what = what
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, flight.FlightTimedOutError):
            raise DeadlineError(f"{self._what} had no answer within {self._timeout_seconds:g} s") from error
        if isinstance(error, SunsparkError):
            return
        if isinstance(error, pa.ArrowException | OSError):
            raise WorkerError(f"{self._what} failed: {first_line_of(error)[:_LONGEST_CAUSE]}") from error


def _batch_of(chunk: bytes | memoryview) -> pa.RecordBatch:
    """One row that shares the chunk's memory."""
    ends = pa.py_buffer(struct.pack("=qq", 0, memoryview(chunk).nbytes))
    return pa.record_batch(
        [pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(chunk)])], schema=_CHUNK_SCHEMA
    )


def _chunk_of(batch: flight.FlightStreamChunk) -> memoryview:
    return memoryview(batch.data.column(0)[0].as_buffer())


def _refuse_address_of_others(host: str) -> None:
    """SetupError when `host` is no address of this machine, whatever the port."""
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise SetupError(
            f"cannot listen on {host}: it is no address of this machine ({error.strerror}); give one with --host"
        ) from error
