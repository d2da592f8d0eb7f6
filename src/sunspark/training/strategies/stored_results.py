"""Results of replicas on storage, so that they outlive the worker that computed them (`local_sgd`, `diloco`).

RUN/rounds/ holds one file for each replica that is finished in the round at hand: the network that it has come to, what
its optimizer remembers where that is exchanged, and what was seen of its samples. A result is a function of the round's
start and the replica, so it does not matter who wrote it, nor how often: whoever has to do the replica takes it up.

Cost: for each finished replica of a round of 60 s and more, one file of parameters and moments, for which its worker
waits. Storage that does not answer within 45 s is not waited for.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from sunspark import storage
from sunspark.errors import RunError, StorageError, SunsparkError
from sunspark.run_directory import rounds_folder
from sunspark.training import optimizer_state, state_file
from sunspark.training.state import TrainingState
from sunspark.training.strategies.strategy import Share

logger = logging.getLogger(__name__)

T = TypeVar("T")

_STORAGE_SECONDS: Final = 45.0
"""How long storage may take: less than any deadline, so nobody is replaced for it, nor given up by the others."""
_NAME: Final = re.compile(r"step-(\d{9})\.([0-9a-f]+)\.replica-(\d{4,})\.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Names a round of one history by where it begins."""

    step: int
    lineage: str
    """Of the ledger."""


@final
class StoredResults:
    """Those of one run. Every method but `replicas_of` is about files that this worker has written or taken up."""

    def __init__(self, run: str) -> None:
        self._folder = rounds_folder(run)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="stored-results")
        self._last: Future[Any] | None = None
        self._used: set[str] = set()

    def replicas_of(self, at: Round) -> frozenset[int]:
        """The replicas of the round whose results are there; those of other rounds are deleted. Raises StorageError."""
        give_up_at = time.monotonic() + _STORAGE_SECONDS
        files = self._in_time(self._list)
        # Apart from the look: if that is slow to answer, results of later rounds may be there by then.
        others = [uri for uri, (step, lineage, _) in files.items() if (step, lineage) != (at.step, at.lineage)]
        self._delete(others, give_up_at - time.monotonic())
        return frozenset(replica for uri, (_, _, replica) in files.items() if uri not in others)

    def write(self, at: Round, replica: int, state: TrainingState, share: Share, *, with_moments: bool) -> None:
        """Store where the replica has come to: its `state`, and its `share` of the round. Raises StorageError."""
        tensors = {f"model.{name}": tensor for name, tensor in state.weights().items()}
        if with_moments:
            tensors |= optimizer_state.tensors_of(state.model, state.optimizer)
        names = ("share.evidence", "share.figures")
        tensors |= dict(zip(names, share.tallies, strict=True))
        optimizer = type(state.optimizer).__name__
        body = state_file.write(
            tensors, {"step": at.step, "lineage": at.lineage, "replica": replica, "optimizer": optimizer}
        )
        state_file.seal(body)
        self._in_time(lambda: storage.write_bytes_atomic(self._use(at, replica), body))

    def load(self, at: Round, replica: int, state: TrainingState, share: Share, counters: Any) -> None:
        """Bring `state` to where the replica has come to, and add to `share` what it has seen.

        `counters` are those of an optimizer whose state is tensors by parameter. Raises SunsparkError when the file is
        not whole, or another one; both are then unchanged.
        """
        uri = self._use(at, replica)
        body = self._in_time(lambda: storage.read_bytes(uri))
        state_file.check_seal(body, uri)
        metadata, tensors = state_file.metadata_of(body, uri), state_file.tensors_of(body, uri)
        if (metadata["step"], metadata["lineage"], metadata.get("replica")) != (at.step, at.lineage, replica):
            raise RunError(f"{uri} is the result of another round or replica")
        weights, tallies = state_file.part_of(tensors, "model."), state_file.part_of(tensors, "share.")
        state.check(weights, metadata["optimizer"], uri)
        seen = Share(steps=share.steps, **{name: tallies[name] for name in ("evidence", "figures")})
        if seen.evidence.shape != share.evidence.shape:
            raise RunError(f"{uri} is the result of a round of {len(seen.losses)} steps, not {len(share.steps)}")
        state.start_from(weights)
        optimizer_state.load(state.model, state.optimizer, tensors, counters)
        share += seen

    def delete_used(self) -> None:
        """Delete the files that this worker has written or taken up: their round counts."""
        used, self._used = self._used, set()
        self._delete(sorted(used))

    def _use(self, at: Round, replica: int) -> str:
        uri = storage.join(self._folder, f"step-{at.step:09d}.{at.lineage}.replica-{replica:04d}.safetensors")
        self._used.add(uri)
        return uri

    def _list(self) -> dict[str, tuple[int, str, int]]:
        """Step, lineage and replica of every file that is there."""
        found = {}
        for entry in storage.list_directory(self._folder):
            if match := _NAME.fullmatch(entry.name):
                found[entry.uri] = int(match[1]), match[2], int(match[3])
        return found

    def _delete(self, uris: Sequence[str], seconds: float = _STORAGE_SECONDS) -> None:
        def delete() -> None:
            for uri in uris:
                storage.delete(uri)

        if uris:
            try:
                self._in_time(delete, seconds)
            except SunsparkError as error:
                logger.warning("results of a round that is over stay until the next start: %s", error)

    def _in_time(self, operation: Callable[[], T], seconds: float = _STORAGE_SECONDS) -> T:
        """In a thread of its own, since a file system that hangs cannot be interrupted."""
        if self._last is not None and not self._last.done():
            raise StorageError(f"{self._folder} has not answered yet to what it was asked before")
        running = self._executor.submit(operation)
        self._last = running
        try:
            return running.result(seconds)
        except TimeoutError as error:
            raise StorageError(f"{self._folder} did not answer within {seconds:.0f} s") from error
