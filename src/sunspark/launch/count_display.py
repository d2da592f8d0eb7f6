"""How many of a known number are done: of the images of an ingest, an evaluation, a prediction."""

import time
from collections.abc import Callable
from typing import TextIO, final

from rich.table import Table

from sunspark.launch.screen import Pace, Screen, bar_row


@final
class CountDisplay:
    """Shows how many are done, how many a second, and the time that is left.

    Nothing is drawn before the first `update`: Java has its say on standard error while Spark starts.
    Use `contextlib.closing`, or call `close`, which leaves the last state on the screen.
    """

    def __init__(
        self, what: str, total: int, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`what` names what is counted: images."""
        self._what = what
        self._total = total
        self._done = 0
        self._pace = Pace(clock)
        self._screen = Screen(self._draw, stream, clock=clock)

    def update(self, done: int) -> None:
        """So many are done; as often as one likes."""
        with self._screen.lock:
            self._done = done
            self._pace.note(done)
        self._screen.open()
        self._screen.say_now_and_then(done, self._line)

    def event(self, text: str) -> None:
        """Say that something happened, on a line of its own that stays."""
        self._screen.say(text)

    def close(self) -> None:
        """Stop drawing; the last state stays."""
        self._screen.close()

    def _draw(self, _width: int) -> Table:
        done = self._done
        return bar_row(f"{done:,}/{self._total:,} {self._what}", done, self._total, self._speed_text(done))

    def _line(self) -> str:
        return f"{self._done}/{self._total} {self._what}, {self._speed_text(self._done)}"

    def _speed_text(self, done: int) -> str:
        left = self._pace.left_text(self._total - done)
        speed = self._pace.per_second
        return f"{speed:{'.0f' if speed >= 10 else '.2g'}} {self._what}/s, {left}" if speed else left
