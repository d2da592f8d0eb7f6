"""Laws of calls: answered to who has the token, ended at their deadline, heard on one address only."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sunspark.errors import DeadlineError, SetupError, WorkerError
from sunspark.parallel.rpc import Reply, RpcClient, RpcServer

TOKEN = "a token"
released = threading.Event()


def echo(**arguments: object) -> Reply:
    return arguments


def never() -> Reply:
    released.wait(20)
    return {}


def fail() -> Reply:
    raise ValueError("that is wrong\nsecond line")


def count(num_chunks: int) -> Iterator[bytes]:
    return (bytes([number]) * 10 for number in range(num_chunks))


def stall() -> Iterator[bytes]:
    yield b"first"
    released.wait(20)


def break_off() -> Iterator[bytes]:
    yield b"first"
    raise WorkerError("the rest is gone")


def large() -> Iterator[memoryview]:
    return iter([memoryview(bytes(9 << 20))] * 2)


def weigh(chunks: Iterator[memoryview], **arguments: object) -> Reply:
    return {"bytes": sum(len(chunk) for chunk in chunks), **arguments}


def refuse(chunks: Iterator[memoryview]) -> Reply:
    next(chunks)
    raise WorkerError("that is too much")


def ignore(_: Iterator[memoryview]) -> Reply:
    released.wait(20)
    return {}


@pytest.fixture(scope="module")
def server() -> Iterator[RpcServer]:
    handlers: dict[str, Callable[..., Reply]] = {"echo": echo, "never": never, "fail": fail}
    streams: dict[str, Callable[..., Iterator[bytes | memoryview]]] = {
        "count": count, "stall": stall, "break_off": break_off, "large": large,
    }  # fmt: skip
    sinks: dict[str, Callable[..., Reply]] = {"weigh": weigh, "refuse": refuse, "ignore": ignore}
    server = RpcServer("127.0.0.1", 0, TOKEN, handlers, streams, sinks)
    yield server
    released.set()
    server.shutdown()


@pytest.fixture
def client(server: RpcServer) -> Iterator[RpcClient]:
    client = RpcClient(server.uri, TOKEN)
    yield client
    client.close()


def test_a_call_gets_its_arguments_and_its_reply_back(client: RpcClient) -> None:
    message: Any = {"number": 1, "text": "zwölf", "list": [1.5, None], "table": {"yes": True}, "large": -(2**63)}
    assert client.call("echo", **message) == message


def test_many_threads_share_a_client(client: RpcClient) -> None:
    replies: list[object] = []
    threads = [
        threading.Thread(target=lambda n=number: replies.append(client.call("echo", number=n)["number"]))
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(replies, key=str) == sorted(range(16), key=str)


@pytest.mark.parametrize("token", ["", "another token", TOKEN + " ", "Bearer"])
def test_without_the_token_nothing_is_answered(server: RpcServer, token: str) -> None:
    stranger = RpcClient(server.uri, token)
    for attempt in (
        lambda: stranger.call("echo", text="hello"),
        lambda: list(stranger.read_chunks("count", timeout_seconds=5, num_chunks=1)),
        lambda: stranger.write_chunks("weigh", [b"hello"], timeout_seconds=5),
    ):
        with pytest.raises(WorkerError, match="token"):
            attempt()
    stranger.close()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("echoo", {}, "there is no call 'echoo'"),
        ("never", {"surplus": 1}, "surplus"),
        ("fail", {}, "'fail' to grpc://127.0.0.1:.* failed: that is wrong$"),
    ],
)
def test_a_call_that_fails_says_why(client: RpcClient, name: str, arguments: Reply, message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        client.call(name, **arguments)


@pytest.mark.timeout(20)
def test_no_call_waits_longer_than_its_deadline(client: RpcClient) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"'never' to grpc://127.0.0.1:.* had no answer within 1 s"):
        client.call("never", timeout_seconds=1)
    with pytest.raises(DeadlineError, match=r"stream 'stall' from .* had no answer within 1 s"):
        list(client.read_chunks("stall", timeout_seconds=1))
    with pytest.raises(DeadlineError, match=r"stream 'ignore' to .* had no answer within 1 s"):
        client.write_chunks("ignore", [b"hello"], timeout_seconds=1)
    assert time.monotonic() - began < 8


def test_a_server_that_is_gone_is_said_so() -> None:
    server = RpcServer("127.0.0.1", 0, TOKEN, {"echo": echo})
    client = RpcClient(server.uri, TOKEN)
    assert client.call("echo") == {}
    server.shutdown()
    with pytest.raises((WorkerError, DeadlineError)):
        client.call("echo", timeout_seconds=5)
    client.close()


@pytest.mark.parametrize("num_chunks", [0, 1, 7])
def test_chunks_come_in_order(client: RpcClient, num_chunks: int) -> None:
    chunks = client.read_chunks("count", timeout_seconds=10, num_chunks=num_chunks)
    assert [bytes(chunk) for chunk in chunks] == [bytes([number]) * 10 for number in range(num_chunks)]


def test_chunks_may_be_larger_than_a_message(client: RpcClient) -> None:
    assert [len(chunk) for chunk in client.read_chunks("large", timeout_seconds=10)] == [9 << 20] * 2


def test_a_stream_that_breaks_off_is_no_whole_stream(client: RpcClient) -> None:
    with pytest.raises(WorkerError, match="the rest is gone"):
        list(client.read_chunks("break_off", timeout_seconds=10))
    with pytest.raises(WorkerError, match="no_such_stream"):
        list(client.read_chunks("no_such_stream", timeout_seconds=10))


def test_a_port_that_is_taken_is_said_so(server: RpcServer) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (other.getsockname()[1], server.port):
            with pytest.raises(SetupError, match=f"127.0.0.1:{port} .*--port"):
                RpcServer("127.0.0.1", port, TOKEN, {})


def test_an_address_of_another_machine_is_said_so() -> None:
    with pytest.raises(SetupError, match=r"cannot listen on 192\.0\.2\.1: it is no address of this machine"):
        RpcServer("192.0.2.1", 0, TOKEN, {})


def test_a_server_listens_on_its_address_only(server: RpcServer) -> None:
    assert server.uri == f"grpc://127.0.0.1:{server.port}"
    with socket.create_connection(("127.0.0.1", server.port), 5):
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", server.port), 5)
    assert listening_addresses(server.port) == {"127.0.0.1"}


def listening_addresses(port: int) -> set[str]:
    """Local addresses on which this machine listens at `port`, from the kernel's own tables."""
    found = set()
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        with open(table) as file:
            for local, state in (line.split()[1:4:2] for line in list(file)[1:]):
                address, _, number = local.partition(":")
                if int(number, 16) == port and state == "0A":
                    found.add(_in_words(bytes.fromhex(address), family))
    return found


