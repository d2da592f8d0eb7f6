"""Evaluation of a finished run: whole, once each, and refused where there is nothing to evaluate."""

import json
import math
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sunspark.bench.report import report
from sunspark.commands.text import summary
from sunspark.errors import RunError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import evaluate
from sunspark.run_directory import evaluation_file, model_weights_file
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


def test_the_evaluation_of_a_model_that_diverged_is_kept(finished: str, tmp_path: Path) -> None:
    """JSON knows no nan: it is null there."""
    run = shutil.copytree(finished, tmp_path / "diverged")
    weights = model_weights_file(str(run))
    save_file({name: torch.full_like(tensor, math.nan) for name, tensor in load_file(weights).items()}, weights)
    result = evaluate(str(run), split="train", config=LaunchConfig(launcher="local", workers=1))
    assert math.isnan(result.loss)
    assert re.search(r"^loss +nan$", summary(result, leave_out=("per_class",)), re.MULTILINE)
    stored = json.loads(Path(evaluation_file(str(run), "train")).read_text())
    assert stored["loss"] is None
    assert stored["samples"] == NUM_IMAGES
    assert report(str(run), str(tmp_path / "report.html")).size_bytes


def test_an_interrupted_evaluation_is_an_interruption(finished: str) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=1))
