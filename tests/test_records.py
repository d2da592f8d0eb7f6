"""Laws of the records: nothing written is lost or misread, and a damaged file says where."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.errors import ConfigError, RunError, StorageError
from sunspark.records import (
    DRIVER,
    FLUSH_SECONDS,
    EventRecord,
    Record,
    RecordWriter,
    StepRecord,
    driver_file,
    last_incarnation,
    num_recorded_again,
    read_file,
    read_in_pieces,
    read_records,
    worker_file,
)

pytestmark = pytest.mark.timeout(60)

STEP = StepRecord(
    worker=0,
    incarnation=0,
    time_unix_seconds=1000.5,
    step=7,
    epoch=1,
    loss=1.25,
    learning_rate=1e-3,
    gradient_norm=2.5,
    samples=32,
    quorum_seconds=0.01,
    data_seconds=0.02,
    forward_seconds=0.1,
    backward_seconds=0.2,
    communication_seconds=0.03,
    optimizer_seconds=0.04,
    peak_memory_bytes=123_456_789,
    world_size=2,
    rank=0,
)
EVENT = EventRecord(worker=1, incarnation=2, time_unix_seconds=1001.0, step=7, event="lost", detail="exit signal 9")
FINISHED = EventRecord(worker=DRIVER, incarnation=0, time_unix_seconds=1002.0, step=8, event="finished", detail="")


def write(uri: str, *records: Record) -> None:
    with RecordWriter(uri) as writer:
        for record in records:
            writer.write(record)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    uri = str(tmp_path / "records.jsonl")
    unusual = replace(EVENT, detail='quotes ", a line\nbreak, \u2028 and ünïcödé')
    write(uri, STEP, unusual, FINISHED)
    assert read_file(uri) == [STEP, unusual, FINISHED]


@pytest.mark.parametrize("loss", [math.inf, -math.inf, math.nan])
def test_a_loss_that_diverged_is_strict_json_and_comes_back(tmp_path: Path, loss: float) -> None:
    uri = str(tmp_path / "records.jsonl")
    write(uri, replace(STEP, loss=loss))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads(Path(uri).read_text(), parse_constant=refuse)
    (record,) = read_file(uri)
    assert isinstance(record, StepRecord)
    assert repr(record.loss) == repr(loss)


def test_every_record_of_every_thread_is_kept_whole(tmp_path: Path) -> None:
    uri = str(tmp_path / "records.jsonl")
    with RecordWriter(uri) as writer:

        def write_many(worker: int) -> None:
            for step in range(500):
                writer.write(replace(STEP, worker=worker, step=step))
                if step % 50 == 0:
                    writer.flush()

        threads = [threading.Thread(target=write_many, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    records = read_file(uri)
    for worker in range(4):
        steps = [record.step for record in records if record.worker == worker]
        assert steps == list(range(500))


def test_a_record_reaches_the_file_in_time_without_another_write(tmp_path: Path) -> None:
    uri = str(tmp_path / "records.jsonl")
    with RecordWriter(uri) as writer:
        writer.write(STEP)
        deadline = time.monotonic() + FLUSH_SECONDS + 5  # the machine may be busy
        while not read_file(uri):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_closing_twice_is_fine_and_writing_afterwards_is_not(tmp_path: Path) -> None:
    writer = RecordWriter(str(tmp_path / "records.jsonl"))
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(STEP)


def test_whoever_closes_second_waits_until_all_is_written(tmp_path: Path) -> None:
    """Two threads of a worker may close its records, and the first to return ends the process."""
    uri = str(tmp_path / "records.jsonl")
    writer = RecordWriter(uri)
    writer.write(STEP)
    closing = [threading.Thread(target=writer.close) for _ in range(2)]
    with writer._stream_lock:  # storage takes its time
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(0.3)
            assert thread.is_alive(), "closed before all was written"
    for thread in closing:
        thread.join(10)
    assert read_file(uri) == [STEP]


def test_a_full_disk_is_told_to_the_writer() -> None:
    writer = RecordWriter("/dev/full")
    writer.write(STEP)
    with pytest.raises(StorageError, match="/dev/full"):
        writer.close()


def test_object_stores_are_refused() -> None:
    with pytest.raises(ConfigError, match="append"):
        RecordWriter("s3://bucket/run/records/driver.jsonl")


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_skipped(tmp_path: Path, cut: int) -> None:
    uri = tmp_path / "records.jsonl"
    write(str(uri), EVENT, STEP)
    uri.write_bytes(uri.read_bytes()[: -cut - 1])
    assert read_file(str(uri)) == [EVENT]


def test_appending_to_a_torn_file_loses_only_the_torn_line(tmp_path: Path) -> None:
    uri = tmp_path / "records.jsonl"
    for _ in range(3):
        write(str(uri), STEP, EVENT)
        uri.write_bytes(uri.read_bytes()[:-10])
    assert read_file(str(uri)) == [STEP, STEP, STEP]
    write(str(uri), FINISHED)
    assert read_file(str(uri)) == [STEP, STEP, STEP, FINISHED]


def test_a_writer_killed_at_any_moment_leaves_a_readable_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "records.jsonl")
    program = (
        "import sys; from tests.test_records import *\n"
        "writer = RecordWriter(sys.argv[1])\n"
        "for step in range(10**9):\n"
        "    writer.write(replace(STEP, step=step))\n"
        "    if step % 7 == 0: writer.flush()\n"
        "    if step == 1000: print('ready', flush=True)\n"
    )
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    with subprocess.Popen(
        [sys.executable, "-c", program, uri], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    steps = [record.step for record in read_file(uri)]
    assert len(steps) > 900
    assert steps == list(range(len(steps)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: holds a list"),
        ("{}", "line 2: has the kind None; known are step, evaluation, event"),
        ('{"kind":"stepp"}', "line 2: has the kind 'stepp'"),
        ('{"kind":"event","worker":0}', "line 2: lacks incarnation, time_unix_seconds, step, event, detail"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    uri = tmp_path / "records.jsonl"
    write(str(uri), STEP)
    uri.write_text(uri.read_text() + line + "\n" + uri.read_text())
    with pytest.raises(RunError) as caught:
        read_file(str(uri))
    assert message in str(caught.value)
    assert str(uri) in str(caught.value)


def test_a_damaged_last_line_that_was_ended_is_not_torn(tmp_path: Path) -> None:
    uri = tmp_path / "records.jsonl"
    uri.write_text("nonsense\n")
    with pytest.raises(RunError, match="line 1: is not JSON"):
        read_file(str(uri))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "high"}, "loss: holds 'high', which is not of type float"),
        ({"samples": 1.5}, "samples: holds 1.5, which is not of type int"),
        ({"samples": True}, "samples: holds True"),
        ({"rank": None}, "rank: holds None"),
        ({"colour": 1}, "has unknown fields: colour"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    uri = tmp_path / "records.jsonl"
    write(str(uri), STEP)
    uri.write_text(json.dumps(json.loads(uri.read_text()) | change) + "\n")
    with pytest.raises(RunError) as caught:
        read_file(str(uri))
    assert message in str(caught.value)


def test_an_unknown_event_is_refused_when_written_and_when_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'exploded'"):
        replace(EVENT, event="exploded")  # type: ignore[arg-type]
    uri = tmp_path / "records.jsonl"
    write(str(uri), EVENT)
    uri.write_text(uri.read_text().replace("lost", "exploded"))
    with pytest.raises(RunError, match="line 1: cannot be"):
        read_file(str(uri))


def test_records_of_a_run_come_oldest_first_without_superseded_steps(tmp_path: Path) -> None:
    run = str(tmp_path)
    before = [replace(STEP, step=step, time_unix_seconds=step) for step in range(5)]
    again = [replace(STEP, incarnation=1, step=step, time_unix_seconds=10 + step) for step in range(3, 7)]
    other = replace(STEP, worker=1, rank=1, step=4, time_unix_seconds=4.5)
    write(worker_file(run, 0, 1), *again)
    write(worker_file(run, 0, 0), *before, replace(EVENT, time_unix_seconds=4.2))
    write(worker_file(run, 1, 0), other)
    write(driver_file(run), FINISHED)
    records = read_records(run)
    assert records == [*before[:3], replace(EVENT, time_unix_seconds=4.2), other, *again, FINISHED]


def test_the_parts_of_a_step_that_one_worker_did_are_all_left_and_those_done_again_are_not(tmp_path: Path) -> None:
    """A parameter server leases a step's replicas one by one: one worker may have had several of them, or all."""
    run = str(tmp_path)
    parts = [replace(STEP, step=3, replica=replica, time_unix_seconds=replica) for replica in range(3)]
    again = replace(STEP, worker=1, incarnation=2, step=3, replica=1, time_unix_seconds=10)
    write(worker_file(run, 0, 0), *parts)
    assert read_records(run) == parts
    write(worker_file(run, 1, 2), again)
    assert read_records(run) == [parts[0], parts[2], again]


