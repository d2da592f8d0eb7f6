"""Who gets which GPU, and what is refused rather than computed on the processor in silence."""

import logging
from pathlib import Path

import pytest
import torch

from sunspark.errors import ConfigError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.gpus import Device, Wanted, device_of_tasks, gpus_for, names_of_gpus
from sunspark.launch.job import Job
from sunspark.launch.session import amount_of


@pytest.mark.parametrize(
    ("workers", "wanted", "here", "expected"),
    [
        (2, "auto", (), ()),
        (2, "auto", ("0", "1", "2"), ("0", "1")),
        (2, "cuda", ("GPU-5", "GPU-7"), ("GPU-5", "GPU-7")),
        (4, "cpu", ("0", "1"), ()),
    ],
)
def test_each_worker_of_this_machine_gets_a_gpu_of_its_own(
    workers: int, wanted: Wanted, here: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert gpus_for(workers, wanted, here) == expected


def test_workers_beyond_the_gpus_are_refused_or_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"3 workers for 2 GPUs.*; lower --workers to 2, or give --device cpu"):
        gpus_for(3, "cuda", ("0", "1"))
    with caplog.at_level(logging.WARNING):
        assert gpus_for(3, "auto", ("0", "1")) == ()
    assert "3 workers for 2 GPUs, and each needs one of its own: they compute on the processor" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "of_executor", "of_task", "expected"),
    [("auto", 0, 0, "cpu"), ("auto", 2, 1, "cuda"), ("cuda", 1, 1.0, "cuda"), ("cpu", 1, 0, "cpu")],
)
def test_tasks_compute_on_what_spark_gives_them(
    wanted: Wanted, of_executor: float, of_task: float, expected: Device
) -> None:
    assert device_of_tasks(wanted, of_executor, of_task) == expected


@pytest.mark.parametrize(
    ("wanted", "of_executor", "of_task", "message"),
    [
        ("auto", 2, 0, r"executor\.resource\.gpu\.amount is 2, but tasks ask for no GPU; set .*task.* to 1"),
        ("cuda", 2, 0, "tasks ask for no GPU"),
        ("auto", 1, 0.5, r"task\.resource\.gpu\.amount is 0\.5, but each worker needs one GPU"),
        ("cuda", 0, 0, "--device cuda, but Spark's executors have no GPUs; set .* or give --device cpu"),
    ],
)
def test_settings_of_spark_that_leave_a_worker_without_its_gpu_are_refused(
    wanted: Wanted, of_executor: float, of_task: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        device_of_tasks(wanted, of_executor, of_task)


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf"])
def test_an_amount_that_is_no_number_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^spark\.task\.resource\.gpu\.amount is '{value}', .*; set it to 1, or"):
        amount_of("spark.task.resource.gpu.amount", value)
    assert amount_of("spark.task.resource.gpu.amount", "0") == 0


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [
        (0, "", ()),
        (2, "", ("0", "1")),
        (2, "GPU-5, GPU-7,", ("GPU-5", "GPU-7")),
        (1, "3,2", ("3",)),
        (0, "GPU-5", ()),
    ],
)
def test_gpus_that_torch_cannot_use_have_no_names(count: int, visible: str, expected: tuple[str, ...]) -> None:
    assert names_of_gpus(count, visible) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(run_folder: Path) -> None:
    launch = LaunchConfig(launcher="local", workers=1, device="cuda")
    with pytest.raises(ConfigError, match=r"--device cuda, but there is no GPU in this machine .* --device cpu"):
        Job(launch, str(run_folder)).__enter__()
