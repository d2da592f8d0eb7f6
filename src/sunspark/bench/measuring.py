"""A measurement of one run of a sweep: from its records, and from what its process has told.

A speed is a steady one: from the end of the first step that was recorded to that of the last.
"""

from collections.abc import Mapping
from typing import Any, Final

from sunspark.bench.history import ELSEWHERE, PHASES, peak_memory, phase_totals, step_history, training_clock
from sunspark.bench.sweep import Setting
from sunspark.bench.sweep_results import Measurement
from sunspark.errors import RunError
from sunspark.records import EvaluationRecord, StepRecord, read_records

_COLUMNS_OF_PHASES: Final = tuple(f"{phase}_seconds" for phase in (*PHASES, ELSEWHERE))


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
        num_classes=told["num_classes"],
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
