"""The run's records: one line of JSON per step or event, written by workers and read by reports.

Each worker process appends to a file of its own, named after worker and incarnation; the driver has one too.
A line is whole or it does not count: a process that is killed may leave half a line at the end of its file,
and nothing else in a file may be damaged without the reader saying where.
"""

from sunspark.records.files import driver_file, last_incarnation, worker_file, worker_files
from sunspark.records.kinds import DRIVER, EvaluationRecord, EventName, EventRecord, Record, StepRecord
from sunspark.records.reader import (
    as_done_last,
    num_recorded_again,
    read_attempts,
    read_file,
    read_in_pieces,
    read_records,
    whole_records,
)
from sunspark.records.writer import FLUSH_SECONDS, RecordWriter

__all__ = [
    "DRIVER",
    "FLUSH_SECONDS",
    "EvaluationRecord",
    "EventName",
    "EventRecord",
    "Record",
    "RecordWriter",
    "StepRecord",
    "as_done_last",
    "driver_file",
    "last_incarnation",
    "num_recorded_again",
    "read_attempts",
    "read_file",
    "read_in_pieces",
    "read_records",
    "whole_records",
    "worker_file",
    "worker_files",
]
