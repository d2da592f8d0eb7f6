"""What the runs of a sweep came to: a measurement for each setting and repeat, and a summary for each setting.

A speed-up is over the baseline of the same repeat; its interval is that of a geometric mean over repeats
(`intervals.py`). Free of torch, for whoever reads results.
"""

import io
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sunspark import storage
from sunspark.bench.intervals import mean_interval, ratio_interval
from sunspark.config import from_dict
from sunspark.errors import ConfigError, RunError

_FILE: Final = "results.parquet"


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
    forecast_seconds_per_epoch: float | None = None
    """What a forecast by a pilot says."""
    forecast_seconds_with_all: float | None = None
    """The same of as many workers as replicas, where fewer were there: accuracy is that of so many, time is not."""
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
    num_classes: int | None = None
    """Of that split's dataset."""
    seconds_to_target: float | None = None
    """Until an evaluation while training had reached the target."""
    steps_redone: int | None = None
    exactly_once: bool | None = None
    """By the ledger, as `sunspark verify` counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochForecast:
    """Seconds of an epoch; None: no run of the pilot tells."""

    here: float | None
    with_all: float | None
    """With as many workers as replicas; None where they are as many."""


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
    seconds_per_epoch: float | None
    """The mean."""
    forecast_seconds_per_epoch: float | None
    """For the workers that there were; None where nothing was forecast."""
    seconds: float | None
    """Of training, the mean."""
    top1: float | None
    num_classes: int | None
    is_oversubscribed: bool


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
    epochs = [row.seconds_per_epoch for row in rows if row.seconds_per_epoch is not None]
    top1s = [row.top1 for row in rows if row.top1 is not None]
    seconds = [row.seconds for row in rows if row.seconds is not None]
    return Summary(
        setting=rows[0].setting,
        runs=len(speeds),
        reason=next((row.reason for row in rows if row.reason), ""),
        images_per_second=statistics.fmean(values) if values else None,
        images_per_second_interval=mean_interval(values) if len(values) > 1 else None,
        speed_up=speed_up,
        speed_up_interval=(low, high) if len(ratios) > 1 else None,
        efficiency=speed_up * pairs[0][1][1] / pairs[0][0][1] if speed_up else None,
        seconds_per_epoch=statistics.fmean(epochs) if epochs else None,
        forecast_seconds_per_epoch=rows[0].forecast_seconds_per_epoch,
        seconds=statistics.fmean(seconds) if seconds else None,
        top1=statistics.fmean(top1s) if top1s else None,
        num_classes=next((row.num_classes for row in rows if row.num_classes), None),
        is_oversubscribed=any(row.is_oversubscribed for row in rows),
    )


def write_results(folder: str, measurements: Sequence[Measurement]) -> None:
    """FOLDER/results.parquet and FOLDER/results.csv."""
    names = [field.name for field in fields(Measurement)]
    table = pa.table({name: pa.array([asdict(row)[name] for row in measurements]) for name in names})
    for write, name in ((pa.parquet.write_table, _FILE), (pa.csv.write_csv, "results.csv")):
        body = io.BytesIO()
        write(table, body)
        storage.write_bytes_atomic(storage.join(folder, name), body.getvalue())


def is_sweep(folder: str) -> bool:
    """Whether `folder` is one that `sunspark compare` works on."""
    return storage.exists(storage.join(folder, _FILE))


def read_results(folder: str) -> list[Measurement]:
    """What `write_results` has written. Raises RunError when something else has."""
    uri = storage.join(folder, _FILE)
    try:
        rows = pa.parquet.read_table(io.BytesIO(storage.read_bytes(uri))).to_pylist()
        return [from_dict(Measurement, row) for row in rows]
    except (ConfigError, pa.ArrowException) as error:
        raise RunError(f"{uri} is damaged or was written by something else: {error}") from error
