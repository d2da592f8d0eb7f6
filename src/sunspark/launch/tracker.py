"""TensorBoard's view of a run: event files in RUN/tensorboard, made by the driver from the records of steps.

The records are what counts and these files are a copy, written anew from the first step at every start; so a tracker
may be turned on in the middle of a run. A step is written `_SETTLE_SECONDS` after it was done, when the records of
all workers have come, because TensorBoard takes a step that comes late for a run that went back.
Cost: a thread of the driver that reads the new records every few seconds; about 250 bytes a step.
"""

import contextlib
import importlib.util
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final

from sunspark import run_directory, storage
from sunspark.data.order import StepPlan
from sunspark.errors import ConfigError, SetupError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.tail import RecordTail
from sunspark.records import FLUSH_SECONDS, StepRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from sunspark.launch.evaluate import EvaluationResult

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 2 * FLUSH_SECONDS + 1.0
_JOIN_SECONDS: Final = 60.0
_EVALUATED: Final = ("top1", "top5", "mean_per_class", "loss")


def check_tracker(run: str, launch: LaunchConfig) -> None:
    """Raises SetupError or ConfigError when the tracker that `launch` names cannot follow `run`."""
    if launch.tracker == "none":
        return
    if storage.as_local_path(run) is None:
        raise ConfigError(f"--tracker tensorboard needs a run in a local folder, got {run}; leave the tracker out")
    if importlib.util.find_spec("tensorboard") is None:
        raise SetupError("--tracker tensorboard needs the package tensorboard: pip install 'sunspark[tensorboard]'")


@contextlib.contextmanager
def tracked(run: str, plan: StepPlan, launch: LaunchConfig) -> Iterator[None]:
    """Keep RUN/tensorboard up to date meanwhile, if `launch` asks for it; what goes wrong there is a warning."""
    if launch.tracker == "none":
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(run, plan, over), name="tracker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_JOIN_SECONDS)
        if thread.is_alive():
            logger.warning("RUN/tensorboard was not finished within %.0f s; the records are whole", _JOIN_SECONDS)


def track_evaluation(run: str, result: "EvaluationResult") -> None:
    """Add an evaluation of the finished run to RUN/tensorboard, at its last step."""
    step = int(run_directory.read_object(run_directory.result_file(run))["steps"])
    with contextlib.closing(_open(run)) as writer:
        for name in _EVALUATED:
            writer.add_scalar(f"evaluation/{result.split}/{name}", getattr(result, name), step)


def _follow(run: str, plan: StepPlan, over: threading.Event) -> None:
    try:
        storage.delete(run_directory.tracker_directory(run))
        tracker = StepTracker(run, plan)
        while not over.wait(_LOOK_SECONDS):
            tracker.look()
        tracker.close()
    except Exception:
        logger.warning("RUN/tensorboard is not kept up to date any more; training goes on", exc_info=True)


def _open(run: str, purge_step: int | None = None) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(storage.as_local_path(run_directory.tracker_directory(run))), purge_step=purge_step)


@final
class StepTracker:
    """Writes the steps of a run, each once and in order."""

    def __init__(self, run: str, plan: StepPlan) -> None:
        self._run = run
        self._plan = plan
        self._tail = RecordTail(run)
        self._writer = _open(run)
        self._held: list[StepRecord] = []
        self._last_of: dict[tuple[int, int], int] = {}
        """The last step of each worker, and of its parts if a server leased them."""
        self._written: StepRecord | None = None

    def look(self) -> None:
        """Write the steps whose records have all come."""
        self._take(_SETTLE_SECONDS)

    def close(self) -> None:
        """Write what is left."""
        self._take(0.0)
        self._writer.close()

    def _take(self, settle_seconds: float) -> None:
        new = [record for record in self._tail.read_new() if isinstance(record, StepRecord)]
        self._held = sorted([*self._held, *new], key=lambda record: record.time_unix_seconds)
        newest = self._held[-1].time_unix_seconds if self._held else 0.0
        settled = [one for one in self._held if one.time_unix_seconds <= newest - settle_seconds]
        self._held = self._held[len(settled) :]
        for record in settled:
            self._write(record)
        self._writer.flush()

    def _write(self, record: StepRecord) -> None:
        if record.step <= self._last_of.get((record.worker, record.replica), -1):  # everybody died, and did it again
            self._writer.close()
            self._writer = _open(self._run, purge_step=record.step)
            self._last_of.clear()
            self._written = None
        self._last_of[record.worker, record.replica] = record.step
        if self._written is not None and record.step <= self._written.step:
            return  # another worker's record of the same step
        values = {
            "loss": record.loss,
            "learning_rate": record.learning_rate,
            "gradient_norm": record.gradient_norm,
        }
        if self._written is not None and record.time_unix_seconds > self._written.time_unix_seconds:
            seconds = record.time_unix_seconds - self._written.time_unix_seconds
            values["images_per_second"] = self._plan.num_samples_of(record.step) / seconds
        for name, value in values.items():
            self._writer.add_scalar(f"training/{name}", value, record.step, walltime=record.time_unix_seconds)
        self._written = record
