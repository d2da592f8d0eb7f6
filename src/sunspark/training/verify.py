"""Was every sample of every epoch applied exactly once?

Of the run, its ledger is judged, and only its configuration believed (which split, seed, batches, replicas, image
size and augmentation were meant). What each step should have seen is computed again from the dataset and the order
alone: for every step the sum over (sample id, label, epoch); for some steps, or all, the pixels too, by decoding and
augmenting them again. The chain over the lines must end in the lineage that the final model carries.
"""

import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from sunspark import run_directory, storage
from sunspark.config import from_dict
from sunspark.data.augment import PIXELS_VERSION, training_pixels
from sunspark.data.dataset import Block, Dataset
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.loader import without
from sunspark.data.order import StepPlan
from sunspark.errors import RunError
from sunspark.parallel.ledger import Evidence, LedgerLine, evidence_of, sum_of_samples
from sunspark.training import checkpoint
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.state_file import StateContents, lineage_of, read
from sunspark.training.validation import best_of, end_of

_PIXEL_STEPS = 20
_MOST_WAYS = 10_000
"""To leave out some of a step's excused samples, each tried in turn."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochAccount:
    """The samples of one epoch: how many belong to it, and what became of them."""

    epoch: int
    samples: int
    missing: int
    """Samples of steps that the ledger lacks or whose sums are wrong: not shown to be applied."""
    repeated: int
    """Samples counted beyond those that belong to their step."""
    excused: int
    """Samples set aside on purpose."""
    is_whole: bool = True
    """False for the last epoch of a run that stands in the midst of it: this is about its steps so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyResult:
    """The verdict on a run."""

    exactly_once: bool
    epochs: list[EpochAccount]
    steps: int
    """Steps in the ledger."""
    finished: bool
    """Whether they are all steps of the run."""
    steps_with_pixels_checked: int
    problems: list[str]
    """What is wrong, in words; the first ten."""


def verify(run: str, dataset: str | None = None, pixels: bool = False) -> VerifyResult:
    """Check the ledger of `run`: every step's samples, and the pixels of 20 random steps (`pixels`: of all).

    Raises RunError when there is no run or no checkpoint yet, or it belongs to another dataset.
    """
    run = storage.absolute(run)
    stored = run_directory.read_config(run)
    work, opened = _open(run, stored, dataset)
    can_check_pixels = _can_check_pixels(run, stored, is_asked_to=pixels)
    states = checkpoint.checkpoints(run)
    if not states:
        remedy = "wait for its first one" if run_directory.is_training(run) else "train it first"
        raise RunError(f"{run} has no checkpoint yet, and so no ledger; {remedy}")
    if run_directory.is_training(run):
        logger.warning("%s is still training: this is about its first %d steps", run, states[-1].step)
    last = read(checkpoint.read_bytes(states[-1].uri), states[-1].uri)
    lines = last.ledger.lines
    plan = plan_of(opened, work)
    run_directory.refuse_other_blocks(run, stored, plan.blocks_digest)
    problems = [*_broken_chain(last, lines), *_other_model(run, work, last)]
    # A run that says it is finished owes all its steps, up to an early end; another one those that it has done.
    is_finished = storage.exists(run_directory.result_file(run))
    num_steps = end_of(work.validation, last.evaluations, plan.num_steps)
    due = range(num_steps if is_finished else min(len(lines), num_steps))
    if len(lines) != len(due):
        problems.append(f"the ledger holds {len(lines)} steps, and {len(due)} were to be taken")
    excused = frozenset(run_directory.read_excused(run))
    expected = [_expected(plan, opened, step, excused, lines[step : step + 1]) for step in due]
    problems += _wrong_samples(lines, expected)
    taken = range(min(len(lines), len(due)))
    chosen = taken if pixels else _some(len(taken) if can_check_pixels else 0)
    problems += _wrong_pixels([expected[step] for step in chosen], lines, plan, opened, work)
    result = VerifyResult(
        exactly_once=not problems,
        epochs=_accounts(lines, expected, plan),
        steps=len(lines),
        finished=len(lines) == num_steps,
        steps_with_pixels_checked=len(chosen),
        problems=problems[:10],
    )
    storage.write_json_atomic(run_directory.verdict_file(run), asdict(result))
    return result


def _can_check_pixels(run: str, stored: dict[str, Any], *, is_asked_to: bool) -> bool:
    """Whether this version makes the pixels that the run had; RunError when it does not, and was asked for all."""
    if stored["pixels_version"] == PIXELS_VERSION:
        return True
    problem = (
        f"{run} was started by a sunspark that makes pixels in another way (version {stored['pixels_version']}, now "
        f"{PIXELS_VERSION})"
    )
    if is_asked_to:
        raise RunError(f"{problem}; check them with that one, or leave out --pixels to check the samples alone")
    logger.warning("%s; only its samples are checked", problem)
    return False


def _open(run: str, stored: dict[str, Any], dataset: str | None) -> tuple[WorkConfig, Dataset]:
    opened = Dataset.open(dataset or stored["dataset"])
    if opened.id != stored["dataset_id"]:
        raise RunError(f"{run} was trained on dataset {stored['dataset_id'][:12]}, this one is {opened.id[:12]}")
    return from_dict(WorkConfig, stored["work"]), opened


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expected:
    """What a step must have been taken with."""

    step: int
    rows: npt.NDArray[np.int64]
    """Of the dataset."""
    sample_sum: int
    excused: int
    """Samples of the step that were set aside."""


