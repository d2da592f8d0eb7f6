"""Which device the workers of a job compute on: GPUs, one for each worker, or processors.

All workers of a job are alike, because NCCL sums between GPUs alone. So the driver decides, before they start: by what
Spark gives its tasks, or by what is in this machine when all workers are here.
"""

import logging
import os
from typing import Literal

import torch

from sunspark.errors import ConfigError

logger = logging.getLogger(__name__)

Device = Literal["cpu", "cuda"]
Wanted = Literal["auto", "cpu", "cuda"]

_ELSE = "or give --device cpu"


def gpus_of_this_machine() -> tuple[str, ...]:
    """Those that torch can use, by the names under which CUDA_VISIBLE_DEVICES takes them."""
    return names_of_gpus(torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", ""))


def names_of_gpus(count: int, visible: str) -> tuple[str, ...]:
    """The names of that many GPUs: the first of `visible` (CUDA_VISIBLE_DEVICES), numbers when it is empty."""
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(named[:count]) or tuple(map(str, range(count)))


def gpus_for(workers: int, wanted: Wanted, here: tuple[str, ...]) -> tuple[str, ...]:
    """A GPU of `here` for each of the workers, all on this machine; none where they compute on the processor.

    Too few are refused (ConfigError) when GPUs are asked for; `auto` leaves them unused then, and warns.
    """
    if wanted == "cpu" or (wanted == "auto" and not here):
        return ()
    if not here:
        raise ConfigError(
            f"--device cuda, but there is no GPU in this machine that torch {torch.__version__} can use; "
            f"'sunspark doctor' says more; {_ELSE}"
        )
    if workers <= len(here):
        return here[:workers]
    too_few = f"{workers} workers for {len(here)} GPUs, and each needs one of its own"
    if wanted == "cuda":
        raise ConfigError(f"{too_few}; lower --workers to {len(here)}, {_ELSE}")
    logger.warning("%s: they compute on the processor; lower --workers to %d to use the GPUs", too_few, len(here))
    return ()


def device_of_tasks(wanted: Wanted, gpus_of_executor: float, gpus_of_task: float) -> Device:
    """What workers compute on that are tasks of a cluster; the amounts are Spark's settings, 0 if not set.

    Raises ConfigError when the settings do not give each task one GPU, though some are there or asked for.
    """
    if wanted == "cpu":
        return "cpu"
    if gpus_of_task not in (0, 1):
        raise ConfigError(
            f"spark.task.resource.gpu.amount is {gpus_of_task:g}, but each worker needs one GPU of its own; "
            f"set it to 1, {_ELSE}"
        )
    if gpus_of_task:
        return "cuda"
    if gpus_of_executor:
        raise ConfigError(
            f"spark.executor.resource.gpu.amount is {gpus_of_executor:g}, but tasks ask for no GPU; "
            f"set spark.task.resource.gpu.amount to 1, {_ELSE}"
        )
    if wanted == "cuda":
        raise ConfigError(
            "--device cuda, but Spark's executors have no GPUs; set spark.executor.resource.gpu.amount and "
            f".discoveryScript, and spark.task.resource.gpu.amount to 1, {_ELSE}"
        )
    return "cpu"
