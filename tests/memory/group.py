"""Processes with so much memory and no more: control groups on memory, of Linux's version 1 or 2.

Source: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst. A group is charged for everything that its
processes use, pages of files that they read included; near the limit the kernel takes those back first. What they
*hold* is what it cannot take back where there is no swap: anonymous and shared memory. Who holds more than the limit is
killed. Making a group takes root, or a group that was handed over; where none can be made, tests are skipped.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from sunspark.limits import oom_kills

_LOOK_SECONDS: Final = 0.02
_LEAVE_SECONDS: Final = 20.0
_NUMBERS = itertools.count()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Version:
    """How the files of one version of control groups are called."""

    controller: str
    limits: tuple[tuple[str, str], ...]
    """Files and what is written to them, the limit in the place of {}; the second keeps the group from swapping."""
    kills: str
    held: tuple[str, ...]
    """Lines of memory.stat."""


_VERSION_1: Final = _Version(
    controller="memory",
    limits=(("memory.limit_in_bytes", "{}"), ("memory.memsw.limit_in_bytes", "{}")),
    kills="memory.oom_control",
    held=("total_rss", "total_shmem"),
)
_VERSION_2: Final = _Version(
    controller="",
    limits=(("memory.max", "{}"), ("memory.swap.max", "0")),
    kills="memory.events",
    held=("anon", "shmem"),
)


class MemoryGroup:
    """A control group; processes are started in it, or enter it themselves."""

    def __init__(self, folder: Path, version: _Version) -> None:
        self._folder, self._version = folder, version
        self.peak_bytes = 0
        """The most that its processes have held together, looked at 50 times a second."""
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @property
    def entrance(self) -> str:
        """The file into which a process writes its number (0: whoever writes) to be in the group with all it starts."""
        return str(self._folder / "cgroup.procs")

    @property
    def num_kills(self) -> int:
        """Processes of the group that the kernel has killed for want of memory."""
        return oom_kills(self._folder / self._version.kills) or 0

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` in the group."""
        return ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', self.entrance, *words]

    def held_bytes(self) -> int:
        """What its processes hold now."""
        lines = dict(line.split() for line in (self._folder / "memory.stat").read_text().splitlines())
        return sum(int(lines[name]) for name in self._version.held)

    def limit_to(self, limit_bytes: int) -> None:
        for name, value in self._version.limits:
            if (file := self._folder / name).exists():  # a kernel may have been built without accounts of swap
                file.write_text(value.format(limit_bytes))

    def start(self) -> None:
        self._watcher.start()

    def close(self) -> None:
        """End whoever is left in the group, and remove it."""
        self._done.set()
        self._watcher.join(5)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while pids := (self._folder / "cgroup.procs").read_text().split():
            assert time.monotonic() < deadline, f"processes {pids} do not leave {self._folder}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)
        self._folder.rmdir()

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self.held_bytes())


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A new group with that limit, removed at the end with all that runs in it; the test is skipped without one."""
    folder, version = _make_folder()
    group = MemoryGroup(folder, version)
    try:
        group.limit_to(limit_bytes)
        group.start()
        yield group
    finally:
        group.close()
        print(f"group of {limit_bytes / 1e6:.0f} MB: held {group.peak_bytes / 1e6:.0f} MB at most")


def _make_folder() -> tuple[Path, _Version]:
    """A new group below this process's own, or as near to it as may be."""
    name = f"sunspark-test-{os.getpid()}-{next(_NUMBERS)}"
    refusals = []
    for version in (_VERSION_2, _VERSION_1):
        for parent in _own_groups(version):
            folder = parent / name
            try:
                folder.mkdir()
            except OSError as error:
                refusals.append(str(error))
                continue
            limit = folder / version.limits[0][0]
            if limit.exists():
                return folder, version
            folder.rmdir()  # memory is not among what this parent hands down
            refusals.append(f"{parent} hands down no {limit.name}")
    pytest.skip(f"no control group on memory can be made: {'; '.join(refusals) or 'there are none here'}")


def _own_groups(version: _Version) -> list[Path]:
    """This process's group and those around it."""
    top = Path("/sys/fs/cgroup") / version.controller
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if version.controller in controllers.split(","):
            folder = top / path.strip("/")
            return [each for each in (folder, *folder.parents) if each.is_relative_to(top) and each.is_dir()]
    return []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
