"""The report of a run: one HTML file that needs nothing else, no network and no script.

Reads what a run holds (configuration, records, result, evaluations, the verdict of `verify`) and, for the images to
look at, the dataset; says where something is not there yet. Light and dark, from a phone to a wide screen to paper.
Cost: the records are read once into memory; a run of 100,000 steps and two workers takes seconds.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import markupsafe

from sunspark import storage
from sunspark.bench import bars, curves, stragglers
from sunspark.bench.chosen import choice
from sunspark.bench.classes import class_section
from sunspark.bench.download import csv_download
from sunspark.bench.history import (
    History,
    TrainingClock,
    has_server,
    lives,
    peak_memory,
    phase_totals,
    phase_words,
    step_history,
    steps_redone,
    training_clock,
)
from sunspark.bench.page import environment
from sunspark.bench.plot import Chart
from sunspark.bench.repeat import repeat
from sunspark.bench.run_files import RunFiles, read_run
from sunspark.bench.sweep_report import sections_of
from sunspark.bench.sweep_results import is_sweep, read_results
from sunspark.bench.tiles import tiles
from sunspark.bench.time_line import event_styles, time_line
from sunspark.bench.trials import is_search, read_trials
from sunspark.bench.tune_report import sections_of_search
from sunspark.bench.words import count, duration, strategy
from sunspark.records import EvaluationRecord, EventRecord

_EVENTS_SHOWN = 200
_PLAIN_EVENTS = frozenset({"started", "joined", "checkpoint", "finished"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportResult:
    """Where a report was written."""

    run: str
    path: str
    size_bytes: int


def report(run: str, out: str) -> ReportResult:
    """Write the report of `run`, a run or the folder of a sweep or a search, to the file `out`.

    Raises:
        ConfigError: `out` does not end in .html.
        RunError: there is none, or one of its files is damaged.
        StorageError: a file cannot be read, or `out` cannot be written.
    """
    storage.refuse_other_suffix(out, ".html")
    run = storage.absolute(run)
    kinds = ((is_sweep, _render_sweep), (is_search, _render_search))
    page = next((draw(run) for is_one, draw in kinds if is_one(run)), "") or render(read_run(run))
    body = page.encode()
    storage.write_bytes_atomic(out, body)
    return ReportResult(run=run, path=out, size_bytes=len(body))


def render(files: RunFiles) -> str:
    """The page, as HTML."""
    clock = training_clock(files.records)
    history = step_history(files.records, clock)
    events = [record for record in files.records if isinstance(record, EventRecord)]
    totals = phase_totals(files.records, clock)
    memory = peak_memory(files.records)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            name=files.name,
            subject=_subject(files),
            finished=files.is_finished,
            progress=_progress(files, history),
            tiles=tiles(files, history, events),
            choice=choice(files, history, events),
            curves=_curves(files, history),
            phases=curves.phase_chart(history, phase_words(files.config)) if len(history.step_S) else None,
            segments=bars.phase_segments(totals, phase_words(files.config)) if sum(totals.values()) > 0 else (),
            waited=_waited(files),
            total_time=duration(sum(totals.values())),
            totals_download=csv_download("time.csv", {"phase": list(totals), "seconds": list(totals.values())}),
            time_line=time_line(
                history, lives(files.records, clock), events, clock, steps_redone(events, files.recorded_again)
            ),
            events=_event_rows(events, clock),
            num_events=len(events),
            class_sections=[class_section(evaluation) for evaluation in files.evaluations],
            memory=bars.memory_bars(memory),
            memory_download=csv_download("memory.csv", {"worker": list(memory), "bytes": list(memory.values())}),
            epochs=_epoch_rows(files.verdict),
            problems=[str(problem) for problem in (files.verdict or {}).get("problems", [])],
            repeat=repeat(files),
        )
    )


def _render_sweep(folder: str) -> str:
    name = "/".join(folder.rstrip("/").split("/")[-2:])
    templates = environment()
    script = templates.get_template("sort.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template("sweep.html.j2").render(
        name=name,
        script=markupsafe.Markup(script),
        script_hash=f"sha256-{digest}",
        **sections_of(read_results(folder)),
    )


def _render_search(folder: str) -> str:
    name = "/".join(folder.rstrip("/").split("/")[-2:])
    return environment().get_template("tune.html.j2").render(name=name, **sections_of_search(read_trials(folder)))


def _subject(files: RunFiles) -> list[tuple[str, str]]:
    """What was trained, as terms and their values."""
    rows = [("dataset", files.config.get("dataset") or (files.result or {}).get("dataset_id"))]
    if files.config:
        model, training = files.config["work"]["model"], files.config["work"]["training"]
        what = [("split", training["split"]), ("strategy", strategy(files.config["work"].get("strategy", {})))]
        rows = [("model", model["model"]), *rows, *what]
    return [(term, str(value)) for term, value in [*rows, ("run", files.run)] if value]


def _progress(files: RunFiles, history: History) -> str:
    """For a run that has not finished: how far it came."""
    if files.is_finished:
        return ""
    if not len(history.step_S):
        return "No step has been recorded yet."
    steps, seconds = int(history.step_S[-1]) + 1, float(history.finished_seconds_S[-1])
    planned = f" of {count(files.start['steps'])}" if files.start.get("steps") else ""
    return f"Its records hold {count(steps)}{planned} steps, {duration(seconds)} of training."


def _curves(files: RunFiles, history: History) -> list[Chart]:
    if not len(history.step_S):
        return []
    first = next(iter(files.evaluations), {})
    charts = [
        curves.loss_chart(history, len(first.get("per_class", [])) or None),
        curves.accuracy_chart(history, [one for one in files.records if isinstance(one, EvaluationRecord)]),
        curves.learning_rate_chart(history),
        curves.gradient_norm_chart(history),
    ]
    return [chart for chart in charts if chart is not None]


def _waited(files: RunFiles) -> str:
    """For whom the others waited; where updates go to a server, nobody waits for another."""
    return "" if has_server(files.config) else stragglers.in_words(stragglers.straggler_of(files.records))


def _event_rows(events: Sequence[EventRecord], clock: TrainingClock) -> list[dict[str, str]]:
    """The table of events: all, or, of many, first those that are not everyday."""
    styles = event_styles(events)
    order = sorted(range(len(events)), key=lambda place: events[place].event in _PLAIN_EVENTS)
    return [
        {
            "time": duration(max(0.0, clock.seconds(events[place].time_unix_seconds))),
            "step": count(events[place].step),
            "who": "run" if events[place].worker < 0 else f"worker {events[place].worker}",
            "event": events[place].event,
            "style": styles[place],
            "detail": events[place].detail,
        }
        for place in sorted(order[:_EVENTS_SHOWN])
    ]


def _epoch_rows(verdict: dict[str, Any] | None) -> list[list[str]]:
    """The account of samples, an epoch per row; counted from 1, as the display of a training does."""
    keys = ("samples", "missing", "repeated", "excused")
    return [
        [count(int(epoch["epoch"]) + 1), *(count(int(epoch.get(key, 0))) for key in keys)]
        for epoch in (verdict or {}).get("epochs", [])
    ]
