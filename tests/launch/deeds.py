"""What processes are told to do in tests: they are named by module, so they live in one of their own."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from sunspark.errors import SourceError, StorageError


@dataclass(frozen=True, slots=True)
class Named:
    path: str


@dataclass(frozen=True, slots=True)
class Deed:
    """A plan of one image; the folder counts the attempts."""

    folder: str
    number: int

    @property
    def images(self) -> tuple[Named, ...]:
        return (Named(f"image {self.number}"),)

    def attempts(self) -> int:
        """This one included."""
        with (Path(self.folder) / f"{self.number}").open("a") as file:
            file.write(".")
            return file.tell()


def process_of(deed: Deed) -> int:
    deed.attempts()
    return os.getpid()


def die_once(deed: Deed) -> int:
    if deed.attempts() == 1 and deed.number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return deed.number


def die_always(deed: Deed) -> int:
    deed.attempts()
    if deed.number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return deed.number


def storage_fails_twice(deed: Deed) -> int:
    if deed.attempts() < 3:
        raise StorageError("the store is busy")
    return deed.number


def fail_with(error: Exception, deed: Deed) -> int:
    deed.attempts()
    raise error


def source_is_wrong(deed: Deed) -> int:
    deed.attempts()
    raise SourceError("this will not do")


def stumble(deed: Deed) -> int:
    deed.attempts()
    raise ZeroDivisionError("nobody expected this")


def first_fails_others_take_long(deed: Deed) -> int:
    deed.attempts()
    if deed.number != 1:
        return sleep(deed)
    while not list(Path(deed.folder).glob("process-*")):
        time.sleep(0.05)
    raise SourceError("this will not do")


def sleep(deed: Deed) -> int:
    (Path(deed.folder) / f"process-{os.getpid()}").touch()
    time.sleep(60)
    return deed.number
