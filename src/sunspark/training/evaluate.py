"""Evaluation: every sample of a split once, over all workers.

The coordinator leases ranges of the split; a worker hands in the tally of a range. A range whose worker is lost is
leased again; the first tally of a range is the one that counts, so nothing is counted twice. An image that kills the
process that decodes it is found as in training; a lease says which are known, and they are left out.
"""

import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import torch

from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.data.decode_pool import Batch, Rows
from sunspark.data.in_hand import InHand
from sunspark.data.loader import EvaluationLoader, without
from sunspark.errors import SunsparkError
from sunspark.parallel.membership import replica_id_of
from sunspark.parallel.rpc import Reply, RpcClient, address_towards
from sunspark.training.config import WorkConfig
from sunspark.training.export import load_model
from sunspark.training.forward import logits_of
from sunspark.training.pulse import Farewell, Progress, Pulse
from sunspark.training.spec import EXIT_DONE, EXIT_LEFT, EXIT_UNWANTED, WorkerSpec
from sunspark.training.tally import NOTHING, Sighting, Tally, tally

logger = logging.getLogger(__name__)

_BATCH_SIZE_PER_WORKER: Final = 64
"""Bounds the memory of a forward pass; while one batch is used the next is decoded."""


def tally_of(logits_BK: torch.Tensor, labels_B: torch.Tensor, rows_B: Rows) -> Tally:
    """The tally of one batch, whose samples are the rows `rows_B` of the dataset."""
    num_classes = logits_BK.shape[1]
    ranked = logits_BK.topk(min(5, num_classes), dim=1).indices
    predicted_B = ranked[:, 0]
    probabilities_B = logits_BK.softmax(dim=1).gather(1, predicted_B[:, None])[:, 0]
    pairs = list(zip(labels_B.tolist(), predicted_B.tolist(), strict=True))
    return tally(
        confusion=Counter(pairs),
        top5=int((ranked == labels_B[:, None]).any(dim=1).sum()),
        loss_sum=float(torch.nn.functional.cross_entropy(logits_BK, labels_B, reduction="sum")),
        sightings=[
            Sighting(row=row, label=label, predicted=predicted, probability=probability)
            for row, (label, predicted), probability in zip(
                rows_B.tolist(), pairs, probabilities_B.tolist(), strict=True
            )
        ],
    )


def evaluate_leases(spec: WorkerSpec, device: torch.device) -> None:
    """Work off leases on `device` until the coordinator has none left."""
    coordinator = RpcClient(spec.coordinator, spec.token)
    replica_id = replica_id_of(spec.worker, spec.incarnation)
    host = address_towards(spec.coordinator)
    if farewell := coordinator.call("join", replica_id=replica_id, host=host, pid=os.getpid())["farewell"]:
        _leave(farewell)
    model, description = load_model(spec.run)
    model.to(device)
    work = from_dict(WorkConfig, spec.work)
    dataset = Dataset.open(spec.dataset)
    rows = dataset.rows(spec.split)
    loader = EvaluationLoader(dataset, work.data, spec.cores, InHand(Path(spec.in_hand)))
    dtype = str(description["dtype"])
    progress = Progress()
    Pulse(coordinator, replica_id, progress, on_leave=_leave).start()
    while not (lease := _call(coordinator, "lease", replica_id=replica_id))["ended"]:
        progress.enter("evaluate")
        if lease["range"] is None:  # the rest is with others, who may be lost yet
            time.sleep(0.2)
            continue
        begin, end = lease["range"]
        leased = without(rows[begin:end], lease["excused"])
        total, first = NOTHING, 0
        for batch in loader.batches(leased, _BATCH_SIZE_PER_WORKER):
            total += _tally_batch(model, batch, leased[first : first + len(batch)], dtype)
            first += len(batch)
            progress.enter("evaluate")
        _call(coordinator, "hand_in", begin=begin, tally=total.to_plain())


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


def _tally_batch(model: torch.nn.Module, batch: Batch, rows_B: Rows, dtype: str) -> Tally:
    with torch.inference_mode():
        return tally_of(logits_of(model, batch, dtype), torch.from_numpy(batch.labels), rows_B)
