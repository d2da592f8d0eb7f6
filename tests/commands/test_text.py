"""Laws of text for people: it ends where the terminal ends, between words, and nowhere else."""

import os
import pty
import termios
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fcntl import ioctl
from struct import pack
from typing import TextIO

import pytest

from sunspark.commands.text import fitted, summary, table


@dataclass(frozen=True)
class Result:
    dataset_id: str = "80f3abb917bfb606" + 48 * "0"
    sizes: tuple[str, ...] = ("223x167 4", "214x160 4", "194x146 3", "235x176 3")
    out: str = "/a/path/that/is/much/longer/than/forty/columns.parquet"


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A terminal of 40 columns."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(slave, "w") as stream:
        yield stream
    os.close(master)


def test_values_are_broken_between_words_and_hang_below_their_beginning(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", terminal)
    assert summary(Result()).splitlines() == [
        "dataset id  80f3abb917bfb606",
        "sizes       223x167 4, 214x160 4,",
        "            194x146 3, 235x176 3",
        "out         /a/path/that/is/much/longer/than/forty/columns.parquet",
    ]


def test_where_there_is_no_terminal_a_line_stays_a_line() -> None:
    assert summary(Result()).splitlines()[1] == "sizes       223x167 4, 214x160 4, 194x146 3, 235x176 3"


def test_an_error_keeps_its_lines(terminal: TextIO) -> None:
    message = "sunspark: worker 1 (thinker) ended by SIGKILL\n  its last line, which is a little too long\n"
    assert fitted(message, terminal).splitlines() == [
        "sunspark: worker 1 (thinker) ended by",
        "SIGKILL",
        "  its last line, which is a little too",
        "long",
    ]


def test_bytes_and_long_lists_are_readable() -> None:
    @dataclass(frozen=True)
    class Counted:
        stored_bytes: int = 12_345_678
        splits: Mapping[str, int] = field(default_factory=lambda: {f"Training_{n:02d}": 1000 + n for n in range(1, 51)})
        few: Mapping[str, int] = field(default_factory=lambda: {"train": 4, "test": 2})

    assert summary(Counted()).splitlines() == [
        "stored  12.3 MB",
        "splits  Training_01: 1,001, Training_02: 1,002, Training_03: 1,003, Training_04: 1,004, Training_05: 1,005 "
        "and 45 more",
        "few     train: 4, test: 2",
    ]


def test_the_splits_of_sun397_and_those_that_the_user_gave_are_all_named() -> None:
    @dataclass(frozen=True)
    class Counted:
        splits: Mapping[str, int]

    names = [*(f"Training_{n:02d}" for n in range(1, 11)), *(f"Testing_{n:02d}" for n in range(1, 11)), "Train_bal"]
    assert all(f"{name}: 5" in summary(Counted(dict.fromkeys(names, 5))) for name in names)


def test_a_rate_says_of_what_and_is_left_out_where_it_says_nothing() -> None:
    @dataclass(frozen=True)
    class Timed:
        seconds: float
        images_per_second: float

    assert summary(Timed(2.0, 183.42)).splitlines() == ["time   2 s", "speed  183.4 images/s"]
    assert summary(Timed(0.5, 183.42)) == "time  0.5 s"
    assert summary(Timed(2.0, 0.0)) == "time  2 s"


def test_columns_stand_below_each_other_whatever_the_letters() -> None:
    lines = table("classes", ["class", "images"], [("海岸", 12), ("forest", 1234)]).splitlines()
    assert lines == ["", "classes", "class   images", "海岸        12", "forest   1,234"]