@pytest.mark.parametrize(
    ("again", "times"),
    [
        ([], 0),
        ([replace(STEP, incarnation=1)], 1),
        ([replace(STEP, incarnation=1), replace(STEP, worker=1, incarnation=1, rank=1)], 1),
        ([replace(STEP, worker=1, world_size=1)], 1),
        ([replace(STEP, worker=1, world_size=1), replace(STEP, incarnation=1), replace(STEP, incarnation=2)], 3),
        ([replace(STEP, step=8)], 0),
    ],
)
def test_a_step_that_was_recorded_before_was_done_again(again: list[Record], times: int) -> None:
    assert num_recorded_again([STEP, replace(STEP, worker=1, rank=1), FINISHED, *again]) == times


def test_the_parts_of_a_step_are_no_attempts_of_it() -> None:
    parts = [replace(STEP, replica=replica, world_size=1 + replica) for replica in range(3)]
    assert num_recorded_again(parts) == 0
    assert num_recorded_again([*parts, replace(parts[1], worker=1), replace(parts[2], worker=1)]) == 1


def test_the_record_that_counts_is_that_of_the_latest_process_whatever_the_clock_said(tmp_path: Path) -> None:
    """The clock went back between two starts."""
    run = str(tmp_path)
    old = [replace(STEP, incarnation=9, step=step, time_unix_seconds=1000 + step) for step in range(5)]
    new = [replace(STEP, incarnation=10, step=step, time_unix_seconds=10 + step) for step in range(3, 7)]
    write(worker_file(run, 0, 9), *old)
    write(worker_file(run, 0, 10), *new)
    assert read_records(run) == [*new, *old[:3]]


def test_the_last_incarnation_is_that_of_any_worker(tmp_path: Path) -> None:
    assert last_incarnation(str(tmp_path)) == 0
    for worker, incarnation in ((0, 2), (11, 12), (3, 9)):
        write(worker_file(str(tmp_path), worker, incarnation))
    write(driver_file(str(tmp_path)))
    assert last_incarnation(str(tmp_path)) == 12


@pytest.mark.parametrize("piece_bytes", [600, 1000, 10_000_000])
def test_a_file_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    monkeypatch.setattr("sunspark.records.reader._PIECE_BYTES", piece_bytes)
    uri = tmp_path / "worker-00.0001.jsonl"
    for step in range(5):
        write(str(uri), *(replace(STEP, step=step) for _ in range(step)))
        with uri.open("a") as file:
            file.write('{"kind": "st')  # torn
    assert list(read_in_pieces(str(uri))) == read_file(str(uri)) != []


def test_other_files_beside_the_records_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "notes.txt").write_text("not a record")
    assert read_records(str(tmp_path)) == []


def test_a_run_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        read_records(str(tmp_path / "nothing"))
