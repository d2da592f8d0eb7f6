"""Laws of checkpoints: whole or not there, the last two kept, the best candidate taken up once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sunspark.errors import RunError
from sunspark.parallel.recovery import Snapshot
from sunspark.training import checkpoint, state_file


def snapshot(step: int, text: str = "") -> Snapshot:
    """A state that holds nothing but a text and the tensor that goes with it."""
    about = {"step": str(step), "lineage": f"lineage {step}", "optimizer": "none", "text": text or f"body of {step}"}
    body = state_file.write({"numbers": torch.arange(step % 1000 + 100)}, about)
    return Snapshot(step=step, lineage=about["lineage"], body=body)


def text_of(uri: str) -> str:
    return str(state_file.metadata_of(checkpoint.read_bytes(uri), uri)["text"])


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def test_a_run_without_states_has_none(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert checkpoint.checkpoints(run) == []
    assert checkpoint.candidates(run) == []
    assert checkpoint.adopt_candidate(run) is None


@pytest.mark.parametrize("steps", [[1], [1, 2], [3, 7, 12, 100], [9, 10, 999_999_999]])
def test_only_the_last_two_checkpoints_are_kept(tmp_path: Path, steps: list[int]) -> None:
    for step in steps:
        uri = checkpoint.publish(str(tmp_path), snapshot(step))
        assert text_of(uri) == f"body of {step}"
    assert [state.step for state in checkpoint.checkpoints(str(tmp_path))] == steps[-2:]
    assert names(tmp_path / "checkpoints") == [f"step-{step:09d}.safetensors" for step in steps[-2:]]


def test_publishing_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoint.publish(str(tmp_path), snapshot(5, "one"))
    uri = checkpoint.publish(str(tmp_path), snapshot(5, "two"))
    assert text_of(uri) == "two"
    assert len(checkpoint.checkpoints(str(tmp_path))) == 1


# published steps, candidates (step, replica id) -> step and body of what is gone on from
ADOPTIONS: list[tuple[str, list[int], list[tuple[int, str]], tuple[int, str] | None]] = [
    ("nothing", [], [], None),
    ("a checkpoint alone", [4], [], (4, "body of 4")),
    ("a candidate alone", [], [(6, "0000.000001")], (6, "0000.000001 at 6")),
    ("the candidate is ahead", [4], [(6, "0000.000001")], (6, "0000.000001 at 6")),
    ("the checkpoint is ahead", [8], [(6, "0000.000001")], (8, "body of 8")),
    ("both at one step: the checkpoint", [6], [(6, "0000.000001")], (6, "body of 6")),
    ("the highest step wins", [2], [(6, "0000.000001"), (7, "0003.000001")], (7, "0003.000001 at 7")),
    ("as numbers", [], [(9, "0000.000001"), (10, "0001.000001")], (10, "0001.000001 at 10")),
    ("a tie: the lowest worker", [2], [(7, "0002.000001"), (7, "0001.000009")], (7, "0001.000009 at 7")),
    ("ten after two", [2], [(7, "0010.000001"), (7, "0002.000002")], (7, "0002.000002 at 7")),
]


@pytest.mark.parametrize(
    ("published", "candidates", "expected"), [row[1:] for row in ADOPTIONS], ids=[row[0] for row in ADOPTIONS]
)
@pytest.mark.parametrize("in_reverse", [False, True])
def test_the_state_that_is_furthest_is_gone_on_from(
    tmp_path: Path,
    published: list[int],
    candidates: list[tuple[int, str]],
    expected: tuple[int, str] | None,
    in_reverse: bool,
) -> None:
    run = str(tmp_path)
    for step in published:
        checkpoint.publish(run, snapshot(step))
    for step, replica_id in sorted(candidates, reverse=in_reverse):
        checkpoint.save_candidate(run, snapshot(step, f"{replica_id} at {step}"), replica_id)
    for _ in range(2):  # the second time changes nothing
        adopted = checkpoint.adopt_candidate(run)
        assert (adopted and (adopted.step, text_of(adopted.uri))) == expected
        assert names(tmp_path / "candidates") == []
    assert adopted is None or (adopted.replica_id == "" and adopted == checkpoint.checkpoints(run)[-1])


def test_an_adopted_candidate_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    run = str(tmp_path)
    for step in (1, 2):
        checkpoint.publish(run, snapshot(step))
    checkpoint.save_candidate(run, snapshot(3), "0000.000001")
    checkpoint.adopt_candidate(run)
    checkpoint.publish(run, snapshot(4))
    assert [state.step for state in checkpoint.checkpoints(run)] == [3, 4]


def test_candidates_that_a_checkpoint_has_overtaken_go_with_it(tmp_path: Path) -> None:
    """Workers that come and go leave one each, as large as a checkpoint."""
    run = str(tmp_path)
    for step in (3, 5, 6):
        checkpoint.save_candidate(run, snapshot(step), "0001.000001")
    checkpoint.publish(run, snapshot(5))
    assert [state.step for state in checkpoint.candidates(run)] == [6]


def test_a_damaged_candidate_does_not_take_the_whole_ones_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = str(tmp_path)
    checkpoint.publish(run, snapshot(4))
    for replica_id in ("0000.000001", "0001.000001"):
        uri = checkpoint.save_candidate(run, snapshot(6, replica_id), replica_id)
        if replica_id == "0000.000001":
            Path(uri).write_bytes(Path(uri).read_bytes()[:-1] + b"!")
    adopted = checkpoint.adopt_candidate(run)
    assert adopted is not None
    assert (adopted.step, text_of(adopted.uri)) == (6, "0001.000001")
    assert "worker-0000.000001.safetensors is damaged" in caplog.text


STRANGERS = [
    ".step-000000009.safetensors.0123456789abcdef.tmp",
    "step-000000009.safetensors.tmp",
    "step-9.safetensors",
    "step-000000009.safetensors.worker-0",
    "notes.txt",
    ".DS_Store",
]


def test_other_files_are_never_taken_for_states_and_never_deleted(tmp_path: Path) -> None:
    for folder in ("checkpoints", "candidates"):
        (tmp_path / folder).mkdir()
        for name in STRANGERS:
            (tmp_path / folder / name).write_bytes(b"half of someth")
    run = str(tmp_path)
    assert checkpoint.adopt_candidate(run) is None
    for step in (1, 2, 3):
        checkpoint.publish(run, snapshot(step))
    assert [state.step for state in checkpoint.checkpoints(run)] == [2, 3]
    assert set(STRANGERS) <= set(names(tmp_path / "checkpoints"))


@pytest.mark.parametrize("saved_as", ["checkpoint", "candidate"])
def test_a_file_that_came_back_otherwise_than_it_was_written_is_refused_by_name(tmp_path: Path, saved_as: str) -> None:
    run, written = str(tmp_path), snapshot(300)
    is_checkpoint = saved_as == "checkpoint"
    uri = checkpoint.publish(run, written) if is_checkpoint else checkpoint.save_candidate(run, written, "0000.000001")
    whole = Path(uri).read_bytes()
    assert checkpoint.read_bytes(uri) == whole
    for place in [*range(0, len(whole), 7), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 64
        Path(uri).write_bytes(damaged)
        with pytest.raises(RunError, match=Path(uri).name):
            checkpoint.read_bytes(uri)
    for torn in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"!"):
        Path(uri).write_bytes(torn)
        with pytest.raises(RunError, match=Path(uri).name):
            checkpoint.read_bytes(uri)


WRITER = """
import sys
import torch
from sunspark.parallel.recovery import Snapshot
from sunspark.training import checkpoint, state_file
tensors = {"numbers": torch.zeros(64 << 20, dtype=torch.uint8)}
about = {"step": "1", "lineage": "", "optimizer": "none"}
print("ready", flush=True)
for step in range(1, 1000):
    checkpoint.publish(sys.argv[1], Snapshot(step=step, lineage="", body=state_file.write(tensors, about)))
"""


def test_a_writer_killed_while_it_writes_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ
    ) as writer:
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == b"ready\n"
            for number in range(200):
                if any(name.endswith(".tmp") for name in names(tmp_path / "checkpoints")) and number > 3:
                    break
                time.sleep(0.02)
        finally:
            writer.send_signal(signal.SIGKILL)
    sizes = {len(checkpoint.read_bytes(state.uri)) for state in checkpoint.checkpoints(str(tmp_path))}
    checkpoint.publish(str(tmp_path), snapshot(2000))
    assert len(checkpoint.checkpoints(str(tmp_path))) == min(2, 1 + len(sizes))
