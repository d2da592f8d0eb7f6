"""What a process may use: cores and memory, as the machine and its control groups (containers, YARN) allow.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. A limit anywhere on the way from the
root of the control groups to this process's own counts. Elsewhere than on Linux there are no such limits.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")
_UNLIMITED: Final = 1 << 60
"""Version 1 writes a number where there is no limit; it depends on the size of pages, and is larger than this."""


def allowed_cores(root: Path = _ROOT) -> float:
    """Cores that this process may use at once; a quota makes it a fraction."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return min([float(cores), *_quotas(root)])


def usable_cores(wanted: int = sys.maxsize, root: Path = _ROOT) -> int:
    """`wanted`, by default all, but no more than this process may use, and one at least.

    Threads that share a core wait in barriers for each other, and compute ten times slower than half as many.
    """
    return min(wanted, max(1, int(allowed_cores(root))))


def available_memory_bytes(root: Path = _ROOT) -> int | None:
    """Memory that this process can still get; None where the system does not tell."""
    free = _available_on_machine(root)
    left = [limit - used for limit, used in _memory_limits(root)]
    known = [*left, *([free] if free is not None else [])]
    return max(0, min(known)) if known else None


def memory_limit_bytes(pid: int, root: Path = _ROOT) -> int:
    """The least memory that a control group of the process `pid` is limited to (bytes); 0 where there is no limit."""
    return min((limit for limit, _ in _memory_limits(root, str(pid)) if limit < _UNLIMITED), default=0)


def oom_kill_counter(pid: int, root: Path = _ROOT) -> Path:
    """The file that counts, in a line `oom_kill`, the processes like `pid` that the kernel killed for lack of memory.

    That of its own control group; where there is none, the machine's.
    """
    for controller, name in {"": "memory.events", "memory": "memory.oom_control"}.items():
        for folder in _groups(root, controller, str(pid)):
            if oom_kills(folder / name) is not None:
                return folder / name
    return root / "proc/vmstat"


def oom_kills(counter: Path) -> int | None:
    """What such a file counts; None where it counts nothing of the kind."""
    for line in _lines(counter):
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.isdigit():
            return int(count)
    return None


def is_in_memory(path: Path, root: Path = _ROOT) -> bool:
    """Whether files at `path` lie in memory (tmpfs), where they take from what processes have."""
    best, kind = "", ""
    for line in _lines(root / "proc/self/mounts"):
        _, place, filesystem, *_ = line.split()
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, filesystem
    return kind in ("tmpfs", "ramfs")


def _available_on_machine(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _quotas(root: Path) -> Iterator[float]:
    """Every quota on cores, as a number of cores."""
    for folder in _groups(root, ""):
        quota, _, period = _word(folder / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
    for folder in _groups(root, "cpu"):
        quota, period = _word(folder / "cpu.cfs_quota_us"), _word(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # without a limit the quota is -1
            yield int(quota) / int(period)


def _memory_limits(root: Path, process: str = "self") -> Iterator[tuple[int, int]]:
    """(limit, used) of every limit on a process's memory, in bytes."""
    names = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    for controller, (limit_name, used_name) in names.items():
        for folder in _groups(root, controller, process):
            limit, used = _word(folder / limit_name), _word(folder / used_name)
            if limit.isdigit() and used.isdigit():
                yield int(limit), int(used)


def _groups(root: Path, controller: str, process: str = "self") -> Iterator[Path]:
    """The folders of a process's control groups, its own first; `controller` is empty for version 2.

    In a container the path is often the host's, and what it leads to is mounted at the top: the top always counts.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in _lines(root / "proc" / process / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = top / path.strip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top))
            return


def _word(path: Path) -> str:
    return "\n".join(_lines(path)).strip()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
