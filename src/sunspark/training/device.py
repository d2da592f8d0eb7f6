"""The device that a worker process computes on: a GPU of its own, or the processor."""

import os
import socket

import torch

from sunspark.errors import WorkerError
from sunspark.parallel import nccl
from sunspark.training.spec import WorkerSpec


def open_device(spec: WorkerSpec) -> torch.device:
    """The device of this process, which sees no other GPU from now on. Raises WorkerError when torch cannot use it.

    Call it before anything else that asks for CUDA, which reads its environment once.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = spec.gpu
    if spec.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WorkerError(
            f"with CUDA_VISIBLE_DEVICES={spec.gpu} torch {torch.__version__} can use no GPU of {socket.gethostname()}; "
            "see that its driver is as new as torch's CUDA needs ('nvidia-smi' tells), or give --device cpu"
        )
    os.environ.update(nccl.ENVIRONMENT)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    return torch.device("cuda", 0)
