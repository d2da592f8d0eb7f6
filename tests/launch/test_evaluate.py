"""Evaluation of a finished run: whole, once each, and refused where there is nothing to evaluate."""

import os
import signal
import threading
from pathlib import Path

import pytest

from sunspark.errors import RunError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import evaluate
from tests.distributed.laws import NUM_IMAGES

pytestmark = pytest.mark.timeout(180)


def test_a_folder_that_is_no_run_is_not_evaluated(run_folder: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        evaluate(str(run_folder))


def test_every_sample_is_evaluated_once(finished: str) -> None:
    result = evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=2))
    assert result.samples == NUM_IMAGES
    assert sum(one.samples for one in result.per_class) == NUM_IMAGES
    assert 0 <= result.top1 <= result.top5 <= 1


def test_an_interrupted_evaluation_is_an_interruption(finished: str) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=1))
