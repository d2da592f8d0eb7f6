"""Opening a Spark session: the one seam for Java, for the master that is asked for, and for what Spark must not do.

`--master` defaults to what Spark is configured with (spark-submit, spark-defaults), else `local[*]`.
"""

import contextlib
import math
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pyspark
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import SparkSession

from sunspark.errors import ConfigError, SetupError, first_line_of
from sunspark.launch.java import find_java

GPU: Final = "gpu"
"""Spark's name for GPUs among the resources of executors and tasks."""
EXECUTORS_SECONDS: Final = 30.0
"""How long a start waits for executors for all workers."""

_MASTER_SECONDS: Final = 10.0
"""How long a standalone master may take to answer."""
_DEFAULT_MASTER: Final = "local[*]"
_LOGGING: Final = Path(__file__).with_name("log4j2.properties")
_ON_ONE_MACHINE: Final = {
    # Spark's own ports stay on this machine too.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}


@contextlib.contextmanager
def open_session(master: str | None, app_name: str) -> Iterator[SparkSession]:
    """The session that is there already, or a new one, which is stopped at the end; the other is left as it was.

    Raises SetupError without a Java that Spark takes or when Spark does not start; ConfigError when `master`
    contradicts Spark's configuration, or that configuration holds what sunspark cannot work with.
    """
    if os.environ.get("SPARK_REMOTE"):
        raise ConfigError("Spark Connect cannot place sunspark's workers; unset SPARK_REMOTE and use a classic session")
    context = SparkContext._active_spark_context
    if context is None:
        os.environ["JAVA_HOME"] = str(find_java(pyspark.__version__).home)
    configured = configured_master()
    if master and configured and master != configured:
        raise ConfigError(f"--master is {master} but Spark is configured with {configured}; leave one of them out")
    if context is not None:
        session = SparkSession.builder.getOrCreate()
        _check(session)
        yield session
        return
    with contextlib.ExitStack() as started:
        with _interrupts_held_back():
            session = _start(master or configured or _DEFAULT_MASTER, app_name)
            started.callback(_stop, session)
        _check(session)
        yield session


def configured_master() -> str | None:
    """The master of the session that is there, of spark-submit or of spark-defaults.conf, if there is one."""
    if context := SparkContext._active_spark_context:
        return context.master
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()
        return SparkConf().get("spark.master")
    defaults = _configuration_folder() / "spark-defaults.conf"
    if defaults.is_file():
        for line in defaults.read_text().splitlines():
            if match := re.match(r"\s*spark\.master[\s=:]+(\S+)", line):
                return match[1]
    return None


def num_slots(session: SparkSession, cores_per_worker: int, wanted: int) -> int:
    """How many workers Spark can run at once; waits a while for executors while there are fewer than `wanted`."""
    context, master = session.sparkContext, session.sparkContext.master or ""
    if match := re.fullmatch(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?", master):
        # Spark takes `*` for all processors of the machine, whatever this process may use.
        cores = {None: 1, "*": os.cpu_count() or 1}.get(match[1]) or int(match[1])
        return cores // cores_per_worker
    deadline = time.monotonic() + EXECUTORS_SECONDS
    while (slots := _cluster_cores(context, cores_per_worker)) < wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    return slots


def executors_may_come(session: SparkSession, cores_per_worker: int) -> bool:
    """Whether there is no executor yet, but one would have room for a worker: it is late, or awaits the first job."""
    context = session.sparkContext
    is_empty = not is_on_one_machine(master_of(session)) and not num_executors(context)
    return is_empty and _slots_on(context, 1, cores_per_worker) > 0


def num_executors(context: SparkContext) -> int:
    """How many executors Spark has now; of a local master, none."""
    return len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1  # the driver is among them


def is_on_one_machine(master: str) -> bool:
    """Whether all is on this machine, local-cluster included: there will never be more slots, and no host is added."""
    return master.startswith("local")


def is_local(master: str) -> bool:
    """Whether tasks run in the driver's own process on this machine, where Spark gives them no GPUs."""
    return re.match(r"local(\[|$)", master) is not None


def master_of(session: SparkSession) -> str:
    """The master of a session."""
    return str(session.sparkContext.master)


def gpu_amount(context: SparkContext, of: Literal["executor", "task"]) -> float:
    """How many GPUs an executor has, or a task asks for, as Spark is configured; 0 if it is not."""
    key = f"spark.{of}.resource.{GPU}.amount"
    return amount_of(key, context.getConf().get(key) or "0")


def amount_of(key: str, value: str) -> float:
    """The number that a key of Spark's configuration holds; ConfigError when it holds none."""
    try:
        amount = float(value)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise ConfigError(f"{key} is {value!r}, which is no number of GPUs; set it to 1, or leave it out")
    return amount


def driver_address(session: SparkSession) -> str:
    """The address of this host that executors reach."""
    return str(session.sparkContext.getConf().get("spark.driver.host", "127.0.0.1"))


def _check(session: SparkSession) -> None:
    if limit := session.conf.get("spark.executor.pyspark.memory", None):
        raise ConfigError(
            f"spark.executor.pyspark.memory is {limit}: its hard limit would be inherited by the workers; "
            "remove it and give the executors spark.executor.memoryOverhead instead"
        )


def _start(master: str, app_name: str) -> SparkSession:
    if is_on_one_machine(master):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if not (_configuration_folder() / "log4j2.properties").exists():
        os.environ.setdefault("SPARK_SUBMIT_OPTS", f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}")
    _refuse_silent(master)
    try:
        SparkContext._ensure_initialized()
        conf = SparkConf().setMaster(master).setAppName(app_name)
        conf.set("spark.ui.showConsoleProgress", "false")
        # Else Spark's end waits two minutes for each host that is lost to confirm that it has forgotten a broadcast.
        conf.setIfMissing("spark.cleaner.referenceTracking.blocking", "false")
        for key, value in _ON_ONE_MACHINE.items() if is_on_one_machine(master) else ():
            conf.setIfMissing(key, value)
        return SparkSession.builder.config(conf=conf).getOrCreate()
    except (PySparkException, Py4JError, OSError) as error:
        raise SetupError(f"Spark did not start on master {master}: {_cause_of(error)}") from error


def _refuse_silent(master: str) -> None:
    """SetupError where none of the addresses of a standalone master takes a connection: Spark tries for a minute."""
    addresses = master.removeprefix("spark://").split(",") if master.startswith("spark://") else []
    reasons = [reason for address in addresses if (reason := _why_silent(address))]
    if addresses and len(reasons) == len(addresses):
        raise SetupError(
            f"no Spark master answers at {master} ({'; '.join(reasons)}); check host and port, which the master's own "
            "page shows, and that it runs"
        )


def _why_silent(address: str) -> str:
    """Empty where somebody listens, and where the address is none: of that, Spark tells."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and int(port) < 2**16):
        return ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _MASTER_SECONDS):
            return ""
    except OSError as error:
        return f"{address}: {error.strerror or error}"


def _stop(session: SparkSession) -> None:
    with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone: whoever used it has said so
        session.stop()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C, and what is taken like it, waits until Spark has started: pyspark would leave its Java process behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is signal.default_int_handler]
    for number in numbers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    except SetupError:
        if not came:  # else Java was told to end, too, and its failure is no cause
            raise
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def _cause_of(error: Exception) -> str:
    """The innermost cause that Java gives, else the first line."""
    lines = [line.strip() for line in str(error).splitlines()]
    given = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
    caused = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return next(iter(reversed([*given, *caused])), first_line_of(error))


def _configuration_folder() -> Path:
    return Path(os.environ.get("SPARK_CONF_DIR") or Path(_find_spark_home()) / "conf")


def _cluster_cores(context: SparkContext, cores_per_worker: int) -> int:
    if match := re.fullmatch(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]", context.master or ""):
        executors = int(match[1])
        return min(executors * (int(match[2]) // cores_per_worker), _gpu_slots(context, executors))
    return _slots_on(context, num_executors(context), cores_per_worker)


def _slots_on(context: SparkContext, executors: int, cores_per_worker: int) -> int:
    cores = int(context.getConf().get("spark.executor.cores", "0") or 0)
    if not cores:  # standalone without a limit: an executor has all cores of its host
        return min(int(context.defaultParallelism) // cores_per_worker, _gpu_slots(context, executors))
    return min(executors * (cores // cores_per_worker), _gpu_slots(context, executors))


def _gpu_slots(context: SparkContext, executors: int) -> int:
    """Tasks for which so many executors have GPUs; any number where they ask for none."""
    asked = gpu_amount(context, "task")
    return int(executors * gpu_amount(context, "executor") / asked) if asked else sys.maxsize
