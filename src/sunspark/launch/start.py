"""RUN/start.json: how a run was started last, on what, and how long it is, for whoever looks at the run later."""

import os
import platform
import socket
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from sunspark import run_directory, storage
from sunspark.command_line import words_of
from sunspark.data.order import StepPlan
from sunspark.launch.config import TrainConfig

_PACKAGES: Final = ("sunspark", "torch", "torchft", "pyspark", "pyarrow", "numpy", "pillow", "simplejpeg")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where the driver runs; workers name theirs when they join."""

    host: str
    system: str
    processor: str
    cores: int
    """That this process may use."""
    memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A start of a run."""

    time_unix_seconds: float
    command: list[str]
    """The words of a `sunspark train` that trains the same again."""
    workers: int
    """Workers that it was started with: no more than Spark has slots for."""
    steps: int
    """Of the whole run, from its first start on."""
    epochs: int
    steps_per_epoch: int
    versions: dict[str, str]
    machine: Machine


def write_start(dataset: str, run: str, config: TrainConfig, plan: StepPlan, workers: int) -> None:
    """Write RUN/start.json; `config` as it is settled, without what `auto` stands for."""
    installed = {name: _version_of(name) for name in _PACKAGES}
    start = Start(
        time_unix_seconds=time.time(),
        command=["sunspark", "train", dataset, run, *words_of(config, TrainConfig())],
        workers=workers,
        steps=plan.num_steps,
        epochs=plan.num_epochs,
        steps_per_epoch=plan.steps_per_epoch,
        versions={"python": platform.python_version()}
        | {name: version for name, version in installed.items() if version},
        machine=_this_machine(),
    )
    storage.write_json_atomic(run_directory.start_file(run), asdict(start))


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _this_machine() -> Machine:
    return Machine(
        host=socket.gethostname(),
        system=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def _processor() -> str:
    """The name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
