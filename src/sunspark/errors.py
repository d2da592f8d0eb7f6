"""The exceptions that sunspark raises, and the exit code each one stands for.

    SunsparkError                 1  anything else
    +-- UserError                 2  the user's mistake: change something and run again
    |   +-- ConfigError              an option, a configuration key, a combination of options
    |   |   +-- MisspeltError        a key that no configuration has, or a value of another type
    |   +-- SourceError              the images or the split lists given to ingest
    |   +-- DatasetError             a dataset that is not there, not whole, or of another format version
    |   +-- RunError                 a run directory that is not there, or that may not be continued this way
    |   +-- SetupError               this machine: Java, a port, too few slots
    +-- StorageError              1  a file system or an object store did not answer as it should
    |   +-- PathError             2  a UserError too: no permission, or a file where a folder is needed
    |   +-- FullDiskError            a disk that has no room
    |   +-- SilentStoreError         a store that gave no answer, or none but that it cannot, for as long as is waited
    +-- DeadlineError             1  a wait reached its deadline; says who was missing
    +-- WorkerError               1  a worker failed in a way that trying again does not cure

A message says what happened, with which value, and what to do about it.
"""

from collections.abc import Iterable


class SunsparkError(Exception):
    """Base of every error that sunspark raises on purpose."""

    exit_code = 1


class UserError(SunsparkError):
    """The user can mend it: change something and run again."""

    exit_code = 2


class ConfigError(UserError):
    """An option, a configuration key, or a combination of options is wrong."""


class MisspeltError(ConfigError):
    """A key that the configuration does not have, or a value that is none of its type: wrong in any combination."""


class SourceError(UserError):
    """The images or the split lists given to ingest are wrong."""


class DatasetError(UserError):
    """A dataset is not there, not whole, or of another format version."""


class RunError(UserError):
    """A run directory is not there, or may not be continued in this way."""


class SetupError(UserError):
    """This machine lacks something: Java, a free port, slots."""


class StorageError(SunsparkError):
    """A file system or an object store did not answer as it should."""


class PathError(StorageError, UserError):
    """A path that cannot be used like this: no permission, or a file where a folder is needed, or the reverse."""


class FullDiskError(StorageError):
    """A disk, or the part of it that one may use, has no room."""


class SilentStoreError(StorageError):
    """A store gave no answer, or none but that it cannot, for as long as it is waited for."""


class DeadlineError(SunsparkError):
    """A wait reached its deadline."""


class WorkerError(SunsparkError):
    """A worker failed in a way that trying again does not cure."""


def first_five(names: Iterable[str]) -> str:
    """The first five, in the order given, and how many more."""
    names = list(names)
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def first_line_of(error: BaseException) -> str:
    """What a foreign error says, without what follows its first line (the stack of C++ or Java)."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def printable(name: str) -> str:
    """A name of a file on one line, whatever is in it: a line break as `\\n`."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def clipped(name: str, most: int = 60) -> str:
    """A name on one line of `most` letters at most; an ellipsis stands for the rest."""
    name = printable(name)
    return name if len(name) <= most else name[: most - 1] + "…"


def plural(number: int, one: str, many: str = "") -> str:
    """(3, "step") -> 3 steps"""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
