"""Checkpoints and candidates on storage.

A checkpoint is one safetensors file of a step that counts, published whole or not at all, and sealed. A candidate is
the state that an orphaned worker saved on its way out; the one furthest ahead is taken up by the next start.
"""

import logging
import re
from dataclasses import dataclass
from typing import Final

from sunspark import storage
from sunspark.errors import RunError
from sunspark.parallel.recovery import Snapshot
from sunspark.training import state_file

logger = logging.getLogger(__name__)

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
    """Write a checkpoint; delete the candidates it has overtaken, and those before the last two but `best_step`."""
    uri = uri_of(run, snapshot.step)
    _write(uri, snapshot)
    for old in checkpoints(run)[:-_KEPT]:
        if old.step != best_step:
            storage.delete(old.uri)
    for candidate in candidates(run):
        if candidate.step <= snapshot.step:
            storage.delete(candidate.uri)
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
    """Make the best candidate that is whole a checkpoint if it is further than all of them; delete every candidate.

    Returns the state to go on from. For a moment at which no worker of the run is alive.
    """
    waiting = candidates(run)
    published = max((state.step for state in checkpoints(run)), default=-1)
    for candidate in reversed(waiting):
        if candidate.step <= published:
            break
        try:
            storage.write_bytes_atomic(uri_of(run, candidate.step), read_bytes(candidate.uri))
            break
        except RunError as error:
            logger.warning("the state that a worker saved on its way out is left out: %s", error)
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
