"""What records tell of costs, and what they must not be taken to tell."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark import run_directory, storage
from sunspark.bench.forecasting.observation import observe
from sunspark.config import from_dict, to_dict
from sunspark.data.augment import PIXELS_VERSION
from sunspark.errors import RunError
from sunspark.launch.config import TrainConfig
from sunspark.records import EventRecord, RecordWriter, StepRecord, worker_file

BEGUN = 1000.0


def config(strategy: str = "all_reduce", replicas: int = 2, **options: object) -> TrainConfig:
    return from_dict(
        TrainConfig,
        {
            "strategy": {"strategy": strategy, **options},
            "training": {"global_batch_size": 8, "replicas": replicas, "epochs": 3},
            "launch": {"workers": 1 if strategy == "serial" else 2},
        },
    )


def step(worker: int, number: int, end: float, **others: object) -> StepRecord:
    made = StepRecord(
        worker=worker, incarnation=0, time_unix_seconds=end, step=number, epoch=number // 20, loss=1.0,
        learning_rate=0.1, gradient_norm=1.0, samples=4, quorum_seconds=0.01, data_seconds=0.1, forward_seconds=0.2,
        backward_seconds=0.3, communication_seconds=0.2 + 0.1 * worker, optimizer_seconds=0.05,
        peak_memory_bytes=1000 + worker, world_size=2, rank=worker, hidden_communication_seconds=0.1 + 0.5 * worker,
    )  # fmt: skip
    return replace(made, **others)  # type: ignore[arg-type]


def write(run: Path, made: TrainConfig, records: Iterator[StepRecord | EventRecord]) -> str:
    run_directory.write_config(
        str(run),
        dataset="d",
        dataset_id="0" * 64,
        blocks=None,
        pixels_version=PIXELS_VERSION,
        work=to_dict(made.work),
        launch=to_dict(made.launch),
    )
    storage.write_json_atomic(run_directory.start_file(str(run)), {"time_unix_seconds": BEGUN})
    by_file: dict[str, RecordWriter] = {}
    for record in records:
        uri = worker_file(str(run), record.worker, record.incarnation)
        by_file.setdefault(uri, RecordWriter(uri)).write(record)
    for writer in by_file.values():
        writer.close()
    return str(run)


def steady(num_steps: int = 20, seconds: float = 1.0) -> Iterator[StepRecord]:
    """Two workers, a step a second, an epoch of 20 steps."""
    for number in range(num_steps):
        for worker in range(2):
            yield step(worker, number, BEGUN + 5 + number * seconds)


def test_each_cost_is_that_of_who_waited_for_nobody(tmp_path: Path) -> None:
    seen = observe(write(tmp_path / "run", config(), steady()))
    assert (seen.workers, seen.replicas, seen.slices, seen.slice_size) == (2, 2, 1, 4.0)
    assert seen.compute_seconds == pytest.approx(0.6)
    assert seen.backward_seconds == pytest.approx(0.3)
    assert (seen.exchange_seconds, seen.hidden_seconds) == (pytest.approx(0.2), pytest.approx(0.1))
    assert seen.period_seconds == pytest.approx(1.0)
    assert seen.start_seconds == pytest.approx(5.0)
    assert seen.peak_worker_bytes == 1001
    assert seen.spread == 0.0


def test_slices_are_counted_for_each_worker(tmp_path: Path) -> None:
    """Of three slices, one worker computes two."""
    records = (
        replace(record, data_seconds=(2 - record.worker) * 0.1, forward_seconds=(2 - record.worker) * 0.2,
                backward_seconds=(2 - record.worker) * 0.3)
        for record in steady()
    )  # fmt: skip
    seen = observe(write(tmp_path / "run", config(replicas=3), records))
    assert seen.slices == 2
    assert seen.compute_seconds == pytest.approx(0.6)
    assert seen.backward_seconds == pytest.approx(0.3)


def test_a_short_round_at_the_end_of_an_epoch_lengthens_no_period(tmp_path: Path) -> None:
    """Rounds of 16 and of 4 steps: between two whole ones lies a short one."""
    made = config("local_sgd", sync_every=8)
    seen = observe(write(tmp_path / "run", made, steady(120)))
    assert seen.steps_per_exchange == 8
    assert seen.period_seconds == pytest.approx(8.0)


def test_neither_a_pause_nor_fewer_workers_lengthen_a_period(tmp_path: Path) -> None:
    def records() -> Iterator[StepRecord | EventRecord]:
        yield _event("joined", BEGUN + 4)
        for record in steady(20):
            late = 3600.0 if record.step >= 10 else 0.0
            thin = 5 <= record.step < 7
            if not (thin and record.worker):
                yield replace(
                    record, time_unix_seconds=record.time_unix_seconds + late, world_size=1 if thin else 2,
                    forward_seconds=5.0 if thin else 0.2,
                )  # fmt: skip
            if record.step == 9 and record.worker:
                yield _event("resumed", BEGUN + 3610)
                yield _event("joined", BEGUN + 3614)

    seen = observe(write(tmp_path / "run", config(), records()))
    assert seen.period_seconds == pytest.approx(1.0, rel=0.1)
    assert seen.compute_seconds == pytest.approx(0.6)


def _event(name: str, time: float) -> EventRecord:
    return EventRecord(worker=0, incarnation=0, time_unix_seconds=time, step=0, event=name, detail="")  # type: ignore[arg-type]


def test_too_few_exchanges_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="1 exchange of 2 workers after its warm-up"):
        observe(write(tmp_path / "run", config(), steady(3)))
