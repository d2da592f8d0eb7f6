"""How far the passes over archives are, while they run: of 35 GB that are compressed, they take minutes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TextIO, final

from rich.table import Table

from sunspark.data.sources import Scan
from sunspark.launch.screen import Pace, Screen, bar_row

_LOOK_SECONDS: Final = 0.5


@contextlib.contextmanager
def scans_shown(scans: Sequence[Scan], stream: TextIO | None = None) -> Iterator[None]:
    """Show how far `scans` are, which run in the block; nothing of what takes less than half a second."""
    has_ended = threading.Event()

    def look() -> None:
        while not has_ended.wait(_LOOK_SECONDS):
            display.update()

    with contextlib.closing(ScanDisplay(scans, stream)) as display:
        watcher = threading.Thread(target=look, daemon=True, name="scan-progress")
        watcher.start()
        try:
            yield
        finally:
            has_ended.set()
            watcher.join()


@final
class ScanDisplay:
    """Shows the share of the archives' bytes that is read, the images found, and the time that is left.

    Use `contextlib.closing`, or call `close`, which leaves the last state on the screen.
    """

    def __init__(
        self, scans: Sequence[Scan], stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scans = scans
        self._what = "the archive" if len(scans) == 1 else f"{len(scans):,} archives"
        self._total_bytes = sum(scan.size_bytes for scan in scans)
        self._pace = Pace(clock)
        self._is_shown = False
        self._screen = Screen(self._draw, stream, clock=clock)

    def update(self) -> None:
        """Look how far they are."""
        self._is_shown = True
        read_bytes = self._read_bytes()
        with self._screen.lock:
            self._pace.note(read_bytes)
        self._screen.open()
        self._screen.say_now_and_then(read_bytes, self._line)

    def close(self) -> None:
        """Stop drawing; the last state stays, if there was one."""
        if self._is_shown:
            self.update()
        self._screen.close()

    def _draw(self, _width: int) -> Table:
        return bar_row(self._share_text(), self._read_bytes(), self._total_bytes, self._left_text())

    def _line(self) -> str:
        return f"{self._share_text()}, {self._left_text()}"

    def _share_text(self) -> str:
        num_images = sum(scan.num_images for scan in self._scans)
        percent = 100 * self._read_bytes() // max(1, self._total_bytes)
        return f"{percent} % of {self._what} read, {num_images:,} images found"

    def _left_text(self) -> str:
        return self._pace.left_text(self._total_bytes - self._read_bytes())

    def _read_bytes(self) -> int:
        return sum(scan.read_bytes for scan in self._scans)
