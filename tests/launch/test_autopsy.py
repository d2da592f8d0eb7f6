"""How a worker's end is told: the signal in words, memory where it had run out, the last lines."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from sunspark.launch.autopsy import Memory, describe_end


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "worker process ended with exit code 0"),
        (1, "worker process ended with exit code 1"),
        (-signal.SIGSEGV, "worker process ended by SIGSEGV (a segmentation fault)"),
        (-signal.SIGKILL, "worker process ended by SIGKILL (killed from outside)"),
        (-signal.SIGUSR1, "worker process ended by SIGUSR1"),
        (-40, "worker process ended by signal 40"),
    ],
)
def test_an_end_is_told_in_words_and_with_its_last_lines(code: int, words: str) -> None:
    told = describe_end(code, Memory.of(os.getpid()), ["one line", "another"])
    assert told.splitlines() == [words, "one line", "another"]


def test_a_kill_near_the_limit_of_memory_says_how_much_there_was_and_what_to_do() -> None:
    seen = Memory.of(os.getpid())
    near = replace(seen, used_bytes=950_000_000, limit_bytes=1_000_000_000)
    told = describe_end(-signal.SIGKILL, near, [])
    assert "out of memory: it had 0.95 GB of a limit of 1.00 GB; give it more" in told
    far = replace(near, used_bytes=100_000_000)
    assert "out of memory" not in describe_end(-signal.SIGKILL, far, [])


def test_a_look_at_a_process_sees_the_memory_that_it_uses() -> None:
    program = "x = bytearray(200_000_000); print(len(x), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 200_000_000 < Memory.of(child.pid).used_bytes < 400_000_000
        child.communicate("")
    assert Memory.of(child.pid).used_bytes == 0
