"""The reader of records: of a whole run, of one file, of a file that still grows."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from sunspark import storage
from sunspark.errors import RunError
from sunspark.records.kinds import EvaluationRecord, EventRecord, Record, StepRecord
from sunspark.records.line import from_line, is_json

_PIECE_BYTES: Final = 4 << 20


def read_records(run: str) -> list[Record]:
    """All records of a run, oldest first.

    Where a worker did a step again, after a recovery or a resume, only the record of its last time is left; so where a
    replica's part of a step was done again, by any worker.

    Raises:
        RunError: there is no such run, or a line is damaged (the message names file and line).
    """
    return as_done_last(list(read_attempts(run)))


def read_attempts(run: str) -> Iterator[Record]:
    """All records of a run, file by file, also those of steps that were done again. Raises as `read_records`."""
    if not storage.exists(run):
        raise RunError(f"{run} is not a run; give the folder that `sunspark train` works on")
    for entry in storage.list_directory(storage.join(run, "records")):
        if entry.name.endswith(".jsonl"):
            yield from read_file(entry.uri)


def as_done_last(attempts: list[Record]) -> list[Record]:
    """What `read_records` gives, of what `read_attempts` does."""
    return sorted(_without_superseded(attempts), key=lambda record: record.time_unix_seconds)


def num_recorded_again(attempts: Iterable[Record]) -> int:
    """How often a step was done that had been recorded before: all who had done it were gone, and it was not saved.

    Workers of one attempt have one size of the quorum and a rank each; of a replica's part there is one record.
    """
    times: Counter[tuple[int, int, int]] = Counter()
    for record in attempts:
        if isinstance(record, StepRecord):
            quorum = (record.world_size, record.rank) if record.replica < 0 else (0, record.replica)
            times[record.step, *quorum] += 1
    attempts_with: dict[tuple[int, int], int] = {}
    for (step, world_size, _), count in times.items():
        attempts_with[step, world_size] = max(count, attempts_with.get((step, world_size), 0))
    return sum(attempts_with.values()) - len({step for step, _ in attempts_with})


def read_file(uri: str) -> list[Record]:
    """The records of one file, in its order; a line torn by a killed process is left out."""
    lines = storage.read_bytes(uri).split(b"\n")
    return [from_line(line, f"{uri}, line {number}") for number, line in _whole_lines(lines)]


def read_in_pieces(uri: str) -> Iterator[Record]:
    """The same of a file of any size, without a last line that is torn, in the memory of `_PIECE_BYTES`."""
    start = 0
    with storage.open_random_access(uri) as file:
        while True:
            with storage.storage_errors(uri):
                body: bytes = file.read_at(min(_PIECE_BYTES, file.size() - start), start)
            records, size_bytes = whole_records(body, uri, start)
            if not size_bytes:
                return
            yield from records
            start += size_bytes


def whole_records(body: bytes, uri: str, start: int) -> tuple[list[Record], int]:
    """The records in a piece of a file that still grows, and the size of what they take up (bytes).

    The piece begins with a line, `start` bytes into the file; a last line that is not whole yet is left out.
    """
    size_bytes = body.rfind(b"\n") + 1
    lines = body[:size_bytes].split(b"\n")
    if len(lines) > 1 and lines[-2] and not is_json(lines[-2]):  # torn, if an empty line follows later
        size_bytes -= len(lines[-2]) + 1
        lines[-2:] = [b""]
    place = f"{uri}, from byte {start}, line"
    return [from_line(line, f"{place} {number}") for number, line in _whole_lines(lines)], size_bytes


def _whole_lines(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line that was written to its end."""
    end = len(lines) - 1  # what follows the last end of line: nothing, unless it was torn
    for index, line in enumerate(lines):
        may_be_torn = index == end or (index + 1 < end and not lines[index + 1])  # see RecordWriter.__init__
        if line and not (may_be_torn and not is_json(line)):
            yield index + 1, line


def _without_superseded(records: list[Record]) -> list[Record]:
    """`records`, each file's in its order, without those of steps that the same worker did again.

    Of a replica's part that a server had leased the last is left, whichever worker did it, and of the records of one
    evaluation, which all who took part write. Later is what a later process wrote, whatever the clock said.
    """
    by_process = sorted(records, key=lambda record: record.incarnation)
    last = {_place_of(record): record for record in by_process if not isinstance(record, EventRecord)}
    left = {id(record) for record in last.values()}
    return [record for record in records if isinstance(record, EventRecord) or id(record) in left]


def _place_of(record: StepRecord | EvaluationRecord) -> tuple[str, int, int, int]:
    """What there can be one record of: a worker's part of a step, or a replica's, whoever did it."""
    if isinstance(record, EvaluationRecord):
        return record.kind, -1, record.step, -1
    return record.kind, record.worker if record.replica < 0 else -1, record.step, record.replica
