"""A folder deeper than Python recurses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEVELS = sys.getrecursionlimit() + 50


@contextmanager
def deep_folder(parent: Path) -> Iterator[str]:
    """One of `LEVELS` levels in `parent`, with a file `1.jpg` in the last; gives the path of the file in `parent`.

    Taken away at the end by a program of the system's: Python's own recurses.
    """
    path = str(parent)
    for _ in range(LEVELS):
        path += "/d"
        os.mkdir(path)
    Path(path, "1.jpg").write_bytes(b"1")
    try:
        yield "d/" * LEVELS + "1.jpg"
    finally:
        subprocess.run(["rm", "-rf", f"{parent}/d"], check=True)
