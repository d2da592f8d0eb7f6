"""What is written down of an evaluation while training: a record, and a sentence."""

import time
from dataclasses import asdict

from sunspark.data.order import StepPlan
from sunspark.records import EvaluationRecord
from sunspark.training.validation import Evaluation


def record_of(
    evaluation: Evaluation, plan: StepPlan, *, split: str, num_rows: int, worker: int, incarnation: int
) -> EvaluationRecord:
    """Its record, by whom it says; the split has `num_rows` samples."""
    return EvaluationRecord(
        worker=worker,
        incarnation=incarnation,
        time_unix_seconds=time.time(),
        epoch=-(-evaluation.step // plan.steps_per_epoch),
        split=split,
        excused=num_rows - evaluation.samples,
        **asdict(evaluation),
    )


def sentence_of(evaluation: Evaluation, split: str) -> str:
    """For people."""
    shares = f"top-1 {100 * evaluation.top1:.2f} %, top-5 {100 * evaluation.top5:.2f} %"
    return f"{split}: {shares}, loss {evaluation.loss:.4f}"
