"""What a run's directory holds, as far as a report needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sunspark import run_directory, storage
from sunspark.errors import RunError
from sunspark.records import Record, as_done_last, num_recorded_again, read_attempts

_NEEDED = ("split", "samples", "top1", "per_class", "confusion", "mistakes", "right")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """What a run's directory holds; None or empty for what is not there."""

    run: str
    config: dict[str, Any]
    start: dict[str, Any]
    """How it was started last."""
    result: dict[str, Any] | None
    evaluations: tuple[dict[str, Any], ...]
    """That of a test split first."""
    verdict: dict[str, Any] | None
    forecast: dict[str, Any] | None
    """What its strategy was chosen by, if a forecast has chosen it."""
    records: list[Record]
    recorded_again: int
    """How often a step was done that had been recorded before."""

    @property
    def is_finished(self) -> bool:
        return self.result is not None

    @property
    def name(self) -> str:
        """The last two folders of its path: many a run's folder is called `run`."""
        return "/".join(self.run.rstrip("/").split("/")[-2:])


def read_run(run: str) -> RunFiles:
    """Everything that a report is made of.

    Raises:
        RunError: there is no such run, or one of its files is damaged.
        StorageError: a file cannot be read.
    """
    attempts = list(read_attempts(run))
    config = run_directory.read_config(run) if storage.exists(run_directory.config_file(run)) else None
    if config is None and not attempts:
        raise run_directory.no_run(run)
    evaluations = [_checked(run_directory.read_object(uri), run) for uri in run_directory.evaluation_files(run)]
    return RunFiles(
        run=run,
        config=config or {},
        start=_read_if_present(run_directory.start_file(run)) or {},
        result=_read_if_present(run_directory.result_file(run)),
        evaluations=tuple(sorted(evaluations, key=_test_first)),
        verdict=_read_if_present(run_directory.verdict_file(run)),
        forecast=_read_if_present(run_directory.forecast_file(run)),
        records=as_done_last(attempts),
        recorded_again=num_recorded_again(attempts),
    )


def _test_first(evaluation: Mapping[str, Any]) -> tuple[bool, str]:
    split = str(evaluation["split"])
    return not split.lower().startswith("test"), split


def _read_if_present(uri: str) -> dict[str, Any] | None:
    return run_directory.read_object(uri) if storage.exists(uri) else None


def _checked(evaluation: dict[str, Any], run: str) -> dict[str, Any]:
    for name in _NEEDED:
        if name not in evaluation:
            raise RunError(f"an evaluation in {run} lacks {name!r}; run `sunspark evaluate` again")
    return evaluation
