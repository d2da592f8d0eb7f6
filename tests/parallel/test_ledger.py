"""Laws of the ledger: no change of what a step saw keeps its sums; no change of a history keeps its chain."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import pytest

from sunspark.parallel.ledger import GENESIS, Evidence, Ledger, LedgerLine, evidence_of, sum_of_samples

NUM = 12
NOTHING = Evidence(samples=0, sample_sum=0, pixel_sum=0)


@dataclass
class Seen:
    """What a loader returned."""

    sample_ids: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    epoch: int = 3

    def evidence(self) -> Evidence:
        return evidence_of(self.sample_ids, self.labels, self.pixels, self.epoch)

    def take(self, *rows: int) -> "Seen":
        return Seen(self.sample_ids[list(rows)], self.labels[list(rows)], self.pixels[list(rows)], self.epoch)


def seen(seed: int = 0) -> Seen:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 2**64, NUM, dtype=np.uint64)
    return Seen(ids, np.arange(NUM) % 4, rng.integers(0, 256, (NUM, 5, 4, 3), dtype=np.uint8))


def change_label(batch: Seen) -> None:
    batch.labels[4] += 1


def swap_labels(batch: Seen) -> None:
    batch.labels[[0, 1]] = batch.labels[[1, 0]]


def change_epoch(batch: Seen) -> None:
    batch.epoch += 1


def substitute_id(batch: Seen) -> None:
    batch.sample_ids[2] ^= np.uint64(1)


def repeat_one(batch: Seen) -> None:
    batch.__dict__.update(batch.take(*range(NUM), 5).__dict__)


def repeat_one_for_another(batch: Seen) -> None:
    batch.__dict__.update(batch.take(*range(NUM - 1), 5).__dict__)


def skip_one(batch: Seen) -> None:
    batch.__dict__.update(batch.take(*range(NUM - 1)).__dict__)


def take_one_of_another_step(batch: Seen) -> None:
    other = seen(1)
    batch.sample_ids[7], batch.labels[7], batch.pixels[7] = other.sample_ids[7], other.labels[7], other.pixels[7]


CHANGES = [
    change_label, swap_labels, change_epoch, substitute_id, repeat_one, repeat_one_for_another, skip_one,
    take_one_of_another_step,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_of_the_samples_changes_their_sum(change: Callable[[Seen], None]) -> None:
    batch = seen()
    change(batch)
    assert batch.evidence().sample_sum != seen().evidence().sample_sum


def change_pixel(batch: Seen) -> None:
    batch.pixels[3, 2, 1, 0] ^= 1


def substitute_image(batch: Seen) -> None:
    batch.pixels[3] = seen(1).pixels[3]


def swap_images(batch: Seen) -> None:
    batch.pixels[[0, 1]] = batch.pixels[[1, 0]]


def mirror_image(batch: Seen) -> None:
    batch.pixels[3] = batch.pixels[3, :, ::-1]


@pytest.mark.parametrize("change", [change_pixel, substitute_image, swap_images, mirror_image])
def test_every_change_of_the_pixels_changes_their_sum_and_no_other(change: Callable[[Seen], None]) -> None:
    batch = seen()
    change(batch)
    assert batch.evidence().pixel_sum != seen().evidence().pixel_sum
    assert replace(batch.evidence(), pixel_sum=0) == replace(seen().evidence(), pixel_sum=0)


def test_two_equal_samples_do_not_cancel() -> None:
    once, twice = seen().take(0), seen().take(0, 0)
    assert twice.evidence() not in (once.evidence(), NOTHING)
    assert seen().take(0, 0, 1, 1).evidence().sample_sum != seen().take(0, 0, 2, 2).evidence().sample_sum


def test_labels_and_epochs_do_not_stand_in_for_each_other() -> None:
    ids = np.array([77], dtype=np.uint64)
    sums = {sum_of_samples(ids, np.array([label]), epoch) for label, epoch in product(range(50), range(50))}
    assert len(sums) == 2500


def test_the_order_of_samples_does_not_matter() -> None:
    assert seen().take(*reversed(range(NUM))).evidence() == seen().evidence()


@pytest.mark.parametrize("edges", [(), (6,), (0,), (1, 2, 3), (4, 4, 8), (NUM,), tuple(range(NUM))])
def test_the_sum_over_any_partition_is_that_of_the_step(edges: tuple[int, ...]) -> None:
    bounds = [0, *edges, NUM]
    parts = [seen().take(*range(begin, end)) for begin, end in pairwise(bounds)]
    assert sum((part.evidence() for part in parts), NOTHING) == seen().evidence()
    summed = np.stack([part.evidence().to_array() for part in parts]).sum(axis=0)
    assert Evidence.from_array(summed) == seen().evidence(), "as an integer all-reduce sums it"


def test_no_samples_are_no_evidence() -> None:
    assert seen().take().evidence() == NOTHING


def test_the_sum_can_be_computed_from_the_index_alone() -> None:
    batch = seen()
    assert sum_of_samples(batch.sample_ids, batch.labels.astype(np.int32), batch.epoch) == batch.evidence().sample_sum


def test_the_hashes_are_these_on_every_machine() -> None:
    ids = np.arange(1, 5, dtype=np.uint64)
    pixels = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3)
    evidence = evidence_of(ids, np.arange(4), pixels, 2)
    assert evidence == Evidence(samples=4, sample_sum=3580110147425232581, pixel_sum=6515023321691022609)


def lines(count: int, quorum_id: int = 1) -> list[LedgerLine]:
    return [LedgerLine(step=step, quorum_id=quorum_id, evidence=seen(step).evidence()) for step in range(count)]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_ledger_survives_its_array(count: int) -> None:
    ledger = Ledger(lines(count))
    again = Ledger.from_array(ledger.to_array())
    assert ledger.to_array().shape == (count, 5)
    assert ledger.to_array().dtype == np.int64
    assert (again.lines, again.lineage, len(again)) == (ledger.lines, ledger.lineage, count)


def test_an_empty_ledger_stands_at_the_genesis() -> None:
    assert Ledger().lineage == GENESIS


def _other_quorum(history: list[LedgerLine]) -> None:
    history[2] = replace(history[2], quorum_id=9)


def _other_samples(history: list[LedgerLine]) -> None:
    history[2] = replace(history[2], evidence=seen(50).evidence())


def _other_count(history: list[LedgerLine]) -> None:
    history[2] = replace(history[2], evidence=replace(history[2].evidence, samples=11))


def _other_pixels(history: list[LedgerLine]) -> None:
    history[0] = replace(history[0], evidence=replace(history[0].evidence, pixel_sum=1))


def _swapped(history: list[LedgerLine]) -> None:
    history[1], history[2] = history[2], history[1]


def _dropped(history: list[LedgerLine]) -> None:
    del history[2]


def _repeated(history: list[LedgerLine]) -> None:
    history.insert(2, history[2])


@pytest.mark.parametrize(
    "fork", [_other_quorum, _other_samples, _other_count, _other_pixels, _swapped, _dropped, _repeated]
)
def test_a_forked_history_never_leads_to_the_same_chain(fork: Callable[[list[LedgerLine]], None]) -> None:
    history = lines(5)
    fork(history)
    assert Ledger(history).lineage != Ledger(lines(5)).lineage


def test_a_line_takes_little_more_than_its_five_numbers() -> None:
    history = 100 * lines(100)
    tracemalloc.start()
    try:
        ledger = Ledger(history)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 40 * len(ledger) <= held_bytes < 60 * len(ledger)
