"""The numbers at the head of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sunspark.bench.history import History, has_server, seconds_per_epoch, steps_redone
from sunspark.bench.intervals import wilson_interval
from sunspark.bench.run_files import RunFiles
from sunspark.bench.words import count, duration, epochs, off_by, percent, plural, rate, size
from sunspark.records import EvaluationRecord, EventRecord, Record, StepRecord

_OF_THE_WHOLE_RUN = frozenset({"steps", "epochs", "samples"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One number at the head of the report."""

    label: str
    value: str
    note: str = ""
    tone: str = ""
    """CSS class: good, bad, or absent when the number is not there yet."""


def tiles(files: RunFiles, history: History, events: Sequence[EventRecord]) -> list[Tile]:
    """Accuracy, the verdict on the samples, and what the training came to."""
    result = _result_or_records(files, history, events)
    return [
        *_accuracy_tiles(files),
        _verdict_tile(files.verdict),
        Tile(label="Images per second", value=rate(result["images_per_second"]), note=_pace_note(result)),
        *_forecast_tiles(files, history),
        Tile(label="Steps", value=count(result["steps"]), note=plural(result["epochs"], "epoch")),
        Tile(label="Samples", value=count(result["samples"]), note="counted, over all epochs"),
        Tile(label="Workers", value=count(result["workers"])),
        _sent_tile(files),
        Tile(label="Steps done again", value=count(result["steps_redone"])),
        Tile(label="Recoveries", value=count(result["recoveries"]), note="workers brought up to date by a peer"),
    ]


def _result_or_records(files: RunFiles, history: History, events: Sequence[EventRecord]) -> dict[str, Any]:
    """The result of training; of a run without one, what its records say."""
    seconds = float(history.finished_seconds_S[-1]) if len(history.step_S) else 0.0
    samples = int(history.samples_S.sum())
    from_records = {
        "steps": int(history.step_S[-1]) + 1 if len(history.step_S) else 0,
        "epochs": int(history.epoch_S[-1]) + 1 if len(history.step_S) else 0,
        "samples": samples,
        "seconds": seconds,
        "images_per_second": samples / seconds if seconds > 0 else 0.0,
        "workers": int(history.num_workers_S.max(initial=0)),
        "steps_redone": steps_redone(events, files.recorded_again),
        "recoveries": sum(event.event == "recovered" for event in events),
    }
    result = files.result
    if result and result.get("resumed_from_step"):  # its times and counts are those of its last start alone
        result = {key: value for key, value in result.items() if key in _OF_THE_WHOLE_RUN}
    return from_records | (result or {})


def _accuracy_tiles(files: RunFiles) -> list[Tile]:
    if not files.evaluations:
        return _tiles_of_training(files.records)
    first = files.evaluations[0]
    samples, top1 = int(first["samples"]), float(first["top1"])
    low, high = wilson_interval(round(top1 * samples), samples)
    chance = f"; guessing: {percent(1 / len(first['per_class']))}" if first.get("per_class") else ""
    note = f"95 % interval {100 * low:.1f} to {percent(high)}{chance}"
    head = [Tile(label=f"Top-1 on {first['split']}", value=percent(top1), note=note, tone="main")]
    if first.get("top5") is not None:
        note = f"mean per class {percent(first['mean_per_class'])}" if first.get("mean_per_class") is not None else ""
        head.append(Tile(label="Top-5", value=percent(first["top5"]), note=note))
    return head


def _tiles_of_training(records: Sequence[Record]) -> list[Tile]:
    """Without an evaluation of the finished model: what the last one while training found."""
    last = max((one for one in records if isinstance(one, EvaluationRecord)), key=lambda one: one.step, default=None)
    if last is None:
        return [Tile(label="Top-1", value="not evaluated yet", note="sunspark evaluate", tone="absent")]
    note = f"while training, after step {count(last.step)}"
    return [
        Tile(label=f"Top-1 on {last.split}", value=percent(last.top1), note=note, tone="main"),
        Tile(label="Top-5", value=percent(last.top5), note=f"mean per class {percent(last.mean_per_class)}"),
    ]


def _sent_tile(files: RunFiles) -> Tile:
    num_bytes = sum(record.bytes_sent for record in files.records if isinstance(record, StepRecord))
    note = "to and from the parameter server" if has_server(files.config) else "between workers, shared memory aside"
    return Tile(label="Sent", value=size(num_bytes), note=note)


def _verdict_tile(verdict: dict[str, Any] | None) -> Tile:
    label = "Every sample exactly once"
    if verdict is None:
        return Tile(label=label, value="not verified yet", note="sunspark verify", tone="absent")
    if verdict.get("exactly_once"):
        note = f"in {epochs([epoch.get('is_whole', True) for epoch in verdict.get('epochs', [])])}"
        return Tile(label=label, value="yes", note=note, tone="good")
    return Tile(label=label, value="no", note="see the table of epochs", tone="bad")


def _forecast_tiles(files: RunFiles, history: History) -> list[Tile]:
    """What an epoch was forecast to take, where a forecast has chosen the strategy, and what it took."""
    forecast = float(((files.forecast or {}).get("recommended") or {}).get("seconds_per_epoch") or 0.0)
    if not forecast:
        return []
    took = seconds_per_epoch(history)
    note = f"an epoch; it took {duration(took)}: forecast {off_by(forecast / took - 1)}" if took > 0 else "an epoch"
    return [Tile(label="Forecast", value=duration(forecast), note=note)]


def _pace_note(result: Mapping[str, Any]) -> str:
    return f"the mean of {duration(float(result['seconds']))}" if result["seconds"] else ""
