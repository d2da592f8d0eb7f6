"""Spark's own process dies under the driver: the run ends at once, says so, and what is done is saved."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.launch.config import LaunchConfig
from tests.distributed.harness import descendants, is_running, name_of, step_reached, wait_until
from tests.distributed.laws import law_config
from tests.distributed.test_resume import start_driver

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(200)]


def test_a_killed_jvm_ends_the_run_with_that_as_its_cause(law_dataset: str, run_folder: Path) -> None:
    launch = LaunchConfig(master="local[2]", workers=2)
    driver = start_driver(
        law_dataset, run_folder, replace(law_config("sgd", workers=2), launch=launch), subprocess.PIPE
    )
    try:
        wait_until(lambda: step_reached(run_folder) >= 40, 120, "step 40")
        below = descendants(driver.pid)
        jvm = next(pid for pid in below if name_of(pid) == "java")
        os.kill(jvm, signal.SIGKILL)
        died = time.monotonic()
        _, words = driver.communicate(timeout=70)
        assert time.monotonic() - died < 60, "it waited for workers that nobody can start any more"
    finally:
        driver.kill()
    text = words.decode()
    assert driver.returncode == 1
    assert "Spark's driver process is gone" in text
    assert "steps are saved" in text
    wait_until(lambda: not any(map(is_running, below)), 40, "the end of all workers")
