"""What a worker process is told at its start: one line of JSON on its standard input, typed here.

Free of torch, so that a supervisor is small and starts at once.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sunspark.parallel.faults import Fault

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USERS_MISTAKE = 2
EXIT_UNWANTED = 3
"""Another process has this worker's place, or the run has ended."""
EXIT_LEFT = 4
"""Left on request, or because the driver or the parent is gone; the state is saved as a candidate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """One worker's task. The launchers fill in `worker` and `incarnation`."""

    task: Literal["train", "evaluate"]
    coordinator: str
    """grpc:// address of the coordinator."""
    lighthouse: str
    """http:// address of the lighthouse; empty for a task without quorums."""
    token: str
    run: str
    dataset: str
    split: str
    """Split that the task works on."""
    cores: int
    """Threads of the worker."""
    gradient_path: Literal["auto", "network"]
    """As in LaunchConfig."""
    device: Literal["cpu", "cuda"] = "cpu"
    """As in LaunchConfig, resolved: the same for all workers of a job."""
    gpus: tuple[str, ...] = ()
    """With cuda: addresses of GPUs, one for each worker; empty where Spark gives each task its own."""
    gpu: str = ""
    """The address of this worker's GPU, as CUDA_VISIBLE_DEVICES takes it; the launchers fill it in."""
    work: dict[str, Any]
    """The WorkConfig, as plain values."""
    faults: tuple[Fault, ...] = ()
    worker: int = -1
    incarnation: int = 0
    in_hand: str = ""
    """Local file in which the process notes what it decodes; its supervisor reads it after its death."""

    @property
    def modules(self) -> tuple[str, ...]:
        """What the worker imports beside torch and takes seconds to load: a nursery does it once for all."""
        return () if self.work["model"]["model"] == "scene_vgg" else ("timm",)

    def for_worker(self, worker: int, incarnation: int, in_hand: str = "") -> "WorkerSpec":
        gpu = self.gpus[worker] if self.gpus else self.gpu
        return replace(self, worker=worker, incarnation=incarnation, in_hand=in_hand, gpu=gpu)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "WorkerSpec":
        plain = json.loads(text)
        faults = tuple(Fault(**fault) for fault in plain.pop("faults"))
        return cls(faults=faults, gpus=tuple(plain.pop("gpus")), **plain)
