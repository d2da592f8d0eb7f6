"""The processes of a run, each sort in a control group of its own.

Who starts them is Spark or sunspark, so they enter by themselves: every Python imports `sitecustomize`, and this one
looks what it is about to run.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.memory.group import MemoryGroup

NURSERY: Final = "sunspark.training.nursery"
"""Loads torch, and forks the workers, which stay in its group."""
SPARKS_TASKS: Final = "pyspark.daemon"
"""Forks the Python processes of Spark's tasks."""

HEAP_BYTES: Final = 512 * 2**20
"""What the heap of Spark's driver may grow to: spark.driver.memory."""

_SITE = """
import sys
for module, entrance in {entrances!r}.items():
    if module in sys.orig_argv:
        with open(entrance, "w") as file:
            file.write("0")
"""


def run_sunspark(
    words: list[str], folder: Path, driver: MemoryGroup, others: Mapping[str, MemoryGroup]
) -> "subprocess.CompletedProcess[str]":
    """Run a command of sunspark in the group `driver`; processes of the modules in `others` are in those groups."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    entrances = {module: group.entrance for module, group in others.items()}
    (site / "sitecustomize.py").write_text(_SITE.format(entrances=entrances))
    return subprocess.run(
        driver.command(sys.executable, "-c", "from sunspark.cli import console; console()", *words),
        env=os.environ
        | {"PYTHONPATH": str(site), "PYSPARK_SUBMIT_ARGS": f"--driver-memory {HEAP_BYTES} pyspark-shell"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
