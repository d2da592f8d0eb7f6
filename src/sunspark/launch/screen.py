"""Where the driver shows how far something is: in place on a terminal, a line every few seconds elsewhere.

On standard error by default, so that standard output stays free for results. Any thread may call it.
A stream that is gone (a terminal that was closed) is written to in vain; it never ends what is shown.
"""

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO, cast, final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS: Final = 5.0
"""Time between two lines where there is no terminal (seconds)."""

_PACE_SECONDS = 60.0
_REDRAWS_PER_SECOND = 4
_ROOM: Final = len("^C")
"""Columns left free: what a terminal shows of Ctrl-C would begin a line otherwise, and an old state stay above it."""


@final
class Screen:
    """A stream on which a state is shown again and again. Close it: the last state stays."""

    def __init__(
        self,
        draw: Callable[[int], RenderableType],
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`draw` gives the state for a terminal of so many columns; it is called while `lock` is held."""
        self.lock = threading.RLock()
        """Guards the state that `draw` reads: the drawing thread of rich takes it too."""
        self._draw = draw
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._live: Live | None = None
        self._last: tuple[int, Callable[[], str]] | None = None
        self._printed: tuple[float, int] | None = None
        self._closed = False
        self._log_handlers: list[logging.StreamHandler[TextIO]] = []
        """Those that write to the same terminal."""

    def open(self) -> None:
        """Draw from now on, where the stream is a terminal that can."""
        if self._live is not None or self._closed or not self._stream.isatty():
            return
        console = Console(file=self._stream, highlight=False)
        if not console.is_dumb_terminal:
            self._live = Live(
                self,
                console=console,
                refresh_per_second=_REDRAWS_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
            self._lead_logging_to(cast(TextIO, FileProxy(console, self._stream)))

    def say_now_and_then(self, done: int, line: Callable[[], str]) -> None:
        """The state as a line, where nothing is drawn and the last line is a few seconds old; `done`: how far it is."""
        with self.lock:
            self._last = (done, line)
            is_due = self._printed is None or self._clock() - self._printed[0] >= PLAIN_SECONDS
            if self._live is None and not self._closed and is_due:
                self._print(done, line())

    def say(self, text: str) -> None:
        """A line of its own that stays."""
        if (live := self._live) is not None:
            with contextlib.suppress(OSError):
                live.console.print(Text(text))
        else:
            self._write(text)

    def close(self) -> None:
        """Stop drawing; where nothing was drawn, the last state is a line, unless it was one already."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            live, self._live = self._live, None
            if live is None and self._last and (self._printed or (0, -1))[1] != self._last[0]:
                self._print(self._last[0], self._last[1]())
        if live is not None:
            self._lead_logging_to(self._stream)
            with contextlib.suppress(OSError):
                live.stop()  # without the lock: it waits for the drawing thread

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self.lock:
            width = max(1, options.max_width - _ROOM)
            yield from console.render(self._draw(width), options.update_width(width))

    def _lead_logging_to(self, stream: TextIO) -> None:
        """What is logged to the terminal goes above what is drawn there, not into it."""
        if stream is not self._stream:
            handlers = [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]
            self._log_handlers = [one for one in handlers if one.stream is self._stream]
        for handler in self._log_handlers:
            handler.setStream(stream)

    def _print(self, done: int, line: str) -> None:
        self._printed = (self._clock(), done)
        self._write(line)

    def _write(self, text: str) -> None:
        with self.lock, contextlib.suppress(OSError):
            self._stream.write(text + "\n")
            self._stream.flush()


@final
class Pace:
    """How fast something came on over the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reached: deque[tuple[float, int]] = deque()  # when how much was done

    def note(self, done: int) -> None:
        """So much is done now; less than before when work was lost."""
        now = self._clock()
        if self._reached and done < self._reached[-1][1]:
            self._reached.clear()
        self._reached.append((now, done))
        while len(self._reached) > 2 and now - self._reached[1][0] >= _PACE_SECONDS:
            self._reached.popleft()

    @property
    def per_second(self) -> float:
        """0 where it is not known yet."""
        if not self._reached:
            return 0.0
        (first_time, first), (last_time, last) = self._reached[0], self._reached[-1]
        return (last - first) / (last_time - first_time) if last_time > first_time else 0.0

    def left_text(self, left: int) -> str:
        """How long the rest takes, in words."""
        if left <= 0:
            return "done"
        return f"{clock_text(left / self.per_second)} left" if self.per_second else "time left unknown"


def clock_text(seconds: float) -> str:
    """75 -> 1:15; 4000 -> 1:06:40"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def bar_row(what: str, done: int, total: int, left: str) -> Table:
    """One line: what is done, a bar of its share of `total`, and what is left."""
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(Text(what, style="bold"), ProgressBar(total=max(1, total), completed=done), left)
    return row
