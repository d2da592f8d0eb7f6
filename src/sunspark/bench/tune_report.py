"""The report of a search: the best so far, what mattered, how values and accuracy go together, all trials."""

import math
from collections.abc import Sequence
from typing import Any

from sunspark.bench.bars import Bar
from sunspark.bench.download import csv_download
from sunspark.bench.trials import LEAST_TRIALS, REDUCTION, Trial, Trials
from sunspark.bench.tune_charts import best_so_far, parallel, shown, while_they_trained
from sunspark.bench.words import percent, plural


def sections_of_search(found: Trials) -> dict[str, Any]:
    """What the template `tune.html.j2` needs."""
    judged = [trial for trial in found.trials if trial.top1 is not None]
    keys = list(dict.fromkeys(key for trial in found.trials for key in trial.values))
    return {
        "finding": finding(found),
        "charts": [chart for chart in (best_so_far(judged), while_they_trained(judged)) if chart],
        "parallel": parallel(judged, keys),
        "importance": tuple(
            Bar(name=key, share=share, text=percent(share, 0)) for key, share in found.importance.items()
        ),
        "unknown_importance": unknown_importance(found),
        "keys": keys,
        "shown": shown,
        "trials": [
            (trial, _outcome(trial, found.trials))
            for trial in sorted(found.trials, key=lambda one: -(one.top1 or -1.0))
        ],
        "download": csv_download(
            "trials.csv",
            {
                "trial": [trial.number for trial in found.trials],
                "state": [trial.state for trial in found.trials],
                "top1": [math.nan if trial.top1 is None else trial.top1 for trial in found.trials],
                "seconds": [trial.seconds for trial in found.trials],
                **{key: [str(trial.values.get(key, "")) for trial in found.trials] for key in keys},
            },
        ),
    }


def finding(found: Trials) -> str:
    """What the search says, in plain words."""
    ended = [trial for trial in found.trials if trial.state == "complete" and trial.top1 is not None]
    if not ended:
        return "No trial has come to its end yet."
    best = max(ended, key=lambda trial: trial.top1 or 0.0)
    values = ", ".join(f"{key} = {shown(value)}" for key, value in best.values.items())
    early = sum(trial.state == "pruned" for trial in found.trials)
    words = [
        f"The best of {plural(len(found.trials), 'trial')} is number {best.number}, with {percent(best.top1 or 0.0)} "
        f"top-1 on the split that trials are judged on: {values}."
    ]
    if early:
        words.append(f"{plural(early, 'trial')} lagged behind and {'was' if early == 1 else 'were'} ended early.")
    if found.importance:
        key, share = max(found.importance.items(), key=lambda item: item[1])
        words.append(f"What mattered most is {key} ({percent(share, 0)} of what the space explains).")
    words.append("The best of many trials looks better than it is: judge it on a split that the search has not seen.")
    return " ".join(words)


def unknown_importance(found: Trials) -> str:
    """Why it is not known what mattered; empty where it is."""
    if found.importance:
        return ""
    finished = sum(trial.state == "complete" for trial in found.trials)
    if finished < LEAST_TRIALS:
        return (
            f"How much each key matters can be told once {LEAST_TRIALS} trials have come to their end; "
            f"{finished or 'none'} {'has' if finished < 2 else 'have'} so far."
        )
    return f"The {finished} trials that came to their end do not tell which key matters: they came to much the same."


def _outcome(trial: Trial, trials: Sequence[Trial]) -> str:
    if trial.state == "failed":
        return f"failed: {trial.reason}"
    return ended_early(trial, trials) if trial.state == "pruned" else ""


def ended_early(trial: Trial, trials: Sequence[Trial]) -> str:
    """After which evaluation, with which top-1, and how it stood where it fell behind, among those begun by then.

    A trial that has fallen behind trains on until the search has seen that: its last evaluation may be a later one.
    """
    if not trial.curve:
        return "ended early"
    number, place, of = _fell_behind(trial, trials)
    (last, top1), (epoch, top1_then) = trial.curve[-1], trial.curve[number - 1]
    words = f"ended after epoch {last}: {percent(top1)}"
    rank = f"place {place} of {of}"
    return f"{words}, {rank}" if epoch == last else f"{words}; {rank} after epoch {epoch} with {percent(top1_then)}"


def _fell_behind(trial: Trial, trials: Sequence[Trial]) -> tuple[int, int, int]:
    """The evaluation, of those at which one trial in `REDUCTION` goes on, its place there, and of how many."""
    number = 1
    while True:
        there = [one.curve[number - 1][1] for one in trials if len(one.curve) >= number and one.number <= trial.number]
        place = 1 + sum(top1 > trial.curve[number - 1][1] for top1 in there)
        if place > max(1, len(there) // REDUCTION) or number * REDUCTION > len(trial.curve):
            return number, place, len(there)
        number *= REDUCTION
