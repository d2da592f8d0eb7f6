"""Memory that one image has used is kept for the next.

An image takes a dozen buffers of up to some megabytes on its way. glibc gives each back to the system as soon as it is
free, and gets it page by page again, until a much larger one has been freed. Elsewhere than on glibc nothing changes.
Cost: up to 64 MiB a process. Without it, 1024 x 768 to 341 x 256 takes twice as long
(benchmarks/stages.py).
"""

import ctypes
import functools
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_KEPT_BYTES: Final = 64 * 2**20
_LARGE_BYTES: Final = 4 * 2**20
"""Larger buffers are given back: they are few, and would be missed elsewhere."""


@functools.cache
def keep_freed_memory() -> None:
    """From now on this process keeps what it frees, as far as it is of use to images."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
