"""The doctor: would training work here, and on the cluster? What is here, what is missing, what to do."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from sunspark import storage
from sunspark.config import refuse_not_finite
from sunspark.data.dataset import Dataset
from sunspark.errors import ConfigError, SetupError, SunsparkError
from sunspark.launch.address import refuse_every_address
from sunspark.launch.doctor.checks import Check, checks_of, wrong
from sunspark.launch.doctor.cluster import ClusterVisit, Connection, ExecutorResult, connections_of, result_of
from sunspark.launch.doctor.machine import Machine, look_around
from sunspark.launch.doctor.probe import read_speed
from sunspark.launch.java import find_java

_THIS_MACHINE: Final = "127.0.0.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """The training that is planned, as far as its machines matter."""

    launcher: Literal["spark", "local"] = "spark"
    """spark: as tasks of a Spark cluster. local: as processes of this machine, without Spark and Java."""
    master: str | None = None
    """Spark master, whose executors are examined too; if not given, the one that Spark is configured with, if any."""
    workers: int = 2
    """Worker processes that are planned."""
    cores_per_worker: int = 1
    """Threads of each worker."""
    dataset: str | None = None
    """Dataset that every machine must read."""
    cache_directory: str | None = None
    """Local directory that will keep the dataset's blocks; by default where temporary files go."""
    host: str | None = None
    """Address of this machine that workers will reach; if not given, Spark's driver address, or 127.0.0.1."""
    port: int = 0
    """Port of the coordinator; the lighthouse takes the next one. 0: any two that are free."""
    timeout: float = 120.0
    """Longest wait for the executors to answer, and again for their measurements (seconds)."""

    def __post_init__(self) -> None:
        refuse_not_finite(self)
        refuse_every_address(self.host)
        for name in ("workers", "cores_per_worker"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.port < 65535:
            raise ConfigError(f"port must be between 0 and 65534, got {self.port}")
        if self.timeout <= 0:
            raise ConfigError(f"timeout must be above 0 s, got {self.timeout}")
        if self.launcher == "local" and self.master:
            raise ConfigError(f"--master {self.master} has no effect with --launcher local; leave one of them out")


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorResult:
    """What the doctor found."""

    ready: bool
    """Whether nothing is wrong: training would start. Warnings are allowed."""
    checks: list[Check]
    """This machine, and the cluster as a whole."""
    executors: list[ExecutorResult]
    connections: list[Connection]


def examine(config: DoctorConfig, visit_cluster: Callable[[DoctorConfig], ClusterVisit]) -> DoctorResult:
    """Examine this machine and, where Spark works here, what `visit_cluster` brings.

    A port that is taken is told once, and does not keep the cluster from being examined.
    """
    machine = look_around(config.cache_directory)
    checks = [*checks_of(machine, config.launcher), *_checks_of_driver(config, machine)]
    if config.launcher == "local":
        checks.append(_slots(config, machine))
    wrong = {check.name for check in checks if check.status == "wrong"}
    asked = replace(config, port=0, host=None) if "ports" in wrong else config
    can_visit = config.launcher == "spark" and not wrong & {"pyspark", "Java"}
    visit = visit_cluster(asked) if can_visit else ClusterVisit()
    checks += visit.checks
    executors = [result_of(executor, machine) for executor in visit.executors]
    found = [*checks, *(check for executor in executors for check in executor.checks)]
    return DoctorResult(
        ready=all(check.status != "wrong" for check in found),
        checks=checks,
        executors=executors,
        connections=connections_of(visit.executors),
    )


def _checks_of_driver(config: DoctorConfig, machine: Machine) -> Iterator[Check]:
    yield _java(config.launcher, machine.versions.get("pyspark", ""))
    yield _ports(config.host or _THIS_MACHINE, config.port)
    if config.dataset:
        yield _dataset(config.dataset)


def _slots(config: DoctorConfig, machine: Machine) -> Check:
    """Whether the workers that are planned fit on this machine."""
    found = (
        f"{config.workers} workers of {config.cores_per_worker} cores are planned, there are {machine.cores:g} cores"
    )
    if config.workers * config.cores_per_worker > machine.cores:
        remedy = "lower --workers or --cores-per-worker: they will wait for each other"
        return Check(name="slots", status="warning", found=found, remedy=remedy)
    return Check(name="slots", status="ok", found=found)


def _java(launcher: Literal["spark", "local"], spark: str) -> Check:
    """Whether there is one for that Spark."""
    try:
        java = find_java(spark)
    except SetupError as error:
        told = wrong("Java", str(error), "")
        return replace(told, status="wrong" if launcher == "spark" else "warning")
    return Check(name="Java", status="ok", found=f"{'.'.join(map(str, java.version))}, {java.home}")


def _ports(host: str, port: int) -> Check:
    """Whether the driver can listen where workers will look for it."""
    ports = (port, port + 1) if port else (0,)
    for number in ports:
        try:
            with contextlib.closing(socket.create_server((host, number))):
                pass
        except OSError as error:
            is_elsewhere = error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror)
            return Check(
                name="ports",
                status="wrong",
                found=f"cannot listen on {host}:{number}: {_cause_of(error)}",
                remedy="give --host an address of this machine"
                if is_elsewhere
                else "choose another --port, or 0 for any free one",
            )
    found = f"{' and '.join(map(str, ports))} of {host} are free" if port else f"free ones on {host}"
    return Check(name="ports", status="ok", found=found)


def _cause_of(error: OSError) -> str:
    """Without what `create_server` adds; the errors of name resolution count below zero and speak for themselves."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


def _dataset(dataset: str) -> Check:
    try:
        opened = Dataset.open(storage.absolute(dataset))
    except SunsparkError as error:
        return wrong("dataset", str(error), "give the folder that ingest has written")
    speed, reason = read_speed(opened.uri, 0)
    if speed is None:
        return wrong("dataset", reason, "see that it can be read from here")
    return Check(name="dataset", status="ok", found=f"{len(opened):,} images, read with {speed / 1e6:,.0f} MB/s")
