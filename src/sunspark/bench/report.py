"""The report of a run: one HTML file that needs nothing else, no network and no script.

Reads what a run holds (configuration, records, result, evaluations, the verdict of `verify`) and says where
something is not there yet. Light and dark, from a phone to a wide screen to paper.
Cost: the records are read once into memory; a run of 100,000 steps and two workers takes seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from sunspark import run_directory, storage
from sunspark.bench import bars, curves
from sunspark.bench.bars import Bar, Segment
from sunspark.bench.history import (
    History,
    TrainingClock,
    lives,
    peak_memory,
    phase_totals,
    step_history,
    training_clock,
)
from sunspark.bench.intervals import wilson_interval
from sunspark.bench.plot import Chart
from sunspark.bench.time_line import EVENT_STYLES, TimeLine, time_line
from sunspark.bench.words import count, duration, percent, rate
from sunspark.config import flatten
from sunspark.errors import RunError
from sunspark.records import EventRecord, Record, read_records

_FEW_CLASSES = 60
_ENDS_SHOWN = 15
_EVENTS_SHOWN = 200
_OF_THE_WHOLE_RUN = frozenset({"steps", "epochs", "samples", "workers"})
_PLAIN_EVENTS = frozenset({"started", "joined", "checkpoint", "finished"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportResult:
    """Where a report was written."""

    run: str
    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One number at the head of the report."""

    label: str
    value: str
    note: str = ""
    tone: str = ""
    """CSS class: good, bad, or absent when the number is not there yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSection:
    """Accuracy per class on one split."""

    split: str
    summary: str
    best: tuple[Bar, ...]
    worst: tuple[Bar, ...]
    """Empty when there are few classes: then `best` holds all."""
    spread: tuple[Bar, ...]
    everything: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """What a run's directory holds; None or empty for what is not there."""

    run: str
    config: dict[str, Any]
    result: dict[str, Any] | None
    evaluations: dict[str, dict[str, Any]]
    """By split."""
    verdict: dict[str, Any] | None
    records: list[Record]


def report(run: str, out: str) -> ReportResult:
    """Write the report of `run` to the file `out`.

    Raises:
        RunError: there is no such run, or one of its files is damaged.
        StorageError: a file cannot be read, or `out` cannot be written.
    """
    files = read_run(run)
    page = render(files).encode()
    storage.write_bytes_atomic(out, page)
    return ReportResult(run=run, path=out, size_bytes=len(page))


def read_run(run: str) -> RunFiles:
    """Everything the report is made of."""
    records = read_records(run)
    config = run_directory.read_config(run) if storage.exists(run_directory.config_file(run)) else None
    if config is None and not records:
        raise RunError(f"{run} is not a run: it has neither config.json nor records; give what `train` wrote")
    evaluations = [run_directory.read_object(uri) for uri in run_directory.evaluation_files(run)]
    return RunFiles(
        run=run,
        config=config or {},
        result=_read_if_present(run_directory.result_file(run)),
        evaluations={str(_field(evaluation, "split", run)): evaluation for evaluation in evaluations},
        verdict=_read_if_present(run_directory.verdict_file(run)),
        records=records,
    )


def render(files: RunFiles) -> str:
    """The page, as HTML."""
    clock = training_clock(files.records)
    history = step_history(files.records, clock)
    events = [record for record in files.records if isinstance(record, EventRecord)]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["percent_of"] = lambda value: f"{100 * value:.2f}%"
    source = resources.files("sunspark.bench").joinpath("report.html.j2").read_text(encoding="utf-8")
    totals = phase_totals(files.records, clock)
    return environment.from_string(source).render(
        name=files.run.rstrip("/").rsplit("/", 1)[-1],
        subject=_subject(files),
        finished=_finished(files),
        progress=_progress(files, history),
        tiles=_tiles(files, history, events),
        curves=_curves(files, history),
        phases=curves.phase_chart(history) if len(history.step_S) else None,
        segments=_segments(totals),
        total_time=duration(sum(totals.values())),
        time_line=_time_line(files, history, events, clock),
        events=_event_rows(events, clock),
        num_events=len(events),
        class_sections=[_class_section(evaluation) for evaluation in _ordered(files.evaluations)],
        memory=bars.memory_bars(peak_memory(files.records)),
        epochs=_epoch_rows(files.verdict),
        problems=[str(problem) for problem in (files.verdict or {}).get("problems", [])],
        config=_config_sections(files.config),
    )


