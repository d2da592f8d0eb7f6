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

from sunspark import run_directory
from sunspark.bench.report import report
from sunspark.commands.text import summary
from sunspark.data.dataset import Dataset
from sunspark.errors import RunError, WorkerError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import evaluate
from sunspark.run_directory import evaluation_file, model_weights_file
from sunspark.training.tally import NUM_MISTAKES
from tests.distributed.laws import NUM_IMAGES

pytestmark = pytest.mark.timeout(180)


def test_a_folder_that_is_no_run_is_not_evaluated(run_folder: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        evaluate(str(run_folder))


def test_a_run_that_still_trains_is_told_from_one_that_stopped(finished: str, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "model")
    with run_directory.only_driver(str(run)), pytest.raises(RunError, match="is still training; wait for its end"):
        evaluate(str(run))
    with pytest.raises(RunError, match="is not finished; run `sunspark train` on it"):
        evaluate(str(run))


def test_every_sample_is_evaluated_once(
    law_dataset: str, finished: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=2))
    assert f"{NUM_IMAGES} of the {NUM_IMAGES} images of the split train" in caplog.text, "they were trained on"
    assert result.samples == NUM_IMAGES
    assert sum(one.samples for one in result.per_class) == NUM_IMAGES
    assert 0 <= result.top1 <= result.top5 <= 1
    right = {label: count for label, predicted, count in result.confusion if label == predicted}
    assert sum(count for *_, count in result.confusion) == NUM_IMAGES
    assert [right.get(label, 0) for label in range(len(result.per_class))] == [one.correct for one in result.per_class]
    dataset = Dataset.open(law_dataset)
    assert dataset.id == result.dataset_id
    assert 0 < len(result.mistakes) <= NUM_MISTAKES
    for one in (*result.mistakes, *result.right):
        assert (one.path, one.label) == (dataset.path_of(one.row), dataset.labels[one.row])
        assert (one.label, one.predicted) in {(label, predicted) for label, predicted, _ in result.confusion}
        assert 1 / len(dataset.classes) <= one.probability <= 1
    page = tmp_path / "report.html"
    report(finished, str(page))
    assert page.read_text().count("data:image/jpeg;base64,") == len(result.mistakes) + len(result.right)


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


def test_an_evaluation_that_cannot_be_says_which_worker_failed_and_where(finished: str, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "damaged")
    Path(model_weights_file(str(run))).write_bytes(b"no weights")
    with pytest.raises(WorkerError, match=r"^worker 0 \(127\.0\.0\.1, process \d+\): "):
        evaluate(str(run), split="train", config=LaunchConfig(launcher="local", workers=1))


def test_an_interrupted_evaluation_is_an_interruption(finished: str) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        evaluate(finished, split="train", config=LaunchConfig(launcher="local", workers=1))
