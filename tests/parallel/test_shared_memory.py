"""Laws of shared memory, with real processes: it is the same memory, only for its user, and gone with its last user."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sunspark.parallel.shared_memory import create_shared_memory, open_shared_memory

NUM_BYTES = 1 << 20

_CREATE = """
import sys, torch
from sunspark.parallel.shared_memory import create_shared_memory
memory = create_shared_memory(int(sys.argv[1]))
memory.tensor(torch.float64, 8, 3)[:] = torch.tensor([1.0, 2.0, 3.0])
print(memory.ticket, flush=True)
sys.stdin.read()
"""
_OPEN_AS_NOBODY = """
import os, sys
from sunspark.parallel.shared_memory import open_shared_memory
os.setgid(65534)
os.setuid(65534)
print(open_shared_memory(sys.argv[1], int(sys.argv[2])))
"""


def test_a_peer_sees_what_was_written_and_keeps_it_when_its_creator_is_killed() -> None:
    creator = subprocess.Popen(
        [sys.executable, "-c", _CREATE, str(NUM_BYTES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with creator:
        assert creator.stdout is not None
        ticket = creator.stdout.readline().strip()
        memory = open_shared_memory(ticket, NUM_BYTES)
        assert memory is not None
        creator.send_signal(signal.SIGKILL)
    numbers = memory.tensor(torch.float64, 0, 4)
    memory.close_descriptor()
    assert numbers.tolist() == [0.0, 1.0, 2.0, 3.0]
    del memory
    numbers += 1  # a tensor alone keeps the memory
    assert numbers.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert open_shared_memory(ticket, NUM_BYTES) is None, "its creator is gone"


def test_it_leaves_no_file_and_no_descriptor() -> None:
    shelf = Path("/dev/shm")
    before = (set(shelf.iterdir()), len(os.listdir("/proc/self/fd")))
    memory = create_shared_memory(NUM_BYTES)
    assert memory is not None
    again = open_shared_memory(memory.ticket, NUM_BYTES)
    assert again is not None
    assert set(shelf.iterdir()) == before[0]
    for one in (memory, again):
        one.close_descriptor()
    assert open_shared_memory(memory.ticket, NUM_BYTES) is None, "nobody can open it any more"
    del memory, again, one
    assert len(os.listdir("/proc/self/fd")) == before[1]


def test_its_descriptor_is_gone_with_it() -> None:
    before = len(os.listdir("/proc/self/fd"))
    memory = create_shared_memory(NUM_BYTES)
    assert memory is not None
    numbers = memory.tensor(torch.float64, 0, 4)
    ticket = memory.ticket
    del memory
    assert open_shared_memory(ticket, NUM_BYTES) is None
    numbers += 1
    assert numbers.tolist() == [1.0, 1.0, 1.0, 1.0]
    del numbers
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_the_memory_that_was_meant_is_not_opened() -> None:
    memory = create_shared_memory(NUM_BYTES)
    assert memory is not None
    pid, descriptor, name = memory.ticket.split()
    for ticket in ("", f"{pid} {descriptor} sunspark-another", f"{pid} 0 {name}", f"4194304 {descriptor} {name}"):
        assert open_shared_memory(ticket, NUM_BYTES) is None
    assert open_shared_memory(memory.ticket, 2 * NUM_BYTES) is None, "smaller than it was said to be"
    memory.close_descriptor()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_another_user_cannot_open_it() -> None:
    memory = create_shared_memory(NUM_BYTES)
    assert memory is not None
    command = [sys.executable, "-c", _OPEN_AS_NOBODY, memory.ticket, str(NUM_BYTES)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == "None"
    memory.close_descriptor()
