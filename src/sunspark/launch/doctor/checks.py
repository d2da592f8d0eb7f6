"""What is right, doubtful or wrong with a machine: a pure function of what was found there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sunspark.launch.doctor.machine import LIBRARIES, Machine

Status = Literal["ok", "warning", "wrong"]
Launcher = Literal["spark", "local"]

_OLDEST: Final = {"torch": (2, 7), "torchft": (0, 2), "pyspark": (3, 5)}
_OLDEST_PYTHON: Final = (3, 11)
_OWN_ROW: Final = ("pyspark", "torch", "torchft")
_MUST_BE_EQUAL: Final = ("sunspark", "pyspark", "torchft")
"""Two versions of these may not understand each other; of the others, they round differently at most."""
_GIB: Final = 2**30
_NEEDED_MEMORY_BYTES: Final = 1 * _GIB
_GOOD_MEMORY_BYTES: Final = 2 * _GIB
_GOOD_DISK_BYTES: Final = 8 * _GIB
"""The default of `cache_bytes`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """wrong: training would fail. warning: it would be slow, or differ."""
    found: str
    remedy: str = ""
    """What to do; empty when there is nothing to do."""


def checks_of(machine: Machine, launcher: Launcher = "spark") -> Iterator[Check]:
    """Everything about one machine."""
    yield _python(machine)
    for name in _OWN_ROW:
        yield _library(machine, name, launcher)
    yield _other_libraries(machine)
    yield _cores(machine)
    yield _memory(machine)
    yield _disk(machine)
    yield _gpu(machine)


def differences_between(machine: Machine, driver: Machine) -> Iterator[Check]:
    """What is of another version than the driver's; what is missing altogether is told by `checks_of`."""
    if _numbers(machine.python)[:2] != _numbers(driver.python)[:2]:
        yield Check(
            name="Python",
            status="wrong",
            found=f"{machine.python}, the driver has {driver.python}",
            remedy="let PYSPARK_PYTHON and the driver's Python be of one version",
        )
    for name, wanted in driver.versions.items():
        there = machine.versions.get(name, wanted)
        if there != wanted:
            yield Check(
                name=name,
                status="wrong" if name in _MUST_BE_EQUAL else "warning",
                found=f"{there}, the driver has {wanted}",
                remedy=f"install {name}=={wanted} for {machine.executable}",
            )


def wrong(name: str, message: str, remedy: str) -> Check:
    """What one of our errors says, which is "what happened; what to do"; `remedy` is for one that lacks the second."""
    found, mark, given = message.rpartition("; ")
    return Check(name=name, status="wrong", found=found if mark else given, remedy=given if mark else remedy)


def in_gib(num_bytes: float) -> str:
    """A number of bytes, for people."""
    return f"{num_bytes / _GIB:.1f} GiB"


def _python(machine: Machine) -> Check:
    is_old = _numbers(machine.python)[:2] < _OLDEST_PYTHON
    return Check(
        name="Python",
        status="wrong" if is_old else "ok",
        found=f"{machine.python}, {machine.executable}",
        remedy="use Python 3.11 or later" if is_old else "",
    )


def _library(machine: Machine, name: str, launcher: Launcher) -> Check:
    oldest = _OLDEST[name]
    wanted = ".".join(map(str, oldest))
    is_needed = name != "pyspark" or launcher == "spark"
    status: Status = "wrong" if is_needed else "warning"
    if name in machine.broken:
        remedy = f"install {name}>={wanted} for {machine.executable}"
        found = f"cannot be imported: {machine.broken[name]}"
        return Check(name=name, status=status, found=found, remedy=remedy)
    there = machine.versions[name]
    if _numbers(there) and _numbers(there)[: len(oldest)] < oldest:
        return Check(name=name, status=status, found=there, remedy=f"install {name}>={wanted}")
    return Check(name=name, status="ok", found=there)


def _other_libraries(machine: Machine) -> Check:
    others = [name for name in LIBRARIES if name not in _OWN_ROW]
    broken = [f"{name} cannot be imported ({machine.broken[name]})" for name in others if name in machine.broken]
    if broken:
        remedy = f"install what is missing for {machine.executable}"
        return Check(name="libraries", status="wrong", found="; ".join(broken), remedy=remedy)
    return Check(name="libraries", status="ok", found=", ".join(f"{name} {machine.versions[name]}" for name in others))


def _cores(machine: Machine) -> Check:
    found = f"{machine.cores:g}"
    if machine.cores < 1:
        remedy = "give the container a whole core for each worker"
        return Check(name="cores", status="warning", found=f"{found}, less than one", remedy=remedy)
    return Check(name="cores", status="ok", found=found)


def _memory(machine: Machine) -> Check:
    if machine.memory_bytes is None:
        return Check(name="memory", status="ok", found="not told by this system")
    found = f"{in_gib(machine.memory_bytes)} to be had"
    if machine.memory_bytes < _NEEDED_MEMORY_BYTES:
        remedy = "free some, or raise the limit of the container (on Spark: spark.executor.memoryOverhead)"
        return Check(name="memory", status="wrong", found=f"{found}, a worker needs about 1 GiB", remedy=remedy)
    if machine.memory_bytes < _GOOD_MEMORY_BYTES:
        return Check(
            name="memory", status="warning", found=found, remedy="start one small worker here, or free some memory"
        )
    return Check(name="memory", status="ok", found=found)


def _disk(machine: Machine) -> Check:
    found = f"{in_gib(machine.cache_free_bytes)} free in {machine.cache_directory}"
    elsewhere = "choose another folder with 'sunspark train --cache-directory'"
    if machine.cache_error:
        found = f"{machine.cache_directory} cannot be written: {machine.cache_error}"
        return Check(name="disk", status="wrong", found=found, remedy=elsewhere)
    if machine.cache_is_in_memory:
        found += ", which lies in memory: the cache would take it from the workers"
        return Check(name="disk", status="warning", found=found, remedy=elsewhere)
    if machine.cache_free_bytes < _GOOD_DISK_BYTES:
        remedy = f"{elsewhere}, or lower its --cache-bytes: blocks that do not fit are fetched repeatedly"
        return Check(name="disk", status="warning", found=f"{found}, the cache may take 8 GiB", remedy=remedy)
    return Check(name="disk", status="ok", found=found)


def _gpu(machine: Machine) -> Check:
    if machine.gpus:
        return Check(name="GPU", status="ok", found="; ".join(machine.gpus))
    if machine.gpus_of_system and "torch" in machine.versions:
        return Check(
            name="GPU",
            status="warning",
            found=f"{machine.gpus_of_system} in this machine, none that torch {machine.versions['torch']} can use",
            remedy="see that the driver of the GPU is as new as torch's CUDA needs ('nvidia-smi' tells)",
        )
    return Check(name="GPU", status="ok", found="none")


def _numbers(text: str) -> tuple[int, ...]:
    """`2.7.1+cu128` -> (2, 7, 1); nothing for what is no version."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
