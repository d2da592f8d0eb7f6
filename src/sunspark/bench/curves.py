"""The curves of a report: loss, learning rate and the phases of a step, over the steps of a run.

Shape legend: S step, B stretch of steps, P phase.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sunspark.bench import plot
from sunspark.bench.download import Download, csv_download
from sunspark.bench.history import PHASE_WORDS, PHASES, Floats, History
from sunspark.bench.plot import Chart, Scale, Shape, Tick
from sunspark.bench.words import count, duration, percent
from sunspark.records import EvaluationRecord

_LINE_BINS = 400
_HOVER_BINS = 80
_PHASE_BINS = 100
_CSV_ROWS = 2000
_EVALUATED = ("step", "epoch", "samples", "top1", "top5", "mean_per_class", "loss")


def loss_chart(history: History, num_classes: int | None) -> Chart:
    """The loss of every step and its running mean; a dotted line where guessing would be."""
    guess = math.log(num_classes) if num_classes and num_classes > 1 else None
    scale = _usual_scale(history.loss_S, at_least=guess or 0.0)
    shapes = _noisy_lines(history, history.loss_S, scale, "blue")
    if guess is not None:
        level = scale.at(np.array([guess, guess]))
        path = plot.line_path(np.array([0.0, 1.0]), level)
        shapes.insert(0, Shape(path=path, style="dotted ink", name=f"guessing, {plot.number(guess)}"))
    return _over_steps(
        history,
        title="Loss",
        caption=_loss_caption(history.loss_S, guess is not None),
        y_label="mean cross-entropy of a step (nats)",
        y_ticks=plot.number_ticks(scale),
        shapes=tuple(shapes),
        columns={"loss": history.loss_S},
        text=lambda part: f"loss {plot.number(_mean(history.loss_S[part]))}",
    )


def learning_rate_chart(history: History) -> Chart:
    """The learning rate of every step."""
    rate_S = history.learning_rate_S
    highest = float(rate_S.max())
    scale = Scale(low=0.0, high=1.05 * highest or 1.0)
    peak = int(history.step_S[rate_S.argmax()])
    constant = bool(rate_S.min() == rate_S.max())
    return _over_steps(
        history,
        title="Learning rate",
        caption=f"Constant at {plot.number(highest)}."
        if constant
        else f"Highest at step {count(peak)} with {plot.number(highest)}; "
        f"{plot.number(float(rate_S[-1]))} at the last step.",
        y_label="learning rate",
        y_ticks=plot.number_ticks(scale),
        shapes=(_steps_line(history, rate_S, scale, "line green", ""),),
        columns={"learning_rate": rate_S},
        text=lambda part: f"learning rate {plot.number(_mean(rate_S[part]))}",
    )


def gradient_norm_chart(history: History) -> Chart:
    """The norm of the gradient of every step and its running mean."""
    norm_S = history.gradient_norm_S
    scale = _usual_scale(norm_S)
    peak = int(norm_S.argmax())
    median = float(np.median(norm_S))
    return _over_steps(
        history,
        title="Gradient norm",
        caption=f"Length of the gradient before the optimizer's step. Median {plot.number(median)}, "
        f"highest at step {count(int(history.step_S[peak]))} with {plot.number(float(norm_S[peak]))}: "
        "peaks that return late in training ask for a lower learning rate.",
        y_label="Euclidean norm of a step's gradient",
        y_ticks=plot.number_ticks(scale),
        shapes=tuple(_noisy_lines(history, norm_S, scale, "purple")),
        columns={"gradient_norm": norm_S},
        text=lambda part: f"gradient norm {plot.number(_mean(norm_S[part]))}",
    )


def accuracy_chart(history: History, evaluations: Sequence[EvaluationRecord]) -> Chart | None:
    """What the evaluations while training found; None where there was none."""
    if not evaluations:
        return None
    steps = np.array([record.step for record in evaluations], np.float64)
    top1, top5 = (np.array([getattr(record, name) for record in evaluations]) for name in ("top1", "top5"))
    best = evaluations[int(top1.argmax())]
    scale, x = Scale(low=0.0, high=1.0), _step_scale(history).at(steps)
    x_ticks, x_label = _training_ticks(history)
    texts = [f"after step {count(record.step)}: {_shares(record)}" for record in evaluations]
    return Chart(
        title="Accuracy while training",
        caption=f"On the split {best.split}, {count(best.samples)} images. Best after step {count(best.step)} with "
        f"{percent(best.top1)} top-1, {percent(evaluations[-1].top1)} at the last evaluation: a best one "
        "that lies far back says that training went on for too long.",
        x_label=x_label,
        y_label="share of the images",
        x_ticks=x_ticks,
        y_ticks=tuple(Tick(at=share, label=f"{100 * share:.0f} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
        shapes=(
            Shape(path=plot.line_path(x, scale.at(top5)), style="faint green", name="top-5"),
            Shape(path=plot.line_path(x, scale.at(top1)), style="line green", name="top-1"),
        ),
        hovers=plot.hovers([0.0, *((x[1:] + x[:-1]) / 2).tolist(), 1.0], texts),
        download=csv_download(
            "accuracy-while-training.csv",
            {name: [getattr(record, name) for record in evaluations] for name in _EVALUATED},
        ),
    )


def phase_chart(history: History, words: Mapping[str, str] = PHASE_WORDS) -> Chart:
    """Seconds per step, stacked by phase, as means over stretches of steps."""
    parts = plot.bins(len(history.step_S), _PHASE_BINS)
    seconds_BP: Floats = np.array([history.phase_seconds_SP[part].mean(axis=0) for part in parts], np.float64)
    upper_BP = np.cumsum(seconds_BP, axis=1)
    longest = int(upper_BP[:, -1].argmax())
    longest_seconds, usual = float(upper_BP[longest, -1]), 2 * float(np.percentile(upper_BP[:, -1], 99))
    highest = 1.05 * min(longest_seconds, usual)
    beyond = f" Beyond the top: {_steps_text(history, parts[longest])}, with {duration(longest_seconds)}."
    unit, name = (1.0, "s") if highest >= 2 else (1e3, "ms")
    scale = Scale(low=0.0, high=highest or 1.0)
    edges = _edges(history, parts)
    x = np.repeat(edges, 2)[1:-1]  # steps, not slopes: a stretch has one value
    shapes = []
    for index, phase in enumerate(PHASES):
        lower = upper_BP[:, index] - seconds_BP[:, index]
        low, high = (np.repeat(scale.at(value), 2) for value in (lower, upper_BP[:, index]))
        shapes.append(Shape(path=plot.area_path(x, low, high), style=f"area {phase}", name=words[phase]))
    ticks = Scale(low=0.0, high=scale.high * unit)
    return _over_steps(
        history,
        title="One step",
        caption=f"A step takes {duration(float(np.median(history.phase_seconds_SP.sum(axis=1))))} (median), "
        "mean over its workers. Blue and green compute, yellow, orange and pink wait."
        + (beyond if longest_seconds > usual else ""),
        y_label=f"seconds per step ({name})" if name == "s" else "milliseconds per step",
        y_ticks=plot.number_ticks(ticks),
        shapes=tuple(shapes),
        columns={f"{phase}_seconds": history.phase_seconds_SP[:, index] for index, phase in enumerate(PHASES)},
        text=lambda part: ", ".join(
            f"{words[phase]} {duration(float(seconds))}"
            for phase, seconds in zip(PHASES, history.phase_seconds_SP[part].mean(axis=0), strict=True)
        ),
    )


def _over_steps(
    history: History,
    *,
    title: str,
    caption: str,
    y_label: str,
    y_ticks: tuple[Tick, ...],
    shapes: tuple[Shape, ...],
    columns: dict[str, Floats],
    text: Callable[[slice], str],
) -> Chart:
    """A chart whose horizontal axis is the training: labelled in epochs, or in steps within the first one."""
    x_ticks, x_label = _training_ticks(history)
    parts = plot.bins(len(history.step_S), _HOVER_BINS)
    texts = [f"{_steps_text(history, part)}: {text(part)}" for part in parts]
    return Chart(
        title=title,
        caption=caption,
        x_label=x_label,
        y_label=y_label,
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        shapes=shapes,
        hovers=plot.hovers(_edges(history, parts).tolist(), texts),
        download=_download(history, f"{title.lower().replace(' ', '-')}.csv", columns),
    )


def _download(history: History, file: str, columns: dict[str, Floats]) -> Download:
    """A row for each step; of a long training, for each stretch of steps, with its means."""
    parts = plot.bins(len(history.step_S), _CSV_ROWS)
    return csv_download(
        file,
        {
            "step": [int(history.step_S[part.start]) for part in parts],
            "steps": [part.stop - part.start for part in parts],
            "epoch": [int(history.epoch_S[part.start]) for part in parts],
        }
        | {name: [_mean(values_S[part]) for part in parts] for name, values_S in columns.items()},
    )


def _usual_scale(values_S: Floats, at_least: float = 0.0) -> Scale:
    """From 0 to what is usual: a few steps far above it leave the chart, and do not flatten the rest."""
    finite = values_S[np.isfinite(values_S)]
    usual = 2 * float(np.percentile(finite, 99)) if len(finite) else 1.0
    high = max(min(float(finite.max(initial=0.0)), usual), at_least)
    return Scale(low=min(0.0, float(finite.min(initial=0.0))), high=1.05 * high or 1.0)


def _noisy_lines(history: History, values_S: Floats, scale: Scale, colour: str) -> list[Shape]:
    """Every step, and the running mean."""
    return [
        _steps_line(history, values_S, scale, f"faint {colour}", "each step"),
        _steps_line(history, _smooth(values_S), scale, f"line {colour}", "running mean"),
    ]


def _smooth(values_S: Floats) -> Floats:
    return plot.running_mean(values_S, max(1, len(values_S) // 40))


def _step_scale(history: History) -> Scale:
    return Scale(low=float(history.step_S[0]), high=float(history.step_S[-1] + 1))


def _edges(history: History, parts: Sequence[slice]) -> Floats:
    starts = [int(history.step_S[part.start]) for part in parts]
    return _step_scale(history).at(np.array([*starts, int(history.step_S[-1]) + 1]))


def _training_ticks(history: History) -> tuple[tuple[Tick, ...], str]:
    scale = _step_scale(history)
    epochs, first = np.unique(history.epoch_S, return_index=True)
    if len(epochs) < 3:
        return plot.integer_ticks(scale), "step"
    wanted = {round(value) for value in plot.nice_ticks(float(epochs[0]), float(epochs[-1] + 1), 6)}
    ticks = [
        Tick(at=float(scale.at(float(history.step_S[place]))), label=f"{epoch:,}")
        for epoch, place in zip(epochs.tolist(), first.tolist(), strict=True)
        if epoch in wanted
    ]
    return tuple(ticks), "epoch"


def _steps_line(history: History, values_S: Floats, scale: Scale, style: str, name: str) -> Shape:
    kept = plot.extremes(values_S, _LINE_BINS)
    x = _step_scale(history).at(history.step_S[kept] + 0.5)
    return Shape(path=plot.line_path(x, scale.at(values_S[kept])), style=style, name=name)


def _steps_text(history: History, part: slice) -> str:
    first, last = int(history.step_S[part.start]), int(history.step_S[part.stop - 1])
    return f"step {count(first)}" if first == last else f"steps {count(first)} to {count(last)}"


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _shares(record: EvaluationRecord) -> str:
    return f"{percent(record.top1)} top-1, {percent(record.top5)} top-5"


def _loss_caption(loss_S: Floats, has_guess: bool) -> str:
    smooth_S, broken = _smooth(loss_S), int((~np.isfinite(loss_S)).sum())
    words = f"From {plot.number(float(smooth_S[0]))} to {plot.number(float(smooth_S[-1]))} (running mean)."
    words += " Below the dotted line the network knows more than how many classes there are." if has_guess else ""
    return words + (f" {count(broken)} steps had a loss that is not finite: training diverged." if broken else "")
