"""What a process may use, as control groups of both versions say it; the files are as Linux writes them."""

import os
from pathlib import Path

import pytest

from sunspark.limits import (
    allowed_cores,
    available_memory_bytes,
    is_in_memory,
    memory_limit_bytes,
    oom_kill_counter,
    oom_kills,
    usable_cores,
)

CORES = float(len(os.sched_getaffinity(0)))
GIB = 2**30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CORES),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, CORES),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/of/the/host", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "25000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "50000 100000",
            },
            0.25,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n0::/",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "75000",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.75,
        ),
    ],
    ids=["no groups", "no limit", "version 2", "version 2 in a container", "the lowest on the way", "version 1"],
)
def test_a_quota_counts_wherever_it_is_set(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    assert allowed_cores(tree(tmp_path, files)) == cores


def test_no_more_threads_than_cores_and_one_at_least(tmp_path: Path) -> None:
    assert usable_cores(1, tmp_path) == 1
    assert usable_cores(int(CORES) + 3, tmp_path) == CORES
    quota = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}
    assert usable_cores(4, tree(tmp_path, quota)) == 1


MACHINE = {"proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB"}


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, None),
        (MACHINE, 8 * GIB),
        (
            MACHINE
            | {
                "proc/self/cgroup": "0::/pod",
                "sys/fs/cgroup/pod/memory.max": str(3 * GIB),
                "sys/fs/cgroup/pod/memory.current": str(GIB),
            },
            2 * GIB,
        ),
        (
            MACHINE
            | {
                "proc/self/cgroup": "0::/pod",
                "sys/fs/cgroup/pod/memory.max": "max",
                "sys/fs/cgroup/pod/memory.current": str(GIB),
            },
            8 * GIB,
        ),
        (
            MACHINE
            | {
                "proc/self/cgroup": "4:memory:/yarn/1",
                "sys/fs/cgroup/memory/yarn/1/memory.limit_in_bytes": str(GIB),
                "sys/fs/cgroup/memory/yarn/1/memory.usage_in_bytes": str(2 * GIB),
            },
            0,
        ),
    ],
    ids=["not told", "no groups", "version 2", "no limit", "version 1, over its limit"],
)
def test_memory_is_what_the_narrowest_limit_leaves(tmp_path: Path, files: dict[str, str], available: int) -> None:
    assert available_memory_bytes(tree(tmp_path, files)) == available


def test_this_machine_has_some_of_both() -> None:
    assert 0 < allowed_cores() <= CORES
    assert (available_memory_bytes() or 0) > 0


def test_what_lies_in_memory_is_known_by_its_mount(tmp_path: Path) -> None:
    root = tree(
        tmp_path, {"proc/self/mounts": "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/a ext4 rw 0 0"}
    )
    assert is_in_memory(Path("/tmp"), root)
    assert is_in_memory(Path("/tmp/b/c"), root)
    assert not is_in_memory(Path("/tmp/a/b"), root)
    assert not is_in_memory(Path("/tmpfs"), root)


@pytest.mark.parametrize(
    ("groups", "files", "limit", "counter"),
    [
        ("0::/", {"proc/vmstat": "oom_kill 3"}, 0, "proc/vmstat"),
        (
            "0::/pod/box",
            {
                "sys/fs/cgroup/pod/memory.max": str(GIB),
                "sys/fs/cgroup/pod/box/memory.max": "max",
                "sys/fs/cgroup/pod/box/memory.events": "oom 4\noom_kill 3\noom_group_kill 0",
            },
            GIB,
            "sys/fs/cgroup/pod/box/memory.events",
        ),
        (
            "4:memory:/yarn/1\n0::/",
            {
                "sys/fs/cgroup/memory/yarn/1/memory.limit_in_bytes": str(GIB),
                "sys/fs/cgroup/memory/yarn/1/memory.usage_in_bytes": "1",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
                "sys/fs/cgroup/memory/yarn/1/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
            },
            GIB,
            "sys/fs/cgroup/memory/yarn/1/memory.oom_control",
        ),
    ],
    ids=["no groups", "version 2", "version 1"],
)
def test_the_groups_of_another_process_say_its_limit_and_count_its_deaths(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int, counter: str
) -> None:
    used = {name.replace("memory.max", "memory.current"): "1" for name in files if name.endswith("memory.max")}
    root = tree(tmp_path, {"proc/77/cgroup": groups} | used | files)
    assert memory_limit_bytes(77, root) == limit
    assert oom_kill_counter(77, root) == root / counter
    assert oom_kills(root / counter) == 3
