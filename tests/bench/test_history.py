"""Laws of the arrays behind the charts: a step counts once, time that passed is accounted for once."""

from pathlib import Path

import numpy as np
import pytest

from sunspark.bench.history import ELSEWHERE, PHASES, images_per_second, phase_totals, step_history, training_clock
from sunspark.records import (
    EventRecord,
    RecordWriter,
    StepRecord,
    read_records,
    worker_file,
)
from tests.bench.made_run import MadeRun

pytestmark = pytest.mark.timeout(60)


def test_a_step_has_the_samples_of_all_its_workers_and_the_time_of_the_last(made: MadeRun) -> None:
    made.write()
    records = read_records(str(made.run))
    history = step_history(records, training_clock(records))
    assert history.step_S.tolist() == list(range(480))
    assert set(history.samples_S.tolist()) == {64}
    assert set(history.num_workers_S.tolist()) == {2}
    assert (np.diff(history.finished_seconds_S) > 0).all()


def test_a_step_done_again_by_fewer_workers_counts_once(tmp_path: Path) -> None:
    run = MadeRun(run=tmp_path / "run", num_workers=3, num_steps=10, batch=66)
    run.write()
    last = [record for record in read_records(str(run.run)) if isinstance(record, StepRecord)][-1]
    with RecordWriter(worker_file(str(run.run), 0, 1)) as writer:
        for step in range(5, 10):
            values = {name: getattr(last, name) for name in StepRecord.__dataclass_fields__}
            values |= {"worker": 0, "incarnation": 1, "rank": 0, "world_size": 1, "samples": 66, "step": step}
            writer.write(StepRecord(**values | {"time_unix_seconds": last.time_unix_seconds + step}))
    records = read_records(str(run.run))
    history = step_history(records, training_clock(records))
    assert history.samples_S.tolist() == [66] * 10
    assert history.num_workers_S.tolist() == [3] * 5 + [1] * 5


def test_the_hour_between_two_sessions_is_not_training(tmp_path: Path) -> None:
    seconds = []
    for name, pause_at in (("paused", 200), ("through", None)):
        run = MadeRun(run=tmp_path / name, pause_at=pause_at)
        run.write()
        records = read_records(str(run.run))
        clock = training_clock(records)
        seconds.append(step_history(records, clock).finished_seconds_S[-1])
        seconds.append(sum(phase_totals(records, clock).values()))
    assert seconds[:2] == pytest.approx(seconds[2:], rel=1e-4)


def test_images_per_second_add_up_to_the_images(made: MadeRun) -> None:
    made.write()
    records = read_records(str(made.run))
    history = step_history(records, training_clock(records))
    edges, rates = images_per_second(history, 50)
    assert (np.diff(edges) * rates).sum() == pytest.approx(479 * 64)


def test_phases_and_what_lay_between_add_up_to_the_time_of_the_workers(tmp_path: Path) -> None:
    run = MadeRun(run=tmp_path / "run", num_workers=1, num_steps=100, steps_per_epoch=10)
    run.write()
    records = read_records(str(run.run))
    clock = training_clock(records)
    totals = phase_totals(records, clock)
    steps = [record for record in records if isinstance(record, StepRecord)]
    first = sum(getattr(steps[0], f"{phase}_seconds") for phase in PHASES)
    alive = steps[-1].time_unix_seconds - steps[0].time_unix_seconds + first
    assert sum(totals.values()) == pytest.approx(alive)
    assert totals[ELSEWHERE] > 4 * 0.25  # the checkpoints


def test_training_begins_with_the_first_worker_not_with_the_start_of_spark(made: MadeRun) -> None:
    made.write()
    records = read_records(str(made.run))
    begun, joined = records[0], next(r for r in records if isinstance(r, EventRecord) and r.event == "joined")
    clock = training_clock(records)
    assert joined.time_unix_seconds > begun.time_unix_seconds
    assert clock.seconds(joined.time_unix_seconds) == clock.seconds(begun.time_unix_seconds) == 0
    assert clock.seconds(joined.time_unix_seconds + 7) == pytest.approx(7)
