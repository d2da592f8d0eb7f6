"""A report names the worker that the others wait for, where there is one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sunspark.bench.stragglers import in_words, straggler_of
from sunspark.records import StepRecord

RECORD = StepRecord(
    worker=0, incarnation=1, time_unix_seconds=0.0, step=0, epoch=0, loss=1.0, learning_rate=0.1, gradient_norm=1.0,
    samples=8, quorum_seconds=0.0, data_seconds=0.0, forward_seconds=0.0, backward_seconds=0.0,
    communication_seconds=0.0, optimizer_seconds=0.0, peak_memory_bytes=0, world_size=1, rank=0,
)  # fmt: skip


def steps_of(computing: Sequence[Sequence[float]], exchange_seconds: float = 0.1) -> list[StepRecord]:
    """The records of steps, from how long each worker computed in each: who is done first waits for the last."""
    return [
        replace(
            RECORD,
            worker=worker,
            rank=worker,
            step=step,
            time_unix_seconds=float(step),
            world_size=len(seconds),
            forward_seconds=own,
            communication_seconds=max(seconds) - own + exchange_seconds,
        )
        for step, seconds in enumerate(computing)
        for worker, own in enumerate(seconds)
    ]


@pytest.mark.parametrize(
    ("computing", "expected"),
    [
        ([[1.0, 1.0, 4.0]] * 10, "waited 1 min 0 s for worker 2, 73 % of their time: it came last in 100 % of the"),
        ([[1.0, 4.0]] * 9 + [[4.0, 1.0]], "waited 27 s for worker 1, 66 % of their time: it came last in 90 % of the"),
        ([[4.0, 1.0], [1.0, 4.0]] * 5, ""),  # each is slow at times
        ([[1.0, 1.05]] * 10, ""),  # not worth a word
        ([[1.0]] * 10, ""),
        ([], ""),
    ],
    ids=["one of three", "nine of ten", "by turns", "hardly", "alone", "nothing yet"],
)
def test_who_is_waited_for(computing: Sequence[Sequence[float]], expected: str) -> None:
    said = in_words(straggler_of(steps_of(computing))).replace("\u00a0", " ")
    assert expected in said
    assert bool(said) == bool(expected)


def test_a_step_that_was_done_again_by_others_counts_as_it_was_done_last() -> None:
    again = [replace(record, time_unix_seconds=100.0) for record in steps_of([[1.0, 4.0]] * 10)]
    straggler = straggler_of([*steps_of([[4.0, 1.0, 1.0]] * 10), *again])
    assert straggler is not None
    assert straggler.worker == 1
