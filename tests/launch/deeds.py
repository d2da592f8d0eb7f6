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


class Done(int):
    """What comes back: a number, and no bad image."""

    quarantine = ()
    block_name = ""


def never(_num_bad: int) -> bool:
    """No number of bad images is hopeless."""
    return False


def process_of(deed: Deed) -> Done:
    deed.attempts()
    return Done(os.getpid())


def die_once(deed: Deed) -> Done:
    if deed.attempts() == 1 and deed.number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return Done(deed.number)


def die_always(deed: Deed) -> Done:
    deed.attempts()
    if deed.number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return Done(deed.number)


def storage_fails_twice(deed: Deed) -> Done:
    if deed.attempts() < 3:
        raise StorageError("the store is busy")
    return Done(deed.number)


def fail_with(error: Exception, deed: Deed) -> Done:
    deed.attempts()
    raise error


def source_is_wrong(deed: Deed) -> Done:
    deed.attempts()
    raise SourceError("this will not do")


def stumble(deed: Deed) -> Done:
    deed.attempts()
    raise ZeroDivisionError("nobody expected this")


def first_fails_others_take_long(deed: Deed) -> Done:
    deed.attempts()
    if deed.number != 1:
        return sleep(deed)
    while not list(Path(deed.folder).glob("process-*")):
        time.sleep(0.05)
    raise SourceError("this will not do")


def sleep(deed: Deed) -> Done:
    (Path(deed.folder) / f"process-{os.getpid()}").touch()
    time.sleep(60)
    return Done(deed.number)
