"""Hosts hear each other, unless the network is as a test wants it; and nothing is left of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.namespaces import Host, Network, remove_leftovers, why_not

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
for _ in range(20):
    sender.sendto(b"word", (sys.argv[1], 7000))
    time.sleep(0.1)
"""
DIE = """
import os, signal
from tests.cluster.namespaces import Network
with Network() as network:
    host = network.add("orphan")
    host.start(["sleep", "1000"], {}, __import__("pathlib").Path(os.devnull))
    os.kill(os.getpid(), signal.SIGKILL)
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
def test_what_a_killed_process_has_left_is_removed() -> None:
    died = subprocess.Popen([sys.executable, "-c", DIE])
    assert died.wait(60) == -9
    assert f"-{died.pid}-" in namespaces()
    remove_leftovers()
    assert f"-{died.pid}-" not in namespaces()
    assert not list(Path("/etc/netns").glob(f"*-{died.pid}-*"))


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True, timeout=30).stdout
