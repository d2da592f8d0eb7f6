"""The bars of a report: where the time went, how much memory was used, how well each class is recognised."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sunspark.bench.history import PHASE_WORDS
from sunspark.bench.words import count, duration, percent, share, size


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A part of a stacked bar."""

    name: str
    style: str
    share: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A row of a bar chart."""

    name: str
    share: float
    text: str
    hint: str = ""


def phase_segments(totals: Mapping[str, float], words: Mapping[str, str] = PHASE_WORDS) -> tuple[Segment, ...]:
    """The time of all workers by phase, as shares of one bar."""
    whole = sum(totals.values()) or 1.0
    return tuple(
        Segment(
            name=words[phase],
            style=phase,
            share=seconds / whole,
            text=f"{duration(seconds)}, {share(seconds / whole)}",
        )
        for phase, seconds in totals.items()
    )


def memory_bars(peaks: Mapping[int, int]) -> tuple[Bar, ...]:
    """The largest memory of each worker."""
    most = max(peaks.values(), default=0) or 1
    return tuple(
        Bar(name=f"worker {worker}", share=num_bytes / most, text=size(num_bytes))
        for worker, num_bytes in peaks.items()
    )


def class_bars(per_class: Iterable[tuple[str, int, int]]) -> tuple[Bar, ...]:
    """Accuracy per class, best first; classes of which the split has no sample come last."""
    rated = [(name, correct / samples if samples else -1.0, correct, samples) for name, samples, correct in per_class]
    rated.sort(key=lambda row: (-row[1], row[0]))
    return tuple(
        Bar(
            name=name,
            share=max(rate, 0.0),
            text="-" if rate < 0 else percent(rate, 0),
            hint=f"{name}: {count(correct)} of {count(samples)} right",
        )
        for name, rate, correct, samples in rated
    )


def class_spread(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """How many classes lie in each tenth of accuracy, lowest first."""
    numbers = np.bincount([min(9, int(bar.share * 10 + 1e-9)) for bar in bars if bar.text != "-"], minlength=10)
    most = int(numbers.max(initial=0)) or 1
    return tuple(
        Bar(
            name=f"{10 * tenth}",
            share=int(number) / most,
            text=count(int(number)) if number else "",
            hint=f"{count(int(number))} classes between {10 * tenth} and {10 * tenth + 10} %",
        )
        for tenth, number in enumerate(numbers)
    )
