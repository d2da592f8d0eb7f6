"""Hosts hear each other, unless the network is as a test wants it; and nothing is left of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.namespaces import Host, Network, why_not
from tests.distributed.harness import is_running, wait_until

REPOSITORY = Path(__file__).parents[2]
LISTEN = """
import socket, sys
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.settimeout(float(sys.argv[2]))
receiver.bind((sys.argv[1], 7000))
receiver.recv(10)
"""
SEND = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    sender.sendto(b"word", (sys.argv[1], 7000))
    time.sleep(0.1)
"""
HOLD = """
import os, pathlib, signal, time
from tests.cluster.namespaces import Network
signal.signal(signal.SIGINT, signal.default_int_handler)
with Network() as network:
    host = network.add("orphan")
    sleeper = host.start(["sleep", "1000"], {}, pathlib.Path(os.devnull))
    print(sleeper.pid, flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := why_not():
        pytest.skip(f"network namespaces: {reason}")
    with Network() as network:
        yield network


def hears(receiver: Host, sender: Host, seconds: float) -> bool:
    """Whether a datagram from `sender` reaches `receiver` within that time."""
    listening = receiver.start([sys.executable, "-c", LISTEN, receiver.address, str(seconds)], {}, Path(os.devnull))
    sending = sender.start([sys.executable, "-c", SEND, receiver.address], {}, Path(os.devnull))
    try:
        return listening.wait(60) == 0
    finally:
        sending.kill()
        sending.wait(60)


def test_packets_get_lost_in_one_direction_and_with_the_cable_in_both(network: Network) -> None:
    one, other = network.add("one"), network.add("other")
    assert hears(one, other, 30)
    with one.loses_packets_to(other):
        assert not hears(other, one, 2)
        assert hears(one, other, 30)
    assert hears(other, one, 30)
    with one.unplugged():
        assert not hears(one, other, 2)
    assert hears(one, other, 30)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_hosts_whatever_ends_the_process_that_made_them(number: signal.Signals) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY
    )
    with maker:
        assert maker.stdout is not None
        on_host = int(maker.stdout.readline())
        assert len(left_of(maker.pid)) == 3
        maker.send_signal(number)
    assert maker.returncode != 0
    wait_until(lambda: not left_of(maker.pid), 60, "the end of the hosts")
    wait_until(lambda: not is_running(on_host), 10, "the end of what ran on a host")


def left_of(pid: int) -> list[str]:
    """The namespaces that a process has made, and their files."""
    folders = (Path("/var/run/netns"), Path("/etc/netns"))
    return [path.name for folder in folders for path in folder.glob(f"sunspark-{pid}-*")]
