"""Laws of results that are stored: in a long round, a death costs the replicas that the dead one had not finished.

Played around a table (`table.py`), every round being long.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sunspark.parallel.membership import Agreement
from sunspark.training.config import WorkConfig
from sunspark.training.state import TrainingState
from sunspark.training.strategies import local_sgd, stored_results
from sunspark.training.strategies.strategy import Share
from sunspark.training.validation import Evaluation
from tests.training.table import Clock, Table, summands, table
from tests.training.test_strategies import distance, finished_replicas, model_of, work_of

pytestmark = pytest.mark.timeout(240)

STEPS = 4
"""Of a round."""


def work_with(**strategy: Any) -> WorkConfig:
    return work_of({"strategy": "local_sgd", "sync_every": STEPS, **strategy}, replicas=6, batch=24)


AVERAGE, KEEP, RESET = work_with(), work_with(strategy="diloco", inner_state="keep"), work_with(inner_state="reset")
each_inner_state = pytest.mark.parametrize(
    "work",
    [
        pytest.param(AVERAGE, id="average", marks=pytest.mark.laws),
        pytest.param(KEEP, id="keep"),
        pytest.param(RESET, id="reset", marks=pytest.mark.laws),
    ],
)


@pytest.fixture(autouse=True)
def every_round_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_sgd, "LONG_ROUND_SECONDS", 0.0)


def stored(run: str) -> list[int]:
    return sorted(int(path.name[-16:-12]) for path in Path(run).glob("rounds/*.safetensors"))


def play(opened: Table, budgets: Sequence[int | None]) -> tuple[Agreement, list[Share | None], list[Clock]]:
    """A quorum; each member is called away after so many steps, if not None."""
    clocks = [Clock(budget) for budget in budgets]
    agreement = opened.agree()
    return agreement, opened.compute(agreement, clocks), clocks


def end(opened: Table, agreement: Agreement, shares: Sequence[Share | None]) -> None:
    opened.exchange(agreement, [share for share in shares if share is not None], lambda _: True)


_rounds: dict[str, TrainingState] = {}


def undisturbed_round(dataset: str, work: WorkConfig) -> TrainingState:
    """After one round of one worker that nothing happened to."""
    if repr(work) not in _rounds:
        with table(dataset, work, model_of(work), workers=1) as opened:
            agreement, shares, _ = play(opened, [None])
            end(opened, agreement, shares)
            _rounds[repr(work)] = opened.seats[0].state
    return _rounds[repr(work)]


def passes(clocks: Sequence[Clock]) -> int:
    return sum(len(clock.steps) for clock in clocks)


@each_inner_state
def test_a_death_costs_only_the_replicas_that_the_dead_one_had_not_finished(law_dataset: str, work: WorkConfig) -> None:
    with table(law_dataset, work, model_of(work), workers=2) as opened:
        play(opened, [STEPS + 2, 2 * STEPS + 2])
        assert finished_replicas(opened.seats) == [(0,), (1, 3)]
        opened.leave(opened.seats[1])
        opened.sit(1)
        agreement, shares, clocks = play(opened, [None, None])
        # Two of the dead one's three are stored; the one alive goes on in the middle of its second.
        assert passes(clocks) == 6 * STEPS - 3 * STEPS - 2
        assert [replica for clock in clocks for replica in clock.redone] == [5]
        assert sorted(sum(finished_replicas(opened.seats), ())) == [0, 1, 2, 3, 4, 5]
        end(opened, agreement, shares)
        assert distance(opened.seats[0].state, undisturbed_round(law_dataset, work)) <= 1e-9


def test_who_is_left_takes_up_what_nobody_comes_back_for(law_dataset: str) -> None:
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=3) as opened:
        play(opened, [None, None, None])
        opened.leave(opened.seats[0])
        opened.leave(opened.seats[0])
        agreement, shares, clocks = play(opened, [None])
        assert (passes(clocks), clocks[0].redone) == (0, [])
        end(opened, agreement, shares)
        assert distance(opened.seats[0].state, undisturbed_round(law_dataset, AVERAGE)) <= 1e-9


def test_when_all_die_others_go_on_from_where_they_were(law_dataset: str, run_folder: Path) -> None:
    with table(law_dataset, KEEP, model_of(KEEP), workers=2, run=str(run_folder)) as opened:
        play(opened, [2 * STEPS + 1, STEPS + 1])
        assert stored(opened.run) == [0, 1, 2]
    with table(law_dataset, KEEP, model_of(KEEP), workers=3, run=str(run_folder)) as opened:
        for seat in opened.seats:  # evaluated again, by more workers
            seat.state.add_evaluation(Evaluation(step=0, samples=9, top1=0.1, top5=0.5, mean_per_class=0.1, loss=2.0))
        agreement, shares, clocks = play(opened, [None] * 3)
        assert passes(clocks) == 3 * STEPS
        end(opened, agreement, shares)
        assert distance(opened.seats[0].state, undisturbed_round(law_dataset, KEEP)) <= 1e-9


def test_a_late_process_takes_up_what_was_stored_before_it_came_to_the_round(law_dataset: str) -> None:
    """It knows nothing of those who died, but that the round is under way."""
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=3) as opened:
        agreement, shares, _ = play(opened, [None] * 3)
        late = opened.seats[2]
        opened.exchange(agreement, [s for s in shares if s is not None], lambda seat: seat is not late)
        opened.seats.remove(late)
        opened.compute(opened.agree(), [Clock(STEPS + 2), Clock(2 * STEPS + 2)])
        opened.leave(opened.seats[1])
        opened.seats.append(late)
        clocks = [Clock(), Clock()]
        shares = opened.compute(opened.agree(), clocks)
        assert late.state.step == STEPS
        assert passes(clocks) == 6 * STEPS - STEPS - 2 - 2 * STEPS
        assert all(share is not None for share in shares)


def test_what_is_taken_up_is_bit_for_bit_what_was_computed(law_dataset: str, run_folder: Path) -> None:
    sums: list[list[torch.Tensor]] = []
    for _ in range(2):
        with table(law_dataset, KEEP, model_of(KEEP), workers=1, run=str(run_folder)) as opened:
            _, shares, clocks = play(opened, [None])
            assert shares[0] is not None
            gradients = [
                summand.grad.clone() for summand in summands(opened.seats[0].state) if summand.grad is not None
            ]
            sums.append([*gradients, *shares[0].tallies])
    assert clocks[0].steps == []
    assert all(torch.equal(one, other) for one, other in zip(*sums, strict=True))


def damage(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def swap(path: Path) -> None:
    other = next(one for one in sorted(path.parent.iterdir()) if one != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(damage, "is damaged"), (swap, "another round or replica"), (lambda path: path.write_bytes(b""), "not whole")],
    ids=["damaged", "of another replica", "empty"],
)
def test_a_file_that_is_not_what_was_written_is_not_trusted(
    law_dataset: str, run_folder: Path, spoil: Callable[[Path], object], said: str
) -> None:
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=1, run=str(run_folder)) as opened:
        play(opened, [2 * STEPS + 1])
    (path,) = (run_folder / "rounds").glob("*.replica-0001.safetensors")
    spoil(path)
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=1, run=str(run_folder)) as opened:
        agreement, shares, (clock,) = play(opened, [None])
        assert len(clock.steps) == 5 * STEPS
        (note,) = clock.unsaved
        assert said in note
        assert note.startswith("replica 1 is done again: ")
        end(opened, agreement, shares)
        assert distance(opened.seats[0].state, undisturbed_round(law_dataset, AVERAGE)) <= 1e-9


def test_storage_that_takes_nothing_costs_the_results_and_nothing_else(law_dataset: str, run_folder: Path) -> None:
    run_folder.mkdir()
    (run_folder / "rounds").write_text("no folder")
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=1, run=str(run_folder)) as opened:
        agreement, shares, (clock,) = play(opened, [None])
        assert len(clock.unsaved) == 7, "the look at what is there, and six results"
        assert clock.unsaved[1].startswith("the result of replica 0: ")
        end(opened, agreement, shares)
        assert distance(opened.seats[0].state, undisturbed_round(law_dataset, AVERAGE)) <= 1e-9


@pytest.fixture
def storage_that_hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    released = threading.Event()
    monkeypatch.setattr(stored_results, "_STORAGE_SECONDS", 0.2)
    monkeypatch.setattr(stored_results.storage, "write_bytes_atomic", lambda *_: released.wait(60))
    yield
    released.set()


@pytest.mark.usefixtures("storage_that_hangs")
def test_storage_that_hangs_is_not_waited_for(law_dataset: str) -> None:
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=1) as opened:
        agreement, shares, (clock,) = play(opened, [None])
        assert "did not answer within" in clock.unsaved[0]
        assert ["has not answered yet" in note for note in clock.unsaved] == [False] + 5 * [True]
        end(opened, agreement, shares)


def test_results_are_there_until_their_round_counts(law_dataset: str) -> None:
    """One of two has applied it, and dies before it has told anybody: its results are still needed."""
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=2) as opened:
        agreement, shares, _ = play(opened, [None, None])
        first = opened.seats[0]
        opened.exchange(agreement, [s for s in shares if s is not None], lambda seat: seat is first)
        opened.leave(first)
        agreement, shares, (clock,) = play(opened, [None])
        assert (clock.steps, clock.redone) == ([], [])
        end(opened, agreement, shares)
        assert stored(opened.run) == [0, 1, 2, 3, 4, 5]
        play(opened, [1])
        assert stored(opened.run) == [], "those of the round before"


def test_results_of_other_rounds_are_deleted_by_who_comes(law_dataset: str, run_folder: Path) -> None:
    (run_folder / "rounds").mkdir(parents=True)
    for name in ("step-000000000.feed.replica-0000", "step-000000099.abc.replica-0001"):
        (run_folder / "rounds" / f"{name}.safetensors").write_bytes(b"old")
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=1, run=str(run_folder)) as opened:
        play(opened, [STEPS + 1])
        assert stored(opened.run) == [0]


def test_a_short_round_stores_nothing(law_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_sgd, "LONG_ROUND_SECONDS", 60.0)
    with table(law_dataset, AVERAGE, model_of(AVERAGE), workers=1) as opened:
        play(opened, [None])
        assert stored(opened.run) == []
