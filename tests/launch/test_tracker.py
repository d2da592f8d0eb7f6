"""Laws of the tracker: what TensorBoard reads is what the records say, every step once, whatever happened."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from sunspark.data.order import StepPlan
from sunspark.errors import ConfigError, SetupError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import evaluate
from sunspark.launch.tracker import StepTracker, check_tracker, tracked
from sunspark.launch.train import train
from sunspark.records import RecordWriter, StepRecord, read_records, worker_file
from sunspark.run_directory import tracker_directory
from tests.launch.short import short_config
from tests.test_records import STEP

pytestmark = pytest.mark.timeout(120)

TENSORBOARD = LaunchConfig(launcher="local", workers=1, tracker="tensorboard")
PLAN = StepPlan(
    dataset_id="d", split="train", seed=0, num_samples=640, global_batch_size=64, num_epochs=10, num_replicas=1
)


def scalars(run: str) -> dict[str, dict[int, float]]:
    """Every curve that TensorBoard finds: step -> value."""
    events = EventAccumulator(tracker_directory(run), size_guidance={SCALARS: 0})
    events.Reload()
    curves = {tag: events.Scalars(tag) for tag in events.Tags()[SCALARS]}
    for points in curves.values():
        assert len({point.step for point in points}) == len(points), "a step is there twice"
    return {tag: {point.step: point.value for point in points} for tag, points in curves.items()}


def record(step: int, *, worker: int = 0, second: float | None = None, loss: float = 1.0) -> StepRecord:
    seconds = 1000.0 + (step if second is None else second)
    return replace(STEP, step=step, worker=worker, time_unix_seconds=seconds, loss=loss, gradient_norm=0.5)


def test_a_training_and_its_evaluation_are_tracked(law_dataset: str, run_folder: Path) -> None:
    run = str(run_folder)
    train(law_dataset, run, replace(short_config(), launch=TENSORBOARD))
    result = evaluate(run, split="train")
    curves = scalars(run)
    steps = {one.step: one for one in read_records(run) if isinstance(one, StepRecord)}
    assert curves["training/loss"] == pytest.approx({step: one.loss for step, one in steps.items()}, rel=1e-6)
    assert curves["training/learning_rate"] == pytest.approx(
        {step: one.learning_rate for step, one in steps.items()}, rel=1e-6
    )
    assert set(curves["training/images_per_second"]) == set(steps) - {0}
    assert curves["evaluation/train/top1"] == pytest.approx({len(steps): result.top1}, rel=1e-6)
    assert curves["training/gradient_norm"] == pytest.approx(
        {step: one.gradient_norm for step, one in steps.items()}, rel=1e-6
    )


def test_steps_of_workers_that_record_at_other_times_come_once_and_in_order(tmp_path: Path) -> None:
    tracker = StepTracker(str(tmp_path), PLAN)
    with RecordWriter(worker_file(str(tmp_path), 0, 1)) as slow, RecordWriter(worker_file(str(tmp_path), 1, 1)) as fast:
        for step in range(30):
            fast.write(record(step, worker=1))
            if step % 4 == 3:
                fast.flush()
                tracker.look()
            slow.write(record(step, second=step + 0.25))
            if step % 5 == 4:
                slow.flush()
                tracker.look()
    tracker.close()
    curves = scalars(str(tmp_path))
    assert list(curves["training/loss"]) == list(range(30))
    assert set(curves["training/images_per_second"].values()) == {64.0}
    assert set(curves["training/gradient_norm"].values()) == {0.5}


def test_steps_that_were_done_again_replace_what_they_were_before(tmp_path: Path) -> None:
    with RecordWriter(worker_file(str(tmp_path), 0, 1)) as writer:
        for step in range(20):
            writer.write(record(step, loss=9.0))
    with RecordWriter(worker_file(str(tmp_path), 0, 2)) as writer:
        for step in range(12, 16):
            writer.write(record(step, second=step + 50, loss=2.0))
    tracker = StepTracker(str(tmp_path), PLAN)
    tracker.close()
    assert scalars(str(tmp_path))["training/loss"] == {step: 9.0 if step < 12 else 2.0 for step in range(16)}


def test_a_run_that_is_started_again_has_one_history(tmp_path: Path) -> None:
    for _ in range(2):
        with tracked(str(tmp_path), PLAN, TENSORBOARD), RecordWriter(worker_file(str(tmp_path), 0, 1)) as writer:
            done = sum(isinstance(one, StepRecord) for one in read_records(str(tmp_path)))
            for step in range(done, done + 10):
                writer.write(record(step))
    assert list(scalars(str(tmp_path))["training/loss"]) == list(range(20))


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    with tracked(str(tmp_path), PLAN, LaunchConfig()):
        pass
    assert not os.listdir(tmp_path)


def test_what_cannot_be_tracked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"needs a run in a local folder, got hdfs://nn/run"):
        check_tracker("hdfs://nn/run", TENSORBOARD)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"pip install 'sunspark\[tensorboard\]'"):
        check_tracker("/run", TENSORBOARD)
    check_tracker("hdfs://nn/run", LaunchConfig())
