"""What is right, doubtful or wrong with a cluster: a pure function of what came back from its executors."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from sunspark.launch.doctor.checks import Check, checks_of, differences_between, wrong
from sunspark.launch.doctor.machine import Machine
from sunspark.launch.doctor.probe import Findings

_CLOCK_WARNING_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Executor:
    """One executor of Spark, and what came back from it."""

    name: str
    host: str
    machine: Machine | None = None
    """None when nothing came back."""
    findings: Findings | None = None
    error: str = ""
    """Why nothing, or not all, came back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterVisit:
    """What a visit to a cluster brought."""

    checks: list[Check] = field(default_factory=list)
    """About the cluster as a whole."""
    executors: list[Executor] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorResult:
    """An executor in the doctor's result."""

    name: str
    host: str
    python: str | None
    cores: float | None
    memory_bytes: int | None
    cache_free_bytes: int | None
    clock_ahead_seconds: float | None
    """How far its clock is ahead of the driver's."""
    dataset_bytes_per_second: float | None
    """None where there is no --dataset, or it cannot be read."""
    checks: list[Check]
    """What is not as it should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """The way from one executor to another."""

    source: str
    target: str
    latency_seconds: float | None
    """There and back; None when nothing came back."""
    bytes_per_second: float | None
    """None where it was not measured: only the ways of a ring through all executors are, all at the same time."""
    error: str


def result_of(executor: Executor, driver: Machine) -> ExecutorResult:
    """Judge one executor."""
    machine, findings = executor.machine, executor.findings
    return ExecutorResult(
        name=executor.name,
        host=executor.host,
        python=machine.python if machine else None,
        cores=machine.cores if machine else None,
        memory_bytes=machine.memory_bytes if machine else None,
        cache_free_bytes=machine.cache_free_bytes if machine else None,
        clock_ahead_seconds=findings.clock_ahead_seconds if findings else None,
        dataset_bytes_per_second=findings.dataset_bytes_per_second if findings else None,
        checks=[check for check in _checks_of_executor(executor, driver) if check.status != "ok"],
    )


def connections_of(executors: list[Executor]) -> list[Connection]:
    """All ways that were tried."""
    return [
        Connection(
            source=one.name,
            target=way.peer,
            latency_seconds=way.latency_seconds,
            bytes_per_second=way.bytes_per_second,
            error=way.error,
        )
        for one in executors
        if one.findings
        for way in one.findings.ways
    ]


def _checks_of_executor(executor: Executor, driver: Machine) -> Iterator[Check]:
    if executor.machine is None:
        yield _nothing_came(executor)
        return
    yield from checks_of(executor.machine)
    yield from differences_between(executor.machine, driver)
    if executor.findings is None:
        remedy = "look at its standard error, in Spark's web page"
        found = executor.error or "joined, but its measurements did not come in time"
        yield Check(name="measurements", status="wrong", found=found, remedy=remedy)
        return
    yield from _checks_of_findings(executor.findings)


def _checks_of_findings(findings: Findings) -> Iterator[Check]:
    if findings.dataset_error:
        remedy = "put it where every machine reads it under this name: a shared folder, hdfs:// or an object store"
        yield replace(wrong("dataset", findings.dataset_error, remedy), remedy=remedy)
    if unreachable := [way for way in findings.ways if way.error]:
        yield Check(
            name="network",
            status="wrong",
            found=f"executor {', '.join(way.peer for way in unreachable)} cannot be reached: {unreachable[0].error}",
            remedy="let the workers' machines reach each other's ports above 1023; docs/security.md has the rule",
        )
    if abs(findings.clock_ahead_seconds) > _CLOCK_WARNING_SECONDS:
        direction = "ahead of" if findings.clock_ahead_seconds > 0 else "behind"
        yield Check(
            name="clock",
            status="warning",
            found=f"{abs(findings.clock_ahead_seconds):.1f} s {direction} the driver's",
            remedy="let all machines keep time by NTP; records carry each machine's own time",
        )


def _nothing_came(executor: Executor) -> Check:
    """An executor that could not even be looked at."""
    error = executor.error or "nothing came back from it in time"
    if "No module named" in error:
        remedy = "install sunspark for the Python of the executors (PYSPARK_PYTHON)"
    elif "PYTHON_VERSION_MISMATCH" in error or "Python in worker has different version" in error:
        remedy = "let PYSPARK_PYTHON and the driver's Python be of one version"
    elif "grpc://" in error:
        remedy = "open the driver's port to the executors, or name an address that they reach with --host"
    elif "Cannot run program" in error:
        remedy = "let PYSPARK_PYTHON name a Python that is there on every machine"
    else:
        remedy = "look at its standard error, in Spark's web page; --timeout gives it more time"
    return Check(name="executor", status="wrong", found=error, remedy=remedy)
