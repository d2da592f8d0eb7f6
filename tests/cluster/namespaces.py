"""Hosts on one machine: network namespaces joined by veth pairs and a switch, each with a hostname of its own.

Everything lives in namespaces named `sunspark-PID-...`, the switch too, so that several networks stand side by side and
nothing is left on the machine: a namespace that is deleted takes its links along. A guard, a process of its own,
removes them when the process that made them has ended, whatever ended it.

    python tests/cluster/namespaces.py NAME      # the guard: waits for the end of standard input
"""

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

_PREFIX: Final = "sunspark"
_FILES: Final = Path("/etc/netns")
"""What `ip netns exec` puts in the place of files in /etc."""
_DISK_MEGABYTES: Final = 64
_NOBODYS_MAC: Final = "02:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Host:
    """One host: its namespace, its address, and the port of the switch that it is plugged into."""

    namespace: str
    hostname: str
    address: str
    switch: str
    port: str

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, disks: Sequence[Path] = ()
    ) -> "subprocess.Popen[bytes]":
        """Start a process here; standard output and standard error go to `log`.

        Each of the folders `disks` becomes a small, empty disk, which only that process and its children see.
        """
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self._enter(disks), *command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """Pull the cable: nothing comes or goes, and nobody is told. It is put back at the end."""
        _ip("-n", self.switch, "link", "set", self.port, "down")
        try:
            yield
        finally:
            _ip("-n", self.switch, "link", "set", self.port, "up")

    @contextlib.contextmanager
    def loses_packets_to(self, other: "Host") -> Iterator[None]:
        """What this host sends to `other` gets lost; what `other` sends arrives."""
        where = [other.address, "dev", "eth0"]
        _ip("-n", self.namespace, "neigh", "replace", *where, "lladdr", _NOBODYS_MAC, "nud", "permanent")
        try:
            yield
        finally:
            _ip("-n", self.namespace, "neigh", "del", *where)

    def limit(self, megabits_per_second: int) -> None:
        """The speed of the link, in both directions."""
        for namespace, device in ((self.namespace, "eth0"), (self.switch, self.port)):
            rate = f"rate {megabits_per_second}mbit burst 256kb latency 50ms".split()
            _run("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", "tbf", *rate)

    def processes(self) -> list[int]:
        """The ids of all processes on this host."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def _enter(self, disks: Sequence[Path] = ()) -> list[str]:
        mounts = "".join(f"mount -t tmpfs -o size={_DISK_MEGABYTES}m tmpfs {shlex.quote(str(d))} && " for d in disks)
        script = f'hostname "$0" && {mounts} exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", script, self.hostname]


@final
class Network:
    """A switch, and the hosts that are plugged into it. A context manager: at its end all of it is gone."""

    def __init__(self, megabits_per_second: int = 750) -> None:
        self._speed = megabits_per_second
        self._name = f"{_PREFIX}-{os.getpid()}-{time.monotonic_ns()}"
        self._switch = f"{self._name}-switch"
        self.hosts: list[Host] = []
        self._numbers = itertools.count(1)

    def __enter__(self) -> "Network":
        guard = [sys.executable, __file__, self._name]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "br0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        assert self._guard.wait(60) == 0, f"something is left of {self._name}: see `ip netns list`"

    def add(self, name: str, hostname: str = "") -> Host:
        """A new host."""
        number = next(self._numbers)
        namespace, address = f"{self._name}-{name}", f"10.77.0.{number}"
        host = Host(namespace, hostname or name, address, self._switch, f"port{number}")
        _ip("netns", "add", namespace)
        self.hosts.append(host)
        (_FILES / namespace).mkdir(parents=True)
        (_FILES / namespace / "hosts").write_text(f"127.0.0.1 localhost\n{address} {host.hostname}\n")
        pair = ["link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", namespace]
        _ip("-n", self._switch, *pair)
        _ip("-n", self._switch, "link", "set", host.port, "master", "br0", "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        host.limit(self._speed)
        return host

    def remove(self, host: Host) -> None:
        """The host is lost, without a last word on the network."""
        _ip("-n", host.switch, "link", "set", host.port, "down")
        _remove(host.namespace)
        self.hosts.remove(host)


def why_not() -> str:
    """Why network namespaces cannot be made here; empty when they can."""
    if missing := [tool for tool in ("ip", "tc", "unshare", "hostname") if shutil.which(tool) is None]:
        return f"there is no {' and no '.join(missing)}"
    try:
        with Network() as network:
            host = network.add("probe")
            _run(*host._enter(), "true")
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"network namespaces cannot be made here: {said.strip()}"
    return ""


def guard(name: str) -> None:
    """Wait for the end of whoever made the network of that name, and remove its namespaces and what runs in them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    while mine := [line.split()[0] for line in _ip("netns", "list").splitlines() if line.startswith(f"{name}-")]:
        for namespace in mine:
            _remove(namespace)
        time.sleep(0.1)  # a command of the one that was killed may still be under way


def _remove(namespace: str) -> None:
    """Kill what runs in a namespace, and delete it."""
    shutil.rmtree(_FILES / namespace, ignore_errors=True)
    with contextlib.suppress(subprocess.CalledProcessError):  # it is gone already
        while pids := _ip("netns", "pids", namespace).split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)
        _ip("netns", "del", namespace)


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


if __name__ == "__main__":
    guard(sys.argv[1])