def _in_words(raw: bytes, family: socket.AddressFamily) -> str:
    """The kernel writes an address as 32-bit words of the machine's own byte order."""
    words = b"".join(raw[index : index + 4][::-1] for index in range(0, len(raw), 4))
    return socket.inet_ntop(family, words).removeprefix("::ffff:")


@pytest.mark.parametrize("host", ["192.0.2.1", "999.1.1.1"])
def test_a_host_that_is_another_machine_is_blamed_and_not_the_port(host: str) -> None:
    words = rf"^cannot listen on {re.escape(host)}: it is no address of this machine .*; give one with --host$"
    with pytest.raises(SetupError, match=words):
        RpcServer(host, 0, "token", {})


@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [9 << 20, 9 << 20]])
def test_chunks_sent_are_answered_once_they_are_there(client: RpcClient, sizes: list[int]) -> None:
    moments: list[str] = []
    reply = client.write_chunks(
        "weigh", map(bytes, sizes), timeout_seconds=10, when_sent=lambda: moments.append("sent"), name="one"
    )
    assert reply == {"bytes": sum(sizes), "name": "one"}
    assert moments == ["sent"]


def test_chunks_that_are_refused_say_why(client: RpcClient) -> None:
    with pytest.raises(WorkerError, match=r"'refuse' to grpc://127.0.0.1:.* failed: that is too much"):
        client.write_chunks("refuse", [bytes(1 << 20)] * 50, timeout_seconds=10)