def _expected(
    plan: StepPlan, dataset: Dataset, step: int, excused: frozenset[int], line: Sequence[LedgerLine]
) -> _Expected:
    """The samples of `step`; without those that are excused, as far as it was taken so: an excuse has a beginning."""
    rows = dataset.rows(plan.split)[plan.rows_of(step)]

    def sum_of(left: npt.NDArray[np.int64]) -> int:
        return sum_of_samples(dataset.sample_ids[left], dataset.labels[left], plan.epoch_of(step))

    left = without(rows, excused)
    if line:
        num_left_out, seen = len(rows) - line[0].evidence.samples, line[0].evidence.sample_sum
        may_be_left_out = np.setdiff1d(rows, left).tolist()
        ways = itertools.combinations(may_be_left_out, num_left_out) if num_left_out >= 0 else iter(())
        tried = (without(rows, left_out) for left_out in itertools.islice(ways, _MOST_WAYS))
        left = next((one for one in tried if sum_of(one) == seen), rows)
    return _Expected(step=step, rows=left, sample_sum=sum_of(left), excused=len(rows) - len(left))


def _is_right(line: LedgerLine, expected: _Expected) -> bool:
    return (line.evidence.samples, line.evidence.sample_sum) == (len(expected.rows), expected.sample_sum)


def _broken_chain(last: StateContents, lines: Sequence[LedgerLine]) -> Iterator[str]:
    if lineage_of(last.ledger, last.evaluations) != last.metadata["lineage"]:
        yield "the chain over the ledger's lines does not lead to the model's lineage"
    for index, line in enumerate(lines):
        if line.step != index:
            yield f"line {index} of the ledger is of step {line.step}"
            return


def _other_model(run: str, work: WorkConfig, last: StateContents) -> Iterator[str]:
    """The model that was exported must be the one that the ledger tells of, or its best state on the way."""
    path = run_directory.model_weights_file(run)
    if not storage.exists(path):
        return
    kept, best = last, best_of(last.evaluations)
    if best and work.validation.keep == "best" and best.step < len(last.ledger):
        uri = checkpoint.uri_of(run, best.step)
        kept = read(checkpoint.read_bytes(uri), uri)
        if not _is_on_the_way(kept, best.step, last):
            yield f"the best state, after {best.step} steps, is not on the way to the last one"
    exported, judged = safetensors.torch.load(storage.read_bytes(path)), kept.judged_weights
    if exported.keys() != judged.keys() or any(not _same_bits(exported[name], judged[name]) for name in judged):
        yield "RUN/model holds other weights than the checkpoint that the ledger belongs to"


def _is_on_the_way(earlier: StateContents, step: int, last: StateContents) -> bool:
    evaluations = earlier.evaluations
    return earlier.ledger.lines == last.ledger.lines[:step] and evaluations == last.evaluations[: len(evaluations)]


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Also where training diverged: no NaN equals itself."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))


def _wrong_samples(lines: Sequence[LedgerLine], expected: Sequence[_Expected]) -> Iterator[str]:
    for line, due in zip(lines, expected, strict=False):
        if line.evidence.samples != len(due.rows):
            yield f"step {line.step} was taken with {line.evidence.samples} samples, it has {len(due.rows)}"
        elif line.evidence.sample_sum != due.sample_sum:
            yield f"step {line.step} was taken with other samples or labels than its own"


def _wrong_pixels(
    chosen: Sequence[_Expected], lines: Sequence[LedgerLine], plan: StepPlan, dataset: Dataset, work: WorkConfig
) -> Iterator[str]:
    """Decode the samples of the chosen steps anew, from the dataset itself: what trained must not be what checks."""
    wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)  # block -> (row, step)
    for expected in chosen:
        for row in expected.rows:
            wanted[dataset.block_of(int(row))].append((int(row), expected.step))
    seen = {expected.step: Evidence(samples=0, sample_sum=0, pixel_sum=0) for expected in chosen}
    for block, pairs in wanted.items():
        stored = dataset.read_block(block)
        for row, step in pairs:
            seen[step] += _evidence_of_one(stored, row - stored.first_row, plan, plan.epoch_of(step), work)
    for step in seen:
        if seen[step].pixel_sum != lines[step].evidence.pixel_sum:
            yield f"step {step} was taken with other pixels than its own"


def _evidence_of_one(block: Block, index: int, plan: StepPlan, epoch: int, work: WorkConfig) -> Evidence:
    ids, labels = block.sample_ids[index : index + 1], block.labels[index : index + 1]
    random_numbers = KeyedRandom(plan.seed, epoch, int(ids[0]))
    pixels = training_pixels(block.images[index], work.data.image_size, random_numbers, work.data.augment)
    return evidence_of(ids, labels.astype(np.int64), pixels[np.newaxis], epoch)


def _some(num_steps: int) -> Sequence[int]:
    return sorted(random.sample(range(num_steps), min(_PIXEL_STEPS, num_steps)))


def _accounts(lines: Sequence[LedgerLine], expected: Sequence[_Expected], plan: StepPlan) -> list[EpochAccount]:
    accounts = []
    for epoch in range(-(-len(expected) // plan.steps_per_epoch)):
        due = range(epoch * plan.steps_per_epoch, min((epoch + 1) * plan.steps_per_epoch, len(expected)))
        taken = [step for step in due if step < len(lines)]
        right = [step for step in taken if _is_right(lines[step], expected[step])]
        accounts.append(
            EpochAccount(
                epoch=epoch,
                samples=sum(lines[step].evidence.samples for step in taken),
                missing=sum(len(expected[step].rows) for step in due) - sum(len(expected[step].rows) for step in right),
                repeated=sum(max(0, lines[step].evidence.samples - len(expected[step].rows)) for step in taken),
                excused=sum(expected[step].excused for step in taken),
                is_whole=len(due) == plan.steps_per_epoch,
            )
        )
    return accounts
