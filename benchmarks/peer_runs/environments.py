"""What the peers need to run: environments of their own, and the pandas that TorchDistributor asks for."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


def elephas_python(folder: Path) -> Path:
    """The interpreter of a virtual environment with Elephas, built in `folder` unless it is there."""
    return _environment(folder, "elephas")


def loaders_python(folder: Path) -> Path:
    """The interpreter of a virtual environment with litdata and mosaicml-streaming, built in `folder` likewise."""
    return _environment(folder, "loaders")


def _environment(folder: Path, name: str) -> Path:
    python = folder / name / "bin" / "python"
    requirements = HERE / f"{name}-requirements.txt"

    def build() -> None:
        _uv("venv", "--clear", "--python", "3.11", str(folder / name))
        _uv("pip", "install", "--no-deps", "--python", str(python), "--requirements", str(requirements))

    _once(folder / f"{name}.txt", requirements, build)
    return python


def pandas_folder(folder: Path) -> Path:
    """A folder to put on the path of sunspark's own environment, which has all else that TorchDistributor needs."""
    target, requirements = folder / "pandas", HERE / "pandas-requirements.txt"

    def build() -> None:
        where = ["--python", sys.executable, "--target", str(target)]
        _uv("pip", "install", "--no-deps", *where, "--requirements", str(requirements))

    _once(folder / "pandas.txt", requirements, build)
    return target


def _once(stamp: Path, requirements: Path, build: Callable[[], None]) -> None:
    """Build, unless it was built from these requirements to the end."""
    wanted = requirements.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        build()
        stamp.write_text(wanted)


def _uv(*words: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        sys.exit("uv builds the environments of the peers, and is not there; run 'make setup'")
    subprocess.run([program, *words], check=True)
