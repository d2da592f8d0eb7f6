"""How far the passes over archives are: noted by those who make them, read by whoever shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, final


@dataclass(kw_only=True, slots=True)
class Scan:
    """The pass over one archive; other threads may look at it meanwhile."""

    size_bytes: int
    """Of the file."""
    read_bytes: int = 0
    """The place in the file up to which it has been read."""
    num_images: int = 0
    """Found up to there."""


Watched = Callable[[Sequence[Scan]], AbstractContextManager[None]]
"""What is entered before the scans begin, with all of them, and left when they have ended."""


@contextlib.contextmanager
def unwatched(_scans: Sequence[Scan]) -> Iterator[None]:
    """Nobody looks."""
    yield


@final
class NotedFile:
    """A file that notes in a scan up to where it has been read."""

    def __init__(self, file: Any, scan: Scan) -> None:
        self._file = file
        self._scan = scan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        body: bytes = self._file.read(size)
        self._scan.read_bytes = max(self._scan.read_bytes, self._file.tell())
        return body
