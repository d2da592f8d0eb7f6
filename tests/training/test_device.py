"""A worker sees no GPU but its own, and says so when torch cannot use that."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sunspark.errors import WorkerError
from sunspark.training.device import open_device
from sunspark.training.spec import WorkerSpec

SPEC = WorkerSpec(
    task="train", coordinator="", lighthouse="", token="", run="", dataset="", split="", cores=1,
    gradient_path="auto", work={},
)  # fmt: skip

_FORK_AS_A_NURSERY_DOES = """
import os
import timm
import torch
import sunspark.training.nursery

torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
if (child := os.fork()) == 0:
    os._exit(torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork())
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


def test_a_worker_without_a_gpu_sees_none() -> None:
    assert open_device(SPEC) == torch.device("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_worker_whose_gpu_torch_cannot_use_names_it() -> None:
    with pytest.raises(WorkerError, match=r"CUDA_VISIBLE_DEVICES=no-such-gpu .*nvidia-smi"):
        open_device(replace(SPEC, device="cuda", gpu="no-such-gpu"))


def test_each_worker_is_told_its_gpu_and_keeps_it() -> None:
    spec = WorkerSpec.from_json(replace(SPEC, device="cuda", gpus=("3", "5")).to_json())
    assert [spec.for_worker(worker, 0).for_worker(worker, 1).gpu for worker in range(2)] == ["3", "5"]
    given_by_spark = replace(spec, gpus=(), gpu="7")
    assert given_by_spark.for_worker(1, 4).gpu == "7"


@pytest.mark.timeout(300)
def test_a_nursery_leaves_cuda_to_its_workers() -> None:
    """CUDA that was asked for before a fork cannot be used after it."""
    subprocess.run([sys.executable, "-c", _FORK_AS_A_NURSERY_DOES], check=True, timeout=250)
