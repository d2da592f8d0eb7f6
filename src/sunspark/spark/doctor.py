"""The doctor on a cluster: a probe on every executor, started as workers are, by single-task jobs.

Spark places tasks where it likes. So each probe keeps its slot until all executors have one, and while one has none,
another job is started: it can only land where a slot is free. No barrier stage.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Final, final
from urllib.parse import urlsplit

from py4j.protocol import Py4JError
from pyspark import RDD, cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from sunspark import storage
from sunspark.errors import SunsparkError
from sunspark.launch.doctor import visit
from sunspark.launch.doctor.checks import Check, wrong
from sunspark.launch.doctor.cluster import ClusterVisit, Executor
from sunspark.launch.doctor.examine import DoctorConfig
from sunspark.launch.doctor.meeting import Meeting
from sunspark.launch.doctor.probe import Errand
from sunspark.launch.session import configured_master, driver_address, is_local, master_of, num_slots, open_session
from sunspark.spark.failures import cause_line

_POLL_SECONDS: Final = 0.2
_LEAVING_SECONDS: Final = 20.0
_ONLY_EXECUTOR: Final = "driver"
"""What Spark calls the executor of a local master, and the driver's place in the list of executors of every other."""


def visit_cluster(config: DoctorConfig) -> ClusterVisit:
    """What came back from every executor of the Spark that is asked for; nothing where none is configured."""
    if not (config.master or configured_master() or os.environ.get("SPARK_REMOTE")):
        return ClusterVisit()
    try:
        with open_session(config.master, "sunspark doctor") as session:
            slots = num_slots(session, config.cores_per_worker, config.workers)  # waits for executors that start
            return ClusterVisit(checks=[_spark(session), _slots(slots, config)], executors=_visit(session, config))
    except (SunsparkError, Py4JError, PySparkException, ConnectionError) as error:
        told = str(error) if isinstance(error, SunsparkError) else cause_line(str(error))
        return ClusterVisit(checks=[wrong("Spark", told, "see that the master runs, and that its address is right")])


def _spark(session: SparkSession) -> Check:
    return Check(name="Spark", status="ok", found=f"{session.version} on {session.sparkContext.master}")


def _slots(slots: int, config: DoctorConfig) -> Check:
    found = f"for {slots} workers of {config.cores_per_worker} cores"
    remedy = "give Spark more cores, or lower --workers or --cores-per-worker"
    if slots < 1:
        return Check(name="slots", status="wrong", found=found, remedy=remedy)
    if slots < config.workers:
        return Check(name="slots", status="warning", found=f"{found}, {config.workers} asked for", remedy=remedy)
    return Check(name="slots", status="ok", found=found)


def _visit(session: SparkSession, config: DoctorConfig) -> list[Executor]:
    token = secrets.token_urlsafe(32)
    with contextlib.closing(Meeting(config.host or driver_address(session), config.port, token)) as meeting:
        errand = Errand(
            executor=_ONLY_EXECUTOR if is_local(master_of(session)) else "",
            driver=meeting.uri,
            token=token,
            dataset=config.dataset and storage.absolute(config.dataset),
            cache_directory=config.cache_directory,
            timeout_seconds=config.timeout,
        )
        probes = _Probes(session, json.dumps(asdict(errand)))
        _gather(probes, meeting, config.timeout)
        meeting.let("measure")
        meeting.wait_for_findings(config.timeout)
        meeting.let("leave")
        probes.join(_LEAVING_SECONDS)
        hosts = _executors(session) | {name: host for name, (host, _) in probes.failures.items()}
        hosts |= {name: str(urlsplit(guest.uri).hostname) for name, guest in meeting.guests.items()}
        return [_executor(name, hosts[name], meeting, probes) for name in sorted(hosts, key=_by_number)]


def _gather(probes: _Probes, meeting: Meeting, timeout_seconds: float) -> None:
    """Start probes until every executor has one that has joined, or has failed, or the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        there = _executors(probes.session)
        uncovered = there.keys() - meeting.guests.keys() - probes.failures.keys()
        if there and not uncovered:
            return
        num_under_way = probes.num_started - meeting.num_joined - probes.num_ended
        probes.start(max(1, len(uncovered)) - num_under_way)  # one for each that has none, wherever they will land
        time.sleep(_POLL_SECONDS)


@final
@dataclass(slots=True)
class _Probes:
    """Threads, each with a Spark job of one task."""

    session: SparkSession
    errand: str
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Executor -> its host, and why no probe could work there."""
    last_error: str = ""
    """Of a task, wherever it was; the best there is to tell of an executor from which nothing else came."""
    num_ended: int = 0
    _group: str = field(default_factory=lambda: f"sunspark-doctor-{uuid.uuid4().hex}")
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def num_started(self) -> int:
        return len(self._threads)

    def start(self, count: int) -> None:
        """Start that many more. Returns at once."""
        for _ in range(count):
            thread = threading.Thread(target=self._run, daemon=True, name=f"probe-{self.num_started}")
            self._threads.append(thread)
            thread.start()

    def join(self, timeout_seconds: float) -> None:
        """Wait until all have returned; those that have not are cancelled."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self.session.sparkContext.cancelJobGroup(self._group)

    def _run(self) -> None:
        try:
            said = json.loads(self._one_task().collect()[0])
            if said["error"]:
                self.failures[said["executor"]] = said["host"], f"{said['error']} ({said['executable']})"
        except (Py4JError, PySparkException) as error:
            self.last_error = cause_line(str(error))
            if place := re.search(r"\((\S+) executor ([^\s)]+)\)", str(error)):
                self.failures[place[2]] = place[1], self.last_error
        finally:
            self.num_ended += 1

    def _one_task(self) -> RDD[str]:
        # Code, not a name: it must be able to say that sunspark is missing there.
        cloudpickle.register_pickle_by_value(visit)  # type: ignore[no-untyped-call]
        errand, call = self.errand, visit.visit

        def run(_: Iterable[int]) -> Iterator[str]:
            yield call(errand)

        context = self.session.sparkContext
        context.setJobGroup(self._group, "sunspark doctor", interruptOnCancel=True)
        return context.parallelize([0], 1).mapPartitions(run)


def _executors(session: SparkSession) -> dict[str, str]:
    """Spark's executors that are alive: id -> host."""
    listed = session.sparkContext._jsc.sc().statusStore().executorList(True)
    found = [listed.apply(number) for number in range(listed.size())]
    hosts = {str(one.id()): str(one.hostPort()).rpartition(":")[0] for one in found}
    return hosts if hosts.keys() == {_ONLY_EXECUTOR} else {k: v for k, v in hosts.items() if k != _ONLY_EXECUTOR}


def _executor(name: str, host: str, meeting: Meeting, probes: _Probes) -> Executor:
    guest = meeting.guests.get(name)
    _, error = probes.failures.get(name, ("", "" if guest else probes.last_error))
    return Executor(
        name=name,
        host=host,
        machine=guest.machine if guest else None,
        findings=meeting.findings.get(name),
        error=error,
    )


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (sys.maxsize, name)