def _subject(files: RunFiles) -> list[tuple[str, str]]:
    """What was trained, as terms and their values."""
    rows = [("dataset", files.config.get("dataset") or (files.result or {}).get("dataset_id"))]
    if files.config:
        model, training = files.config["work"]["model"], files.config["work"]["training"]
        what = [("split", training["split"]), ("strategy", training["strategy"])]
        rows = [("model", model["model"]), *rows, *what]
    return [(term, str(value)) for term, value in [*rows, ("run", files.run)] if value]


def _finished(files: RunFiles) -> bool:
    return bool(files.result and files.result.get("finished", True))


def _progress(files: RunFiles, history: History) -> str:
    """For a run that has not finished: how far it came."""
    if _finished(files):
        return ""
    if not len(history.step_S):
        return "No step has been recorded yet."
    steps, seconds = int(history.step_S[-1]) + 1, float(history.finished_seconds_S[-1])
    return f"Its records hold {count(steps)} steps, {duration(seconds)} of training."


def _tiles(files: RunFiles, history: History, events: Sequence[EventRecord]) -> list[Tile]:
    result = _result_or_records(files.result, history, events)
    return [
        *_accuracy_tiles(files),
        _verdict_tile(files.verdict),
        Tile(label="Images per second", value=rate(result["images_per_second"]), note=_duration_note(result)),
        Tile(label="Steps", value=count(result["steps"]), note=_plural(result["epochs"], "epoch")),
        Tile(label="Samples", value=count(result["samples"]), note="counted, over all epochs"),
        Tile(label="Workers", value=count(result["workers"])),
        Tile(label="Steps done again", value=count(result["steps_redone"])),
        Tile(label="Recoveries", value=count(result["recoveries"]), note="workers brought up to date by a peer"),
    ]


def _result_or_records(
    result: dict[str, Any] | None, history: History, events: Sequence[EventRecord]
) -> dict[str, Any]:
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
        "steps_redone": len({event.step for event in events if event.event == "redone"}),
        "recoveries": sum(event.event == "recovered" for event in events),
    }
    if result and result.get("resumed_from_step"):  # its times and counts are those of its last start alone
        result = {key: value for key, value in result.items() if key in _OF_THE_WHOLE_RUN}
    return from_records | (result or {})


def _accuracy_tiles(files: RunFiles) -> list[Tile]:
    evaluations = _ordered(files.evaluations)
    if not evaluations:
        return [Tile(label="Top-1", value="not evaluated yet", note="sunspark evaluate", tone="absent")]
    first = evaluations[0]
    samples, top1 = int(_field(first, "samples", files.run)), float(_field(first, "top1", files.run))
    low, high = wilson_interval(round(top1 * samples), samples)
    chance = f"; guessing: {percent(1 / len(first['per_class']))}" if first.get("per_class") else ""
    note = f"95 % interval {100 * low:.1f} to {percent(high)}{chance}"
    tiles = [Tile(label=f"Top-1 on {first['split']}", value=percent(top1), note=note, tone="main")]
    if first.get("top5") is not None:
        note = f"mean per class {percent(first['mean_per_class'])}" if first.get("mean_per_class") is not None else ""
        tiles.append(Tile(label="Top-5", value=percent(first["top5"]), note=note))
    return tiles


def _verdict_tile(verdict: dict[str, Any] | None) -> Tile:
    label = "Every sample exactly once"
    if verdict is None:
        return Tile(label=label, value="not verified yet", note="sunspark verify", tone="absent")
    if verdict.get("exactly_once"):
        return Tile(
            label=label,
            value="yes",
            note=f"in {_plural(len(verdict.get('epochs', [])), 'epoch')}",
            tone="good",
        )
    return Tile(label=label, value="no", note="see the table of epochs", tone="bad")


