"""The time line of a report: images per second, and below them, on one axis of time, what happened to whom."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sunspark.bench import plot
from sunspark.bench.download import Download, csv_download
from sunspark.bench.history import History, Life, TrainingClock, images_per_second
from sunspark.bench.plot import Chart, Scale, Shape, Tick
from sunspark.bench.words import count, duration, plural
from sunspark.records import DRIVER, EventRecord

_RATE_BINS = 120

EVENT_STYLES = {
    "started": "begin",
    "joined": "begin",
    "restarted": "begin",
    "resumed": "begin",
    "recovered": "recovered",
    "lost": "lost",
    "unsaved": "lost",
    "redone": "redone",
    "checkpoint": "checkpoint",
    "finished": "finished",
    "stopped": "stopped",
    "duplicate": "turned-away",
    "evaluated": "evaluated",
    "excused": "left-out",
    "diverged": "stopped",
}
"""The mark of each event; the words beside it in the legend are `MARK_WORDS`."""

REJOINED = "rejoined"
"""The mark of a worker that joins again."""

MARK_WORDS = {
    "begin": "started, joined",
    REJOINED: "joined again",
    "lost": "lost, not saved",
    "redone": "step done again",
    "recovered": "recovered from a peer",
    "checkpoint": "checkpoint",
    "evaluated": "evaluated",
    "left-out": "image left out",
    "turned-away": "turned away",
    "stopped": "stopped before its end",
    "finished": "finished",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """An event on a lane of the time line."""

    at: float
    style: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """A worker on the time line, or the driver."""

    name: str
    spans: tuple[plot.Strip, ...]
    """When it was alive."""
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLine:
    """Images per second over time, and below it, on the same axis, what happened to whom."""

    rate: Chart | None
    lanes: tuple[Lane, ...]
    x_ticks: tuple[Tick, ...]
    x_label: str
    mark_words: dict[str, str]
    """The marks that occur, with their words."""
    caption: str
    download: Download
    """The events."""


def time_line(
    history: History, lives: Sequence[Life], events: Sequence[EventRecord], clock: TrainingClock, num_redone: int
) -> TimeLine | None:
    """Images per second and the events, on one axis of time; None before anything happened."""
    moments = [clock.seconds(event.time_unix_seconds) for event in events]
    ends = [*moments, *history.finished_seconds_S[-1:].tolist(), *(life.end_seconds for life in lives)]
    if not ends:
        return None
    scale = Scale(low=0.0, high=max(max(ends), 1e-3))
    x_ticks, unit = plot.time_ticks(scale)
    marks: dict[int, list[Mark]] = {}
    styles = event_styles(events)
    for event, seconds, style in zip(events, moments, styles, strict=True):
        marks.setdefault(event.worker, []).append(_mark(event, seconds, scale, style))
    workers = sorted({DRIVER, *marks, *(life.worker for life in lives)})
    used = {mark.style for lane in marks.values() for mark in lane}
    return TimeLine(
        rate=_rate_chart(history, scale, x_ticks),
        lanes=tuple(_lane(worker, lives, marks.get(worker, []), scale) for worker in workers),
        x_ticks=x_ticks,
        x_label=f"time of training ({unit})",
        mark_words={style: words for style, words in MARK_WORDS.items() if style in used},
        caption=f"{_events_caption(events, styles, num_redone)} {_stall_caption(history)}".strip(),
        download=csv_download(
            "events.csv",
            {
                "seconds": moments,
                "step": [event.step for event in events],
                "worker": ["run" if event.worker == DRIVER else event.worker for event in events],
                "incarnation": [event.incarnation for event in events],
                "event": [event.event for event in events],
                "detail": [event.detail for event in events],
            },
        ),
    )


def event_styles(events: Sequence[EventRecord]) -> list[str]:
    """The mark of each event, in order: who joins for the second time since the run was started joins again."""
    joined: set[int] = set()
    styles = []
    for event in events:
        if event.event == "resumed":
            joined.clear()
        is_again = event.event == "joined" and event.worker in joined
        styles.append(REJOINED if is_again else EVENT_STYLES[event.event])
        if event.event == "joined":
            joined.add(event.worker)
    return styles


def _rate_chart(history: History, scale: Scale, x_ticks: tuple[Tick, ...]) -> Chart | None:
    edges, rates = images_per_second(history, min(_RATE_BINS, max(1, len(history.step_S) // 2)))
    if not len(rates):
        return None
    y_scale = Scale(low=0.0, high=1.08 * float(rates.max()))
    x, y = np.repeat(scale.at(edges), 2)[1:-1], np.repeat(y_scale.at(rates), 2)
    texts = [
        f"{duration(float(edge))}: {plot.number(float(f'{rate:.3g}'))} images per second"
        for edge, rate in zip(edges, rates, strict=False)
    ]
    return Chart(
        title="Images per second",
        caption="",
        x_label="",
        y_label="images per second that counted, all workers together",
        x_ticks=x_ticks,
        y_ticks=plot.number_ticks(y_scale, 3),
        shapes=(
            Shape(path=plot.area_path(x, np.zeros_like(y), y), style="area pale"),
            Shape(path=plot.line_path(x, y), style="line blue"),
        ),
        hovers=plot.hovers(scale.at(edges).tolist(), texts),
        download=csv_download("pace.csv", {"seconds": edges[:-1].tolist(), "images_per_second": rates.tolist()}),
    )


def _events_caption(events: Sequence[EventRecord], styles: Sequence[str], num_redone: int) -> str:
    """How often what is not everyday happened."""
    lost = sum(event.event == "lost" for event in events)
    resumed = sum(event.event == "resumed" for event in events)
    again = f" Stopped and started again {plural(resumed, 'time')}." if resumed else ""
    if not lost and not num_redone:
        return f"No worker was lost, and no step was done again.{again}"
    return (
        f"{plural(lost, 'worker')} lost, {plural(styles.count(REJOINED), 'worker')} joined again, "
        f"{plural(num_redone, 'step')} done again.{again}"
    )


def _stall_caption(history: History) -> str:
    if len(history.step_S) < 2:
        return ""
    gaps = np.diff(history.finished_seconds_S)
    longest = int(gaps.argmax())
    return (
        f"Longest wait between two steps: {duration(float(gaps[longest]))}, before step "
        f"{count(int(history.step_S[longest + 1]))} (median {duration(float(np.median(gaps)))})."
    )


def _lane(worker: int, lives: Sequence[Life], marks: Sequence[Mark], scale: Scale) -> Lane:
    spans = tuple(
        plot.Strip(
            start=float(scale.at(life.start_seconds)),
            end=float(scale.at(life.end_seconds)),
            text=f"worker {worker}, incarnation {life.incarnation}: "
            f"{duration(life.start_seconds)} to {duration(life.end_seconds)}",
        )
        for life in lives
        if life.worker == worker
    )
    return Lane(name="run" if worker == DRIVER else f"worker {worker}", spans=spans, marks=tuple(marks))


def _mark(event: EventRecord, seconds: float, scale: Scale, style: str) -> Mark:
    who = "" if event.worker == DRIVER else f", worker {event.worker}"
    detail = f": {event.detail}" if event.detail else ""
    text = f"{duration(seconds)}, step {count(event.step)}{who}, {event.event}{detail}"
    return Mark(at=float(scale.at(seconds)), style=style, text=text)
