"""What a process has in its hands, readable after its death: the rows that its threads decode at this moment.

A decoder that crashes takes the process with it; whoever finds the body reads here which images it was at. The table
is a small file mapped into memory: what was written there is in the system's page cache, and outlives the process.
Where it cannot be written (the disk is full), nobody will read it, and the process works all the same.
Cost: two stores per image.
"""

import logging
import mmap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

_SLOTS: Final = 256
_NOTHING: Final = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class LastHold:
    """What a process had in its hands when it ended."""

    step: int
    """The step that it was at."""
    rows: list[int]
    """The rows of the dataset that were being decoded."""


@final
class InHand:
    """The table of one process. Threads write to slots of their own."""

    def __init__(self, path: Path | None = None) -> None:
        """Map the file at `path`; without one the table is for this process alone."""
        self._numbers = np.full(_SLOTS, _NOTHING, np.int64)
        if path is not None:
            try:
                self._numbers = _mapped(path, self._numbers)
            except OSError as error:
                logger.warning(
                    "%s cannot be written (%s); images that kill this process will not be found", path, error
                )
        self._slots = iter(range(1, _SLOTS))
        self._mine = threading.local()

    def set_step(self, step: int) -> None:
        """The step that the process is at."""
        self._numbers[0] = step

    def hold(self, row: int) -> "_Hold":
        """This thread decodes that row, until it leaves the `with`, or decodes another."""
        hold: _Hold | None = getattr(self._mine, "hold", None)
        if hold is None:  # more threads than slots share the last one
            hold = self._mine.hold = _Hold(self._numbers, next(self._slots, _SLOTS - 1))
        self._numbers[hold.slot] = row
        return hold


@final
class _Hold:
    """The slot of a thread. It holds a row already when it is entered."""

    def __init__(self, numbers: npt.NDArray[np.int64], slot: int) -> None:
        self._numbers = numbers
        self.slot = slot

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._numbers[self.slot] = _NOTHING


def _mapped(path: Path, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A file that holds `numbers`, mapped into memory."""
    path.write_bytes(numbers.tobytes())
    with path.open("r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), np.int64)


def last_hold(path: Path) -> LastHold:
    """What the process of that table had in its hands; nothing when it never opened it."""
    numbers = np.frombuffer(path.read_bytes(), np.int64) if path.exists() else np.zeros(0, np.int64)
    if len(numbers) != _SLOTS:
        return LastHold(step=_NOTHING, rows=[])
    return LastHold(step=int(numbers[0]), rows=sorted({int(row) for row in numbers[1:] if row != _NOTHING}))