def _curves(files: RunFiles, history: History) -> list[Chart]:
    if not len(history.step_S):
        return []
    first = next(iter(_ordered(files.evaluations)), {})
    return [
        curves.loss_chart(history, len(first.get("per_class", [])) or None),
        curves.learning_rate_chart(history),
    ]


def _segments(totals: Mapping[str, float]) -> tuple[Segment, ...]:
    return bars.phase_segments(totals) if sum(totals.values()) > 0 else ()


def _time_line(
    files: RunFiles, history: History, events: Sequence[EventRecord], clock: TrainingClock
) -> TimeLine | None:
    return time_line(history, lives(files.records, clock), events, clock)


def _event_rows(events: Sequence[EventRecord], clock: TrainingClock) -> list[dict[str, str]]:
    """The table of events: all, or, of many, first those that are not everyday."""
    order = sorted(range(len(events)), key=lambda place: events[place].event in _PLAIN_EVENTS)
    chosen = [events[place] for place in sorted(order[:_EVENTS_SHOWN])]
    return [
        {
            "time": duration(max(0.0, clock.seconds(event.time_unix_seconds))),
            "step": count(event.step),
            "who": "run" if event.worker < 0 else f"worker {event.worker}",
            "event": event.event,
            "style": EVENT_STYLES[event.event],
            "detail": event.detail,
        }
        for event in chosen
    ]


def _epoch_rows(verdict: dict[str, Any] | None) -> list[list[str]]:
    """The account of samples, an epoch per row; counted from 1, as the display of a training does."""
    keys = ("samples", "missing", "repeated", "excused")
    return [
        [count(int(epoch["epoch"]) + 1), *(count(int(epoch.get(key, 0))) for key in keys)]
        for epoch in (verdict or {}).get("epochs", [])
    ]


def _class_section(evaluation: dict[str, Any]) -> ClassSection:
    rows = [(str(row["name"]), int(row["samples"]), int(row["correct"])) for row in evaluation.get("per_class", [])]
    classes = bars.class_bars(rows)
    rated = [bar for bar in classes if bar.text != "-"]
    many = len(rated) > _FEW_CLASSES
    perfect = sum(bar.share == 1 for bar in rated)
    summary = f"{count(evaluation['samples'])} images of {_plural(len(rated), 'class', 'classes')}"
    return ClassSection(
        split=str(evaluation["split"]),
        summary=summary + (f"; {count(perfect)} without a mistake" if perfect else ""),
        best=tuple(rated[:_ENDS_SHOWN]) if many else classes,
        worst=tuple(rated[-_ENDS_SHOWN:]) if many else (),
        spread=bars.class_spread(classes) if many else (),
        everything=classes if many else (),
    )


def _ordered(evaluations: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations, that of a test split first."""
    names = sorted(evaluations, key=lambda split: (not split.lower().startswith("test"), split))
    return [evaluations[name] for name in names]


def _config_sections(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of the configuration with their keys and values.

    Keys outside a section come first; a section that holds nothing but sections gives way to them.
    """
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    sections = {"run": plain} if plain else {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            sections |= value if all(isinstance(part, dict) for part in value.values()) else {key: value}
    return [(name, [(key, _text(value)) for key, value in flatten(body)]) for name, body in sections.items()]


def _text(value: Any) -> str:
    """A value of the configuration as its user would write it."""
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _plural(number: int, one: str, many: str = "") -> str:
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def _duration_note(result: Mapping[str, Any]) -> str:
    if not result["seconds"]:
        return ""
    return f"in {duration(float(result['seconds']))}"


def _read_if_present(uri: str) -> dict[str, Any] | None:
    return run_directory.read_object(uri) if storage.exists(uri) else None


def _field(body: Mapping[str, Any], name: str, run: str) -> Any:
    if name not in body:
        raise RunError(f"an evaluation in {run} lacks {name!r}; run `sunspark evaluate` again")
    return body[name]
