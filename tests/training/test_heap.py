"""What a worker frees it has again without asking the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from sunspark.training.heap import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
bytearray(100_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(100_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_the_same_again_costs_no_page() -> None:
    def faults(word: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROGRAM, word]))

    assert faults("keep") < 10 < faults("leave")
