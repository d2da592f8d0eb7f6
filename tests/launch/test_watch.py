"""What the driver shows and records of a run that goes on."""

from pathlib import Path
from typing import Any, cast

import pytest

from sunspark.data.order import StepPlan
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.display import Display, ProgressSnapshot
from sunspark.launch.roster import Roster
from sunspark.launch.watch import Watch
from sunspark.records import RecordWriter, driver_file

PLAN = StepPlan(
    dataset_id="d", split="train", seed=0, num_samples=10, global_batch_size=8, num_epochs=4, num_replicas=1
)


class Shown:
    """Stands for the display, and for a coordinator whose roster is played by the test."""

    def __init__(self) -> None:
        self.roster = Roster(1, 10, 0.0)
        self.snapshots: list[ProgressSnapshot] = []
        self.update = self.snapshots.append

    def take_notes(self) -> list[Any]:
        return []


def test_the_pace_counts_the_samples_that_the_smaller_steps_really_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    monkeypatch.setattr("time.monotonic", lambda: clock["now"])
    clock = {"now": 0.0}
    shown.roster.claim(0, "s", 0.0)
    shown.roster.next_incarnation(0, "s", 0.0)
    shown.roster.may_go, shown.roster.step = True, 2
    with RecordWriter(driver_file(str(tmp_path))) as records:
        watch = Watch(records, cast(Display, shown), PLAN, 1)
        for now, step in ((100.0, 2), (101.0, 3), (102.0, 6), (104.0, 8)):
            clock["now"], shown.roster.step = now, step
            watch.look(cast(Coordinator, shown))
    assert [snapshot.images_per_second for snapshot in shown.snapshots] == [0, 8, (8 + 2 + 8 + 2) / 2, 30 / 4]
    assert watch.seconds == 4.0


def test_while_training_it_is_the_pace_of_the_last_minute_and_at_the_end_the_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    monkeypatch.setattr("time.monotonic", lambda: clock["now"])
    clock = {"now": 0.0}
    shown.roster.may_go = True
    with RecordWriter(driver_file(str(tmp_path))) as records:
        watch = Watch(records, cast(Display, shown), PLAN, 1)
        for now, step in ((0.0, 0), (100.0, 2), (160.0, 8)):
            clock["now"], shown.roster.step = now, step
            watch.look(cast(Coordinator, shown))
        shown.roster.finish()
        watch.look(cast(Coordinator, shown))
    assert [snapshot.images_per_second for snapshot in shown.snapshots] == [0, 10 / 100, 30 / 60, 40 / 160]
