"""Laws of counting: a line now and then, the pace in it, nothing before there is something to tell."""

import contextlib
import io

from sunspark.launch.count_display import CountDisplay
from sunspark.launch.screen import PLAIN_SECONDS


def test_a_line_now_and_then_tells_how_many_how_fast_how_long() -> None:
    now, stream = [1000.0], io.StringIO()
    with contextlib.closing(CountDisplay("images", 1000, stream, clock=lambda: now[0])) as display:
        assert stream.getvalue() == ""
        display.event("1000 images listed [bold]")
        for done in range(0, 1001, 10):
            display.update(done)
            now[0] += 1
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["1000 images listed [bold]", "0/1000 images, time left unknown"]
    assert lines[2] == "50/1000 images, 10 images/s, 1:35 left"
    assert len(lines) == 2 + 100 / PLAIN_SECONDS
    assert lines[-1] == "1000/1000 images, 10 images/s, done"


def test_what_is_slow_is_not_told_to_stand_still() -> None:
    now, stream = [1000.0], io.StringIO()
    with contextlib.closing(CountDisplay("images", 10, stream, clock=lambda: now[0])) as display:
        display.update(0)
        now[0] += 20
        display.update(3)
    assert stream.getvalue().splitlines()[-1] == "3/10 images, 0.15 images/s, 0:47 left"


def test_what_never_began_says_nothing() -> None:
    stream = io.StringIO()
    CountDisplay("images", 1000, stream).close()
    assert stream.getvalue() == ""
