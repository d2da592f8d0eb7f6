"""Evaluation: every sample of a split once, over all workers.

The coordinator leases ranges of the split; a worker hands in the tally of a range. A range whose worker is lost is
leased again; the first tally of a range is the one that counts, so nothing is counted twice.
"""

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.data.decode_pool import Batch
from sunspark.data.loader import EvaluationLoader
from sunspark.parallel.membership import replica_id_of
from sunspark.parallel.rpc import RpcClient
from sunspark.training.config import WorkConfig
from sunspark.training.export import load_model
from sunspark.training.pulse import Progress, Pulse
from sunspark.training.spec import EXIT_DONE, WorkerSpec
from sunspark.training.trainer import logits_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What came of some samples; all counts are per class, in label order."""

    samples: list[int]
    top1: list[int]
    top5: list[int]
    loss_sum: float
    """Sum of the cross-entropies (nats)."""


def tally_of(logits_BK: torch.Tensor, labels_B: torch.Tensor) -> Tally:
    """The tally of one batch."""
    num_classes = logits_BK.shape[1]
    ranked = logits_BK.topk(min(5, num_classes), dim=1).indices == labels_B[:, None]

    def per_class(hits_B: torch.Tensor) -> list[int]:
        counts: list[int] = torch.bincount(labels_B[hits_B], minlength=num_classes).tolist()
        return counts

    return Tally(
        samples=per_class(torch.ones_like(labels_B, dtype=torch.bool)),
        top1=per_class(ranked[:, 0]),
        top5=per_class(ranked.any(dim=1)),
        loss_sum=float(torch.nn.functional.cross_entropy(logits_BK, labels_B, reduction="sum")),
    )


def evaluate_leases(spec: WorkerSpec) -> None:
    """Work off leases until the coordinator has none left."""
    coordinator = RpcClient(spec.coordinator, spec.token)
    replica_id = replica_id_of(spec.worker, spec.incarnation)
    model, description = load_model(spec.run)
    work = from_dict(WorkConfig, spec.work)
    dataset = Dataset.open(spec.dataset)
    rows = dataset.rows(spec.split)
    loader = EvaluationLoader(dataset, work.data, num_threads=spec.cores)
    dtype = str(description["dtype"])
    progress = Progress()
    Pulse(coordinator, replica_id, progress, on_leave=lambda _: os._exit(EXIT_DONE)).start()
    while not (lease := coordinator.call("lease", replica_id=replica_id))["ended"]:
        progress.enter("evaluate")
        if lease["range"] is None:  # the rest is with others, who may be lost yet
            time.sleep(0.2)
            continue
        begin, end = lease["range"]
        tally = _evaluate(model, loader.load_rows(np.asarray(rows[begin:end])), dtype)
        coordinator.call("hand_in", begin=begin, tally=tally)


def _evaluate(model: torch.nn.Module, batch: Batch, dtype: str) -> dict[str, Any]:
    with torch.inference_mode():
        tally = tally_of(logits_of(model, batch, dtype), torch.from_numpy(batch.labels))
    return {name: getattr(tally, name) for name in tally.__dataclass_fields__}
