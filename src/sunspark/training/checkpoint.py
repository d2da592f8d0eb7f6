"""Checkpoints and candidates on storage.

A checkpoint is one safetensors file of a step that counts, published whole or not at all, and sealed. A candidate is
the state that an orphaned worker saved on its way out; the one furthest ahead is taken up by the next start.
"""

import re
from dataclasses import dataclass
from typing import Final

from sunspark import storage
from sunspark.parallel.recovery import Snapshot
from sunspark.training import state_file

_KEPT: Final = 2
_NAME: Final = re.compile(r"step-(\d{9})(?:\.worker-([\d.]+))?\.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """A state on storage."""

    uri: str
    step: int
    replica_id: str
    """Empty for a checkpoint."""


def publish(run: str, snapshot: Snapshot, best_step: int = 0) -> str:
    """Write a checkpoint, and delete those before the last two, except for that of `best_step`."""
    uri = uri_of(run, snapshot.step)
    _write(uri, snapshot)
    for old in checkpoints(run)[:-_KEPT]:
        if old.step != best_step:
            storage.delete(old.uri)
    return uri


def uri_of(run: str, step: int) -> str:
    """Where the checkpoint of the first `step` steps is."""
    return storage.join(run, "checkpoints", f"step-{step:09d}.safetensors")


def save_candidate(run: str, snapshot: Snapshot, replica_id: str) -> str:
    """Save the state of a worker that must leave."""
    uri = storage.join(run, "candidates", f"step-{snapshot.step:09d}.worker-{replica_id}.safetensors")
    _write(uri, snapshot)
    return uri


def read_bytes(uri: str) -> bytes:
    """The bytes of a checkpoint. Raises RunError when they are not those that were written."""
    body = storage.read_bytes(uri)
    state_file.check_seal(body, uri)
    return body


def checkpoints(run: str) -> list[SavedState]:
    """The checkpoints of a run, the furthest last."""
    return sorted(_saved_states(storage.join(run, "checkpoints")), key=lambda state: state.step)


def candidates(run: str) -> list[SavedState]:
    """The candidates of a run, the best last: the highest step, then the lowest worker."""
    best_first = sorted(
        _saved_states(storage.join(run, "candidates")), key=lambda state: (-state.step, state.replica_id)
    )
    return best_first[::-1]


def adopt_candidate(run: str) -> SavedState | None:
    """Make the best candidate a checkpoint if it is further than all of them, and delete every candidate.

    Returns the state to go on from. For a moment at which no worker of the run is alive.
    """
    waiting = candidates(run)
    published = checkpoints(run)
    if waiting and (not published or waiting[-1].step > published[-1].step):
        storage.write_bytes_atomic(uri_of(run, waiting[-1].step), storage.read_bytes(waiting[-1].uri))
    for candidate in waiting:
        storage.delete(candidate.uri)
    return next(iter(reversed(checkpoints(run))), None)


def _saved_states(folder: str) -> list[SavedState]:
    found = []
    for entry in storage.list_directory(folder):
        if match := _NAME.fullmatch(entry.name):
            found.append(SavedState(uri=entry.uri, step=int(match[1]), replica_id=match[2] or ""))
    return found


def _write(uri: str, snapshot: Snapshot) -> None:
    state_file.seal(snapshot.body)
    storage.write_bytes_atomic(uri, snapshot.body)
