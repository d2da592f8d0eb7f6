"""The run's records: one line of JSON per step or event, written by workers and read by reports.

Each worker process appends to a file of its own, named after worker and incarnation; the driver has one too.
A line is whole or it does not count: a process that is killed may leave half a line at the end of its file,
and nothing else in a file may be damaged without the reader saying where.
Cost: `RecordWriter.write` only formats a line; a thread writes the lines at least every `FLUSH_SECONDS`.
"""

import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from types import TracebackType
from typing import Any, Literal, Self, final, get_args

from sunspark import storage
from sunspark.errors import ConfigError, DeadlineError, RunError

DRIVER = -1
"""The worker number in what the driver records about the run as a whole."""

FLUSH_SECONDS = 2.0
"""A record reaches storage no later than this after it was written (seconds)."""

EventName = Literal[
    "started",
    "joined",
    "lost",
    "redone",
    "recovered",
    "restarted",
    "evaluated",
    "diverged",
    "excused",
    "checkpoint",
    "unsaved",
    "resumed",
    "finished",
    "stopped",
    "duplicate",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """What one worker did in one step that it applied."""

    worker: int
    """Number of the worker, 0 and up."""
    incarnation: int
    """Which process of this worker it is; rises with every process, over all starts of the run."""
    time_unix_seconds: float
    """When the worker had applied the step."""
    step: int
    epoch: int
    loss: float
    """Mean loss over all samples of the step (nats): the same on every worker."""
    learning_rate: float
    gradient_norm: float
    """L2 norm of the step's gradient over all parameters, before it is clipped."""
    samples: int
    """Samples that this worker computed; the sum over the workers is the size of the step."""
    quorum_seconds: float
    data_seconds: float
    """Waiting for the loader."""
    forward_seconds: float
    backward_seconds: float
    communication_seconds: float
    """Waiting for the reduction, beyond what hid behind the backward pass."""
    optimizer_seconds: float
    peak_memory_bytes: int
    """Largest resident memory of the process so far."""
    world_size: int
    """Workers in the quorum of this step."""
    rank: int
    kind: Literal["step"] = "step"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRecord:
    """What an evaluation while training has found: the same from every worker that took part."""

    worker: int
    incarnation: int
    time_unix_seconds: float
    step: int
    """Steps that had been applied."""
    epoch: int
    """Epochs that were over."""
    split: str
    samples: int
    top1: float
    top5: float
    mean_per_class: float
    loss: float
    """Mean cross-entropy (nats)."""
    excused: int = 0
    """Samples of the split that were left out, because decoding them kills the process that does it."""
    kind: Literal["evaluation"] = "evaluation"


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRecord:
    """Something that happened to a worker, or to the run."""

    worker: int
    """The worker that it happened to, whoever wrote it down; `DRIVER` when it concerns the whole run."""
    incarnation: int
    time_unix_seconds: float
    step: int
    event: EventName
    detail: str
    kind: Literal["event"] = "event"

    def __post_init__(self) -> None:
        if self.event not in get_args(EventName):
            known = ", ".join(get_args(EventName))
            raise ConfigError(f"an event must be one of {known}; got {self.event!r}")


Record = StepRecord | EvaluationRecord | EventRecord

_KINDS: dict[str, type[Record]] = {
    "step": StepRecord,
    "evaluation": EvaluationRecord,
    "event": EventRecord,
}
_WORKER_FILE = re.compile(r"worker-\d+\.(\d+)\.jsonl")
_DEADLINE_SECONDS = 60.0
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def worker_file(run: str, worker: int, incarnation: int) -> str:
    """Where this incarnation of a worker appends its records."""
    return storage.join(run, "records", f"worker-{worker:02d}.{incarnation:04d}.jsonl")


def last_incarnation(run: str) -> int:
    """The highest incarnation of any worker that has a file in this run; 0 when there is none."""
    names = [entry.name for entry in storage.list_directory(storage.join(run, "records"))]
    return max((int(match[1]) for name in names if (match := _WORKER_FILE.fullmatch(name))), default=0)


def driver_file(run: str) -> str:
    """Where the driver appends its records."""
    return storage.join(run, "records", "driver.jsonl")


@final
class RecordWriter:
    """Appends records to one file; any thread may write.

    A record is on its way to storage after `FLUSH_SECONDS` at most, and at `close`. What storage refuses is
    raised by the next `write`, `flush` or `close` as `StorageError`.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._stream = storage.append_text(uri)
        self._lines = ["\n\n"] if _ends_torn(uri) else []  # an empty line says that the one before it was torn
        self._lines_lock = threading.Lock()  # held for a moment, so that a step never waits for storage
        self._stream_lock = threading.Lock()  # held while writing; always taken first
        self._failure: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._flush_regularly, name="records", daemon=True)
        self._thread.start()

    def write(self, record: Record) -> None:
        """Take one record; returns at once."""
        self._raise_failure()
        line = _to_line(record)
        with self._lines_lock:
            if self._closing.is_set():
                raise ValueError("this RecordWriter is closed; open another one to append")
            self._lines.append(line)

    def flush(self) -> None:
        """Hand everything written so far to storage, now."""
        self._raise_failure()
        if not self._stream_lock.acquire(timeout=_DEADLINE_SECONDS):
            raise self._too_slow()
        try:
            with self._lines_lock:
                lines, self._lines = self._lines, []
            if lines:
                with storage.storage_errors(self._uri):
                    self._stream.write("".join(lines))
                    self._stream.flush()
        finally:
            self._stream_lock.release()

    def close(self) -> None:
        """Write what is left and let go of the file; closing twice does nothing."""
        with self._lines_lock:
            if self._closing.is_set():
                return
            self._closing.set()
        self._thread.join(_DEADLINE_SECONDS)
        if self._thread.is_alive():
            raise self._too_slow()
        try:
            self.flush()
        finally:
            with storage.storage_errors(self._uri):
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush_regularly(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS / 2):
            try:
                self.flush()
            except Exception as error:  # told to whoever writes next: this thread has nobody to tell
                self._failure = error
                return

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _too_slow(self) -> DeadlineError:
        return DeadlineError(
            f"{self._uri} did not take records for {_DEADLINE_SECONDS:.0f} s; is its storage reachable?"
        )


def read_records(run: str) -> list[Record]:
    """All records of a run, oldest first.

    Where a worker did a step again, after a recovery or a resume, only the record of its last time is left.

    Raises:
        RunError: there is no such run, or a line is damaged (the message names file and line).
    """
    if not storage.exists(run):
        raise RunError(f"there is no run at {run}; give the directory that `sunspark train` wrote")
    records: list[Record] = []
    for entry in storage.list_directory(storage.join(run, "records")):
        if entry.name.endswith(".jsonl"):
            records.extend(read_file(entry.uri))
    return _without_superseded(sorted(records, key=lambda record: record.time_unix_seconds))


def read_file(uri: str) -> list[Record]:
    """The records of one file, in its order; a line torn by a killed process is left out."""
    lines = storage.read_bytes(uri).split(b"\n")
    return [_from_line(line, f"{uri}, line {number}") for number, line in _whole_lines(lines)]


def whole_records(body: bytes, uri: str, start: int) -> tuple[list[Record], int]:
    """The records in a piece of a file that still grows, and the size of what they take up (bytes).

    The piece begins with a line, `start` bytes into the file; a last line that is not whole yet is left out.
    """
    size_bytes = body.rfind(b"\n") + 1
    lines = body[:size_bytes].split(b"\n")
    if len(lines) > 1 and lines[-2] and not _is_json(lines[-2]):  # torn, if an empty line follows later
        size_bytes -= len(lines[-2]) + 1
        lines[-2:] = [b""]
    place = f"{uri}, from byte {start}, line"
    return [_from_line(line, f"{place} {number}") for number, line in _whole_lines(lines)], size_bytes


def _whole_lines(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line that was written to its end."""
    end = len(lines) - 1  # what follows the last end of line: nothing, unless it was torn
    for index, line in enumerate(lines):
        may_be_torn = index == end or (index + 1 < end and not lines[index + 1])  # see RecordWriter.__init__
        if line and not (may_be_torn and not _is_json(line)):
            yield index + 1, line


def _without_superseded(records: list[Record]) -> list[Record]:
    """`records`, which are in order of time, without those of steps that the same worker did again.

    Of the records of one evaluation, which all who took part write, the last is left.
    """
    last = {_place_of(record): record for record in records if not isinstance(record, EventRecord)}
    left = {id(record) for record in last.values()}
    return [record for record in records if isinstance(record, EventRecord) or id(record) in left]


def _place_of(record: StepRecord | EvaluationRecord) -> tuple[str, int, int]:
    return record.kind, record.worker if isinstance(record, StepRecord) else 0, record.step


def _to_line(record: Record) -> str:
    values = asdict(record)
    body = {"kind": values.pop("kind")} | {name: _to_json(value) for name, value in values.items()}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _from_line(line: bytes, place: str) -> Record:
    try:
        body = json.loads(line)
    except ValueError as error:
        raise _damaged(place, "is not JSON") from error
    if not isinstance(body, dict):
        raise _damaged(place, f"holds a {type(body).__name__}, not an object")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _damaged(place, f"has the kind {kind!r}; known are {', '.join(_KINDS)}")
    return _build(_KINDS[kind], body, place)


def _build(record_type: type[Record], body: dict[str, Any], place: str) -> Record:
    types = {field.name: field.type for field in fields(record_type)}
    needed = [field.name for field in fields(record_type) if field.default is MISSING]
    if missing := [name for name in needed if name not in body]:
        raise _damaged(place, f"lacks {', '.join(missing)}")
    if unknown := [name for name in body if name not in types]:
        raise _damaged(place, f"has unknown fields: {', '.join(unknown)}")
    values = {
        name: _from_json(body[name], expected, f"{place}, {name}") for name, expected in types.items() if name in body
    }
    try:
        return record_type(**values)
    except ConfigError as error:
        raise _damaged(place, f"cannot be: {error}") from error


def _to_json(value: object) -> object:
    """Floats that JSON cannot hold (a loss that diverged) become text, so that every line is JSON."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: object, expected: object, place: str) -> Any:
    if expected is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif expected is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, str):
        return value
    raise _damaged(place, f"holds {value!r}, which is not of type {getattr(expected, '__name__', 'str')}")


def _damaged(place: str, what: str) -> RunError:
    return RunError(f"{place}: {what}; move this file out of the run's records to go on without it")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _ends_torn(uri: str) -> bool:
    """Whether the file holds something and does not end with the end of a line."""
    with storage.open_random_access(uri) as file:
        size = file.size()
        return bool(size) and file.read_at(1, size - 1) != b"\n"
