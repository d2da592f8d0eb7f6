"""What the runs of a sweep came to: a measurement for each setting and repeat, and a summary for each setting.

Speeds are steady ones: from the end of the first step that was recorded to that of the last. A speed-up is over the
baseline of the same repeat; its interval is that of a geometric mean over repeats (`intervals.py`).
"""

import io
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sunspark import storage
from sunspark.bench.history import ELSEWHERE, PHASES, peak_memory, phase_totals, step_history, training_clock
from sunspark.bench.intervals import mean_interval, ratio_interval
from sunspark.bench.sweep import Setting
from sunspark.errors import RunError
from sunspark.records import EvaluationRecord, StepRecord, read_records

_COLUMNS_OF_PHASES: Final = tuple(f"{phase}_seconds" for phase in (*PHASES, ELSEWHERE))


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One run of one setting; None where it has no such figure."""

    setting: str
    repeat: int
    """From 0 on; -1 where the setting was not run."""
    status: Literal["measured", "failed", "refused"]
    reason: str = ""
    """Why there is no measurement."""
    baseline: str = ""
    """The setting that this one is compared with; empty for a baseline."""
    strategy: str = ""
    workers: int = 0
    cores: int = 0
    """Of all workers together."""
    replicas: int = 0
    is_oversubscribed: bool = False
    """It had fewer cores than it wanted: its times say nothing about a cluster."""
    images_per_second: float | None = None
    seconds_per_epoch: float | None = None
    seconds: float | None = None
    """Of training, from the first step to the end."""
    backward_seconds: float | None = None
    """This and the following: of all workers together."""
    forward_seconds: float | None = None
    optimizer_seconds: float | None = None
    data_seconds: float | None = None
    communication_seconds: float | None = None
    quorum_seconds: float | None = None
    elsewhere_seconds: float | None = None
    """Between the steps: checkpoints, recovery, work that was done again."""
    bytes_sent: int | None = None
    """By all workers, over the whole run."""
    peak_worker_bytes: int | None = None
    """Of the largest worker process."""
    peak_driver_bytes: int | None = None
    """Of the Python process of the driver."""
    top1: float | None = None
    """Of the finished model, on `eval_split`."""
    seconds_to_target: float | None = None
    """Until an evaluation while training had reached the target."""
    steps_redone: int | None = None
    exactly_once: bool | None = None
    """By the ledger, as `sunspark verify` counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All runs of one setting; intervals are of 95 %, and None with fewer than two runs."""

    setting: str
    runs: int
    reason: str
    """Why there are none, or why one of them failed."""
    images_per_second: float | None
    """The mean."""
    images_per_second_interval: tuple[float, float] | None
    speed_up: float | None
    """Over the baseline: 1 for as fast."""
    speed_up_interval: tuple[float, float] | None
    efficiency: float | None
    """Speed-up for each core of the baseline that it has."""
    top1: float | None
    is_oversubscribed: bool


def refused(setting: Setting) -> Measurement:
    """The row of a setting that is not run."""
    return Measurement(setting=setting.name, repeat=-1, status="refused", reason=setting.refusal)


def failed(setting: Setting, repeat: int, reason: str) -> Measurement:
    """The row of a run that came to nothing."""
    return Measurement(repeat=repeat, status="failed", reason=reason, **_of_setting(setting))


def measurement_of(setting: Setting, repeat: int, run: str, told: Mapping[str, Any], target_top1: float) -> Measurement:
    """From the records of a finished run, and what its process has told (`one_run.py`).

    Raises RunError when its records say less than a measurement takes.
    """
    records = read_records(run)
    steps = [record for record in records if isinstance(record, StepRecord)]
    clock = training_clock(records)
    history = step_history(records, clock)
    ends_S = history.finished_seconds_S
    if len(ends_S) < 2 or ends_S[-1] <= ends_S[0]:
        raise RunError(f"{run} has {len(ends_S)} steps; a speed takes two at least: train for more epochs")
    speed = float(history.samples_S[1:].sum() / (ends_S[-1] - ends_S[0]))
    reached = [
        clock.seconds(record.time_unix_seconds)
        for record in records
        if isinstance(record, EvaluationRecord) and record.top1 >= target_top1 > 0
    ]
    phases: dict[str, Any] = {f"{phase}_seconds": seconds for phase, seconds in phase_totals(records, clock).items()}
    return Measurement(
        repeat=repeat,
        status="measured",
        **_of_setting(setting),
        images_per_second=speed,
        seconds_per_epoch=told["samples"] / told["epochs"] / speed,
        seconds=told["seconds"],
        **{name: phases[name] for name in _COLUMNS_OF_PHASES},
        bytes_sent=sum(step.bytes_sent for step in steps),
        peak_worker_bytes=max(peak_memory(records).values(), default=None),
        peak_driver_bytes=told["peak_driver_bytes"],
        top1=told["top1"],
        seconds_to_target=min(reached, default=None),
        steps_redone=told["steps_redone"],
        exactly_once=told["exactly_once"],
    )


def _of_setting(setting: Setting) -> dict[str, Any]:
    assert setting.config is not None
    launch, training = setting.config.launch, setting.config.training
    return {
        "setting": setting.name,
        "baseline": setting.baseline,
        "strategy": setting.config.strategy.strategy,
        "workers": launch.workers,
        "cores": launch.workers * launch.cores_per_worker,
        "replicas": training.replicas or launch.workers,
        "is_oversubscribed": setting.is_oversubscribed,
    }


def summaries(measurements: Iterable[Measurement]) -> list[Summary]:
    """One for each setting, in the order of their first rows."""
    rows: dict[str, list[Measurement]] = defaultdict(list)
    for row in measurements:
        rows[row.setting].append(row)
    return [_summary(mine, rows.get(mine[0].baseline, [])) for mine in rows.values()]


def _summary(rows: Sequence[Measurement], baseline: Sequence[Measurement]) -> Summary:
    speeds = {row.repeat: (row.images_per_second, row.cores) for row in rows if row.images_per_second}
    alone = {row.repeat: (row.images_per_second, row.cores) for row in baseline if row.images_per_second}
    pairs = [(speeds[repeat], alone[repeat]) for repeat in speeds.keys() & alone.keys()]
    values = [speed for speed, _ in speeds.values()]
    ratios = [speed / its for (speed, _), (its, _) in pairs]
    speed_up, low, high = ratio_interval(ratios) if ratios else (None, 0.0, 0.0)
    top1s = [row.top1 for row in rows if row.top1 is not None]
    return Summary(
        setting=rows[0].setting,
        runs=len(speeds),
        reason=next((row.reason for row in rows if row.reason), ""),
        images_per_second=statistics.fmean(values) if values else None,
        images_per_second_interval=mean_interval(values) if len(values) > 1 else None,
        speed_up=speed_up,
        speed_up_interval=(low, high) if len(ratios) > 1 else None,
        efficiency=speed_up * pairs[0][1][1] / pairs[0][0][1] if speed_up else None,
        top1=statistics.fmean(top1s) if top1s else None,
        is_oversubscribed=any(row.is_oversubscribed for row in rows),
    )


def write_results(folder: str, measurements: Sequence[Measurement]) -> None:
    """FOLDER/results.parquet and FOLDER/results.csv."""
    names = [field.name for field in fields(Measurement)]
    table = pa.table({name: pa.array([asdict(row)[name] for row in measurements]) for name in names})
    for write, name in ((pa.parquet.write_table, "results.parquet"), (pa.csv.write_csv, "results.csv")):
        body = io.BytesIO()
        write(table, body)
        storage.write_bytes_atomic(storage.join(folder, name), body.getvalue())
