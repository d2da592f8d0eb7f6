"""Probes that meet over real sockets: they measure each other, and say who cannot be reached, in time."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from sunspark.errors import WorkerError
from sunspark.launch.doctor import probe as module
from sunspark.launch.doctor.meeting import Meeting
from sunspark.launch.doctor.probe import Errand, probe, read_speed, ways_from
from sunspark.launch.doctor.visit import executor_name, visit
from sunspark.parallel.rpc import RpcClient, RpcServer
from tests.distributed.harness import wait_until

pytestmark = pytest.mark.timeout(180)

TOKEN = "a token of the tests"


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    with contextlib.closing(Meeting("127.0.0.1", 0, TOKEN)) as one:
        yield one


def errand(executor: str, driver: str, dataset: str | None = None) -> Mapping[str, object]:
    return asdict(
        Errand(executor=executor, driver=driver, token=TOKEN, dataset=dataset, cache_directory=None, timeout_seconds=60)
    )


def hold(meeting: Meeting, count: int) -> None:
    """Let those that have joined measure and leave."""
    wait_until(lambda: meeting.num_joined == count, 100, "the probes to join")
    meeting.let("measure")
    meeting.wait_for_findings(60)
    meeting.let("leave")


def test_probes_measure_the_dataset_the_clock_and_each_other(meeting: Meeting, law_dataset: str) -> None:
    """The second one of executor b keeps its slot and is not asked."""
    threads = [
        threading.Thread(target=probe, args=(errand(name, meeting.uri, law_dataset),)) for name in ("a", "b", "b", "c")
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: meeting.num_joined == 4, 100, "the probes to join")
    for guest in meeting.guests.values():
        with pytest.raises(ConnectionRefusedError):  # it listens at the one address, not at the others of this machine
            socket.create_connection(("127.0.0.2", int(guest.uri.rpartition(":")[2])), timeout=5)
    hold(meeting, 4)
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert meeting.guests.keys() == meeting.findings.keys() == {"a", "b", "c"}
    assert all(guest.uri.startswith("grpc://127.0.0.1:") for guest in meeting.guests.values())
    assert all("torch" in guest.machine.versions for guest in meeting.guests.values())
    for name, findings in meeting.findings.items():
        assert (findings.dataset_error, abs(findings.clock_ahead_seconds) < 1) == ("", True)
        assert (findings.dataset_bytes_per_second or 0) > 0
        following = {"a": ["b", "c"], "b": ["c", "a"], "c": ["a", "b"]}[name]
        assert [way.peer for way in findings.ways] == following
        assert [way.error for way in findings.ways] == ["", ""]
        assert all((way.latency_seconds or 0) > 0 for way in findings.ways)
        assert [way.bytes_per_second is not None for way in findings.ways] == [True, False]


def test_who_cannot_be_reached_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEER_SECONDS", 1.0)
    server = RpcServer("127.0.0.1", 0, TOKEN, {"ping": lambda: {}}, {"bytes": module._chunks})
    stranger = RpcServer("127.0.0.1", 0, "another token", {"ping": lambda: {}})
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        closed_port = closed.getsockname()[1]
        closed.close()
        peers = {
            "0": "grpc://127.0.0.1:1",
            "1": server.uri,
            "2": f"grpc://127.0.0.1:{closed_port}",
            "3": f"grpc://127.0.0.1:{silent.getsockname()[1]}",
            "4": stranger.uri,
        }
        started = time.monotonic()
        ways = {way.peer: way for way in ways_from("0", peers, TOKEN)}
        assert time.monotonic() - started < 30
    server.shutdown()
    stranger.shutdown()
    assert ways.keys() == {"1", "2", "3", "4"}
    assert ways["1"].error == ""
    assert (ways["1"].bytes_per_second or 0) > 0
    assert f"127.0.0.1:{closed_port}" in ways["2"].error
    assert "had no answer within 1 s" in ways["3"].error
    assert "needs the token" in ways["4"].error
    assert [ways[peer].latency_seconds for peer in "234"] == [None] * 3


def test_a_meeting_is_closed_to_those_without_the_token(meeting: Meeting) -> None:
    stranger = RpcClient(meeting.uri, "a guess")
    with pytest.raises(WorkerError, match="needs the token"):
        stranger.call("join", executor="0", uri="grpc://127.0.0.1:1", machine={})
    assert not meeting.guests


def test_a_dataset_that_is_not_there_is_told(tmp_path: Path) -> None:
    speed, error = read_speed(str(tmp_path / "nothing"), 0)
    assert speed is None
    assert "nothing is not a finished dataset" in error


def test_a_visit_says_when_the_driver_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = json.loads(visit(json.dumps(errand("5", f"grpc://127.0.0.1:{port}"))))
    assert said["executor"] == "5"
    assert f"grpc://127.0.0.1:{port}" in said["error"]
    assert said["executable"] == sys.executable


def test_an_executor_is_named_by_its_jvm() -> None:
    """The name stands in the command line of the process above Spark's daemon."""
    python = "from sunspark.launch.doctor.visit import executor_name; print(executor_name())"
    daemon = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {python!r}], check=True)"
    words = [sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {daemon!r}])"]
    done = subprocess.run([*words, "--executor-id", "17"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "17\n"
    assert executor_name() == f"{socket.gethostname()}:{os.getppid()}"


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """Two hosts, 10.79.0.11 and .12, that reach this one at 10.79.0.1 but not each other."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("making hosts that cannot reach each other needs root and `ip`")
    mark = f"{os.getpid() % 10_000}"
    names = [f"doc{mark}a", f"doc{mark}b"]
    bridge = f"dob{mark}"

    def ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True, timeout=20, capture_output=True)

    with contextlib.ExitStack() as made:

        def make(words: str, undo: str) -> None:
            ip(words)
            made.callback(lambda: subprocess.run(["ip", *undo.split()], check=False, timeout=20, capture_output=True))

        make(f"link add {bridge} type bridge", f"link del {bridge}")
        ip(f"addr add 10.79.0.1/24 dev {bridge}")
        ip(f"link set {bridge} up")
        for number, name in enumerate(names, start=11):
            make(f"netns add {name}", f"netns del {name}")
            make(f"link add {name}v type veth peer name eth0 netns {name}", f"link del {name}v")
            ip(f"link set {name}v master {bridge} up")
            ip(f"-n {name} addr add 10.79.0.{number}/24 dev eth0")
            ip(f"-n {name} link set eth0 up")
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} route add blackhole 10.79.0.{23 - number}/32")
        yield names


def test_two_hosts_whose_ports_are_closed_to_each_other_say_so(namespaces: list[str]) -> None:
    with contextlib.closing(Meeting("10.79.0.1", 0, TOKEN)) as meeting, contextlib.ExitStack() as running:
        for number, name in enumerate(namespaces):
            order = json.dumps(errand(str(number), meeting.uri))
            program = f"from sunspark.launch.doctor.visit import visit; print(visit({order!r}))"
            command = ["ip", "netns", "exec", name, sys.executable, "-c", program]
            process = running.enter_context(subprocess.Popen(command))
            running.callback(process.kill)
        hold(meeting, 2)
        assert {guest.uri.rpartition(":")[0] for guest in meeting.guests.values()} == {
            "grpc://10.79.0.11",
            "grpc://10.79.0.12",
        }
        for name, peer in (("0", "1"), ("1", "0")):
            (way,) = meeting.findings[name].ways
            assert (way.peer, way.latency_seconds) == (peer, None)
            assert way.error
