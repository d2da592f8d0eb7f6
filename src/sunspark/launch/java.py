"""Find a Java that Spark takes: Spark needs one, and fails in unhelpful words with the wrong one.

Which Java that is depends on the Spark (what its own documentation says), except that of Java 25 only 25.0.3 and later
are taken, since those before can corrupt data (SPARK-56843).
For scripts, `python -m sunspark.launch.java` prints the home of a Java for the Spark that is installed, and with the
word `versions` the versions to install, the best first.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sunspark.errors import SetupError

_TAKEN: Final = {(0,): (17, 11, 8), (4, 0): (17, 21), (4, 2): (17, 21, 25)}
"""From that Spark on: the Java versions with long support, the best first. Taken is what lies between, too."""
_DAMAGED: Final = ((25,), (25, 0, 3))
"""From the first version on and before the second, data may be corrupted."""

_USUAL_PLACES: Final = ("/usr/lib/jvm/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home", "/opt/java/*")
_ASKING_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Java:
    """One installed Java."""

    home: Path
    """What JAVA_HOME should be."""
    version: tuple[int, ...]
    """For instance (17, 0, 15)."""


def java_versions(spark: str) -> tuple[int, ...]:
    """The versions of Java that a version of Spark takes, the best first; for one that tells nothing, the newest's."""
    version = _numbers(spark) or (sys.maxsize,)
    return next(taken for since, taken in reversed(_TAKEN.items()) if since <= version)


def find_java(spark: str, environment: Mapping[str, str] | None = None) -> Java:
    """The first that fits this version of Spark, of: JAVA_HOME, `java` on the PATH, the usual places, newest first.

    Raises SetupError when there is none; the message names those that do not fit.
    """
    taken = java_versions(spark)
    unfit: dict[Path, str] = {}
    for home in _homes(os.environ if environment is None else environment):
        version = _version_of(home)
        if version and _fits(version, taken):
            return Java(home=home, version=version)
        unfit[home] = ".".join(map(str, version)) if version else "no Java there"
    found = "; ".join(f"{home} ({what})" for home, what in unfit.items()) or "none"
    but = " (of Java 25: 25.0.3 or later)" if max(taken) == 25 else ""
    raise SetupError(
        f"{f'Spark {spark}'.rstrip()} needs Java {min(taken)} to {max(taken)}{but}, found: {found}; install one, "
        f"for instance with 'apt-get install openjdk-{taken[0]}-jre-headless', or let JAVA_HOME point to one"
    )


def _fits(version: tuple[int, ...], taken: tuple[int, ...]) -> bool:
    """Whether Spark runs on it, and runs rightly."""
    damaged_from, mended_in = _DAMAGED
    return min(taken) <= version[0] <= max(taken) and not damaged_from <= version < mended_in


def _homes(environment: Mapping[str, str]) -> Iterator[Path]:
    if environment.get("JAVA_HOME"):
        yield Path(environment["JAVA_HOME"])
    on_path = shutil.which("java", path=environment.get("PATH", os.defpath))
    if on_path:
        yield Path(on_path).resolve().parent.parent
    installed = {home.resolve() for place in _USUAL_PLACES for home in Path("/").glob(place.lstrip("/"))}
    yield from sorted((home for home in installed if _executable(home).exists()), reverse=True)


def _version_of(home: Path) -> tuple[int, ...] | None:
    """Read from the `release` file, which costs nothing; Java itself is asked only where there is none."""
    if not os.access(_executable(home), os.X_OK):
        return None
    try:
        said = re.search(r'^JAVA_VERSION="([^"]+)"', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        said = re.search(r'version "([^"]+)"', _ask(home))
    return _numbers(said.group(1)) if said else None


def _ask(home: Path) -> str:
    try:
        command = [str(_executable(home)), "-version"]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_ASKING_TIMEOUT_SECONDS
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _numbers(version: str) -> tuple[int, ...] | None:
    """`17.0.15` -> (17, 0, 15); before Java 9, `1.8.0_402` is Java 8."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0]))
    return (numbers[1:] if numbers[:1] == (1,) else numbers) or None


def _executable(home: Path) -> Path:
    return home / "bin" / "java"


if __name__ == "__main__":
    try:
        installed = importlib.metadata.version("pyspark")
        wanted = java_versions(installed) if sys.argv[1:] == ["versions"] else [find_java(installed).home]
        sys.stdout.write(" ".join(map(str, wanted)) + "\n")
    except SetupError as error:
        sys.exit(f"sunspark: {error}")
