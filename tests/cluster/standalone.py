"""A Spark standalone cluster on such hosts: a driver's, a master's, and as many worker hosts as are asked for."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self, final

import pyspark
from pyspark.find_spark_home import _find_spark_home

from sunspark.config import to_dict
from sunspark.launch.config import TrainConfig
from sunspark.launch.java import find_java
from sunspark.parallel.faults import Fault
from tests.cluster.namespaces import Host, Network
from tests.distributed.harness import wait_until

MEGABITS_PER_SECOND: Final = 750
_START_SECONDS: Final = 90.0
_SHORT_LIVED: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""Java processes that live for a minute: to compile well takes longer than it saves."""
REPOSITORY: Final = Path(__file__).parents[2]


@final
class Driver:
    """A training that runs on the driver's host."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log

    def result(self, timeout_seconds: float) -> dict[str, object]:
        """What the training came to. Raises AssertionError with the log when it fails or takes longer."""
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver did not end within {timeout_seconds:.0f} s:\n{self.tail()}") from None
        assert code == 0, f"the driver ended with {code}:\n{self.tail()}"
        result: dict[str, object] = json.loads(self.log.read_text().splitlines()[-1])
        return result

    def kill(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait(30)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


@final
class Standalone:
    """The cluster. A context manager: at its end all of it is gone."""

    def __init__(self, folder: Path, *, megabits_per_second: int = MEGABITS_PER_SECOND, cores: int = 1) -> None:
        self.folder = folder
        self.cores = cores
        """Of each worker host, as Spark is told; all are those of this machine."""
        self.network = Network(megabits_per_second)
        self.disk = folder / "disk"
        """Where every worker host has a small disk of its own, for temporary files."""
        self.workers: list[Host] = []
        self._numbers = itertools.count()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            "JAVA_HOME": str(find_java(pyspark.__version__).home),
            "SPARK_HOME": _find_spark_home(),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": _SHORT_LIVED,
            "SPARK_CONF_DIR": str(folder / "conf"),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}",
        }

    def __enter__(self) -> Self:
        self.network.__enter__()
        try:
            self.driver = self.network.add("driver")
            self.master = self.network.add("master")
            self._configure()
            self._spark_class(self.master, "master.Master", "--host", self.master.address, "--port", "7077")
        except BaseException:
            self.network.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.network.__exit__()
        for daemon in self._daemons.values():
            daemon.wait(30)

    @property
    def uri(self) -> str:
        return f"spark://{self.master.address}:7077"

    def add_workers(self, count: int, hostname: str = "", hidden: Sequence[Path] = ()) -> list[Host]:
        """Start worker hosts, and wait until the master knows them. They do not see what is `hidden`."""
        added = [self.network.add(f"worker{next(self._numbers)}", hostname) for _ in range(count)]
        self.workers += added
        for host in added:
            own = str(self.folder / host.address)
            arguments = [
                "--host",
                host.address,
                "--cores",
                str(self.cores),
                "--memory",
                "2g",
                "--work-dir",
                own,
                self.uri,
            ]
            self._spark_class(host, "worker.Worker", *arguments, disks=[self.disk, *hidden])
        log = self.folder / f"{self.master.address}.log"
        wait_until(
            lambda: all(f"Registering worker {host.address}:" in log.read_text() for host in added),
            _START_SECONDS,
            f"the master's word of {count} workers",
        )
        return added

    def disk_of(self, host: Host) -> Path:
        """The host's own disk, as Spark's worker there sees it."""
        return Path(f"/proc/{self._daemons[host.address].pid}/root{self.disk}")

    def have_workers(self, count: int) -> list[Host]:
        """That many worker hosts, all of one name, as containers often are; some are added, or lost, for it."""
        for host in self.workers[count:]:
            self.lose(host)
        if missing := count - len(self.workers):
            self.add_workers(missing, hostname="node")
        return list(self.workers)

    def lose(self, host: Host) -> None:
        """A worker host is lost for good."""
        self.network.remove(host)
        self.workers.remove(host)

    def train(self, dataset: str, run: Path, config: TrainConfig, faults: Sequence[Fault] = ()) -> Driver:
        """Start a training on the driver's host."""
        return self.drive(training_command(self.folder, dataset, run, config, faults))

    def drive(self, command: Sequence[str], **environment: str) -> Driver:
        """Start a command on the driver's host; its last line shall be the result as JSON."""
        log = self.folder / f"driver-{time.monotonic_ns()}.log"
        return Driver(self.driver.start(command, self._environment | environment, log), log)

    def _configure(self) -> None:
        (self.folder / "conf").mkdir(parents=True)
        self.disk.mkdir()
        settings = {
            "spark.master": self.uri,
            "spark.driver.host": self.driver.address,
            "spark.driver.bindAddress": self.driver.address,
            "spark.driver.memory": "512m",
            "spark.driver.extraJavaOptions": _SHORT_LIVED,
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": _SHORT_LIVED,
            "spark.executor.cores": str(self.cores),
            "spark.local.dir": str(self.folder / "local"),
            "spark.ui.enabled": "false",
        }
        lines = "".join(f"{key} {value}\n" for key, value in settings.items())
        (self.folder / "conf" / "spark-defaults.conf").write_text(lines)

    def _spark_class(self, host: Host, name: str, *arguments: str, disks: Sequence[Path] = ()) -> None:
        program = os.path.join(self._environment["SPARK_HOME"], "bin", "spark-class")
        command = [program, f"org.apache.spark.deploy.{name}", *arguments]
        own = {"SPARK_LOCAL_IP": host.address, "SPARK_PUBLIC_DNS": host.address}
        environment = self._environment | own | ({"TMPDIR": str(self.disk)} if disks else {})
        self._daemons[host.address] = host.start(command, environment, self.folder / f"{host.address}.log", disks)


def training_command(
    folder: Path, dataset: str, run: Path, config: TrainConfig, faults: Sequence[Fault] = ()
) -> list[str]:
    """The command of a driver process; what it is told goes to a file in `folder`."""
    task = folder / f"task-{time.monotonic_ns()}.json"
    told = {"dataset": dataset, "run": str(run), "config": to_dict(config), "faults": [asdict(f) for f in faults]}
    task.write_text(json.dumps(told))
    return [sys.executable, "-m", "tests.cluster.driver", str(task)]
