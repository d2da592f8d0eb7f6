"""Find a Java that Spark takes: Spark needs one, and fails in unhelpful words with the wrong one.

Taken is Java 17 to 25, whatever the version of Spark; of Java 25 only 25.0.3 and later, since those before can
corrupt data (SPARK-56843). Tests run with the Spark that the lock names; an older one may not take every Java of these.
`python -m sunspark.launch.java` prints the home of the Java that is found, for scripts.
"""

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

OLDEST: Final = 17
NEWEST: Final = 25
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

    @property
    def fits_spark(self) -> bool:
        """Whether Spark runs on it, and runs rightly."""
        damaged_from, mended_in = _DAMAGED
        damaged = damaged_from <= self.version < mended_in
        return OLDEST <= self.version[0] <= NEWEST and not damaged


def find_java(environment: Mapping[str, str] | None = None) -> Java:
    """The first fitting Java of: JAVA_HOME, `java` on the PATH, the usual places, newest first.

    Raises SetupError when there is none; the message names those that do not fit.
    """
    unfit: dict[Path, str] = {}
    for home in _homes(os.environ if environment is None else environment):
        version = _version_of(home)
        if version and Java(home=home, version=version).fits_spark:
            return Java(home=home, version=version)
        unfit[home] = ".".join(map(str, version)) if version else "no Java there"
    found = "; ".join(f"{home} ({what})" for home, what in unfit.items()) or "none"
    raise SetupError(
        f"Spark needs Java {OLDEST} to {NEWEST} (of Java 25: 25.0.3 or later), found: {found}; install one, "
        f"for instance with 'apt-get install openjdk-17-jre-headless', or let JAVA_HOME point to one"
    )


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
        sys.stdout.write(f"{find_java().home}\n")
    except SetupError as error:
        sys.exit(f"sunspark: {error}")
