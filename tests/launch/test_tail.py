"""Laws of the tail: every record once, however it was cut by the writer, and nothing of what is not whole."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.errors import RunError
from sunspark.launch.tail import RecordTail
from sunspark.records import RecordWriter, driver_file, read_file, worker_file
from tests.test_records import EVENT, STEP

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("seed", range(10))
def test_a_file_that_grows_byte_by_byte_is_read_once(tmp_path: Path, seed: int) -> None:
    whole = tmp_path / "whole"
    with RecordWriter(worker_file(str(whole), 0, 1)) as writer:
        for step in range(20):
            writer.write(replace(STEP, step=step, time_unix_seconds=float(step)))
    body = Path(worker_file(str(whole), 0, 1)).read_bytes()
    growing = Path(worker_file(str(tmp_path / "run"), 0, 1))
    growing.parent.mkdir(parents=True)
    growing.touch()
    tail, draw, read = RecordTail(str(tmp_path / "run")), random.Random(seed), []
    while body:
        piece, body = body[: (size := draw.randrange(1, 900))], body[size:]
        with growing.open("ab") as file:
            file.write(piece)
        read += tail.read_new()
    assert read == read_file(worker_file(str(whole), 0, 1))
    assert tail.read_new() == []


def test_files_that_appear_later_are_read_too_and_records_come_in_order_of_time(tmp_path: Path) -> None:
    tail = RecordTail(str(tmp_path))
    assert tail.read_new() == []
    with RecordWriter(worker_file(str(tmp_path), 1, 1)) as writer:
        writer.write(replace(STEP, time_unix_seconds=2.0))
    with RecordWriter(driver_file(str(tmp_path))) as writer:
        writer.write(replace(EVENT, time_unix_seconds=1.0))
    assert [record.time_unix_seconds for record in tail.read_new()] == [1.0, 2.0]


def test_a_line_torn_by_a_kill_is_left_out_once_the_file_goes_on(tmp_path: Path) -> None:
    uri = driver_file(str(tmp_path))
    with RecordWriter(uri) as writer:
        writer.write(EVENT)
    with Path(uri).open("a") as file:
        file.write('{"kind":"ev')
    tail = RecordTail(str(tmp_path))
    assert tail.read_new() == [EVENT]
    assert tail.read_new() == []
    with RecordWriter(uri) as writer:
        writer.write(EVENT)
    assert tail.read_new() == [EVENT]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    uri = driver_file(str(tmp_path))
    Path(uri).parent.mkdir(parents=True)
    Path(uri).write_text('{"kind":"ev\n{}\n{}\n')
    with pytest.raises(RunError, match=r"driver\.jsonl, from byte 0, line 1: is not JSON"):
        RecordTail(str(tmp_path)).read_new()
