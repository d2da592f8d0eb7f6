"""Evaluation: every sample of a split once, over all workers.

The coordinator leases ranges of the split; a worker hands in the tally of a range. A range whose worker is lost is
leased again; the first tally of a range is the one that counts, so nothing is counted twice.
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch

from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.data.decode_pool import Batch
from sunspark.data.loader import EvaluationLoader
from sunspark.errors import SunsparkError
from sunspark.parallel.membership import replica_id_of
from sunspark.parallel.rpc import Reply, RpcClient
from sunspark.training.config import WorkConfig
from sunspark.training.export import load_model
from sunspark.training.forward import logits_of
from sunspark.training.pulse import Farewell, Progress, Pulse
from sunspark.training.spec import EXIT_DONE, EXIT_LEFT, EXIT_UNWANTED, WorkerSpec

logger = logging.getLogger(__name__)

_BATCH_SIZE_PER_WORKER: Final = 64
"""Bounds the memory of a forward pass; while one batch is used the next is decoded."""


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


def sum_of(tallies: Sequence[Tally]) -> Tally:
    """The tally of all samples of `tallies`, at least one."""

    def added(counts: Iterable[list[int]]) -> list[int]:
        return [sum(of_class) for of_class in zip(*counts, strict=True)]

    return Tally(
        samples=added(tally.samples for tally in tallies),
        top1=added(tally.top1 for tally in tallies),
        top5=added(tally.top5 for tally in tallies),
        loss_sum=sum(tally.loss_sum for tally in tallies),
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
    Pulse(coordinator, replica_id, progress, on_leave=_leave).start()
    while not (lease := _call(coordinator, "lease", replica_id=replica_id))["ended"]:
        progress.enter("evaluate")
        if lease["range"] is None:  # the rest is with others, who may be lost yet
            time.sleep(0.2)
            continue
        begin, end = lease["range"]
        tallies = []
        for batch in loader.batches(np.asarray(rows[begin:end]), _BATCH_SIZE_PER_WORKER):
            tallies.append(_tally_batch(model, batch, dtype))
            progress.enter("evaluate")
        _call(coordinator, "hand_in", begin=begin, tally=asdict(sum_of(tallies)))


def _call(coordinator: RpcClient, name: str, **arguments: Any) -> Reply:
    """The reply, however long the driver is away: asking twice does no harm, and the pulse knows when to leave."""
    while True:
        try:
            return coordinator.call(name, **arguments)
        except SunsparkError as error:
            logger.warning("asking again: %s", error)
            time.sleep(1)


def _leave(farewell: Farewell) -> None:
    os._exit({"ended": EXIT_DONE, "unwanted": EXIT_UNWANTED}.get(farewell, EXIT_LEFT))


def _tally_batch(model: torch.nn.Module, batch: Batch, dtype: str) -> Tally:
    with torch.inference_mode():
        return tally_of(logits_of(model, batch, dtype), torch.from_numpy(batch.labels))
