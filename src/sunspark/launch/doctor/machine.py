"""What there is on a machine, looked up where this runs: the driver's, or an executor's.

Nothing is judged here (`checks.py` does). A `Machine` travels as JSON.
Cost: imports torch and torchft, some seconds.
"""

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from sunspark.errors import first_line_of
from sunspark.limits import allowed_cores, available_memory_bytes, is_in_memory
from sunspark.storage.temporary import temporary_directory

LIBRARIES: Final = {
    "sunspark": "sunspark",
    "pyspark": "pyspark",
    "torch": "torch",
    "torchft": "torchft.coordination",
    "numpy": "numpy",
    "pyarrow": "pyarrow.flight",
    "pillow": "PIL.Image",
    "simplejpeg": "simplejpeg",
    "safetensors": "safetensors.torch",
}
"""What a driver and its workers import: name of the package -> module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a machine has, as far as training needs it."""

    python: str
    """For instance 3.11.9."""
    executable: str
    versions: dict[str, str]
    """Of the libraries that can be imported."""
    broken: dict[str, str]
    """Of those that cannot: why."""
    cores: float
    memory_bytes: int | None
    """That can still be had; None where the system does not tell."""
    cache_directory: str
    """Where the blocks of a dataset go by default."""
    cache_free_bytes: int
    cache_error: str
    """Why nothing can be written there; empty when something can."""
    cache_is_in_memory: bool
    gpus: list[str]
    """Those that torch can use."""
    gpus_of_system: int
    """Those that the system knows."""


def look_around(cache_directory: str | None = None) -> Machine:
    """What there is here."""
    versions, broken = _libraries()
    cache = Path(cache_directory or temporary_directory()).absolute()
    return Machine(
        python=platform.python_version(),
        executable=sys.executable,
        versions=versions,
        broken=broken,
        cores=allowed_cores(),
        memory_bytes=available_memory_bytes(),
        cache_directory=str(cache),
        cache_error=_why_not_writable(cache),
        cache_free_bytes=_free_bytes(cache),
        cache_is_in_memory=is_in_memory(cache),
        gpus=list(_gpus()) if "torch" in versions else [],
        gpus_of_system=len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]),
    )


def _libraries() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of what can be imported, and why the rest cannot."""
    os.environ.setdefault("RUST_LOG", "error")  # before torchft is imported
    versions, broken = {}, {}
    for package, module in LIBRARIES.items():
        try:
            importlib.import_module(module)
            versions[package] = _version_of(package)
        except Exception as error:  # a broken library may raise anything
            broken[package] = first_line_of(error)
    return versions, broken


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # put on the path without being installed, as Spark does with its own pyspark
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def _why_not_writable(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return first_line_of(error)
    return ""


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _gpus() -> Iterator[str]:
    torch: Any = importlib.import_module("torch")  # by its name, as the others: it may be what is missing
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            yield f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
