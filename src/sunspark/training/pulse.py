"""A worker's pulse: it tells the lighthouse and the coordinator that the worker lives, and hears what they know.

What the coordinator answers is acted upon here, at once, in the thread that hears it: a lost peer cuts the group, so
that the main thread's wait ends; an order to leave is handed to `on_leave`, which does not come back.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from sunspark.errors import SunsparkError
from sunspark.parallel.membership import Membership
from sunspark.parallel.rpc import RpcClient

logger = logging.getLogger(__name__)

Farewell = Literal["ended", "unwanted", "stop", "orphaned", "failed"]

_HEARTBEAT_SECONDS: Final = 0.1
_BEAT_SECONDS: Final = 0.2
_ANSWER_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 12.0


@dataclass(slots=True)
class Progress:
    """What the main thread is doing; read by the pulse, sent with every beat."""

    phase: str = "start"
    """What it does now."""
    moves: int = 0
    """Grows with every change of phase; a worker whose moves stand still does not make progress."""
    has_own_deadline: bool = False
    """Whether it ends by a deadline of its own (it waits: for others, for storage); else it must make moves."""
    step: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    """Figures of the last step for the driver's display."""
    slowest_step_seconds: float = 0.0
    most_workers: int = 0
    """That took part in one of this process's steps."""

    def enter(self, phase: str, *, has_own_deadline: bool = False) -> None:
        self.phase, self.has_own_deadline = phase, has_own_deadline
        self.moves += 1


@final
class Heart:
    """Tells the lighthouse every 100 ms that the worker lives: from `start` on, every quorum waits for it.

    Short steps tell it as well: each begins with a quorum.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._keep_beating, daemon=True, name="heart").start()

    def stop(self) -> None:
        """Fall silent: quorums form without this worker."""
        self._stopped.set()

    def _keep_beating(self) -> None:
        while not self._stopped.is_set():
            if self._membership.seconds_since_sign() >= _HEARTBEAT_SECONDS:
                try:
                    self._membership.heartbeat()
                except SunsparkError as error:
                    logger.warning("%s", error)
            self._stopped.wait(max(0.01, _HEARTBEAT_SECONDS - self._membership.seconds_since_sign()))


@final
class Pulse:
    """Tells the coordinator every 200 ms what the worker does, and heeds the answer."""

    def __init__(
        self,
        coordinator: RpcClient,
        replica_id: str,
        progress: Progress,
        on_leave: Callable[[Farewell], None],
        on_lost: Callable[[frozenset[str], frozenset[str]], None] = lambda _lost, _abandoned: None,
        on_excused: Callable[[frozenset[int]], None] = lambda _rows: None,
    ) -> None:
        """`on_lost` gets the replica ids that are lost and the keys of the groups that were abandoned, `on_excused`
        the rows of the dataset that are left out; before `may_go` is set for the first time, too.
        """
        self._coordinator = coordinator
        self._replica_id = replica_id
        self._progress = progress
        self._on_leave = on_leave
        self._on_lost = on_lost
        self._on_excused = on_excused
        self._stopped = threading.Event()
        self.may_go = threading.Event()
        """Set when the coordinator has seen all expected workers, or has waited long enough for them."""
        self.lost: frozenset[str] = frozenset()
        """Replica ids that the coordinator has not heard from for too long."""
        self.waiting: frozenset[str] = frozenset()
        """Replica ids that wait for a quorum."""

    def start(self) -> None:
        threading.Thread(target=self._keep_beating, daemon=True, name="pulse").start()

    def stop(self) -> None:
        """Fall silent."""
        self._stopped.set()

    def _keep_beating(self) -> None:
        last_heard = time.monotonic()
        while not self._stopped.is_set():
            try:
                self._heed(self._coordinator.call("beat", timeout_seconds=_ANSWER_SECONDS, **self._message()))
                last_heard = time.monotonic()
            except SunsparkError as error:
                if time.monotonic() - last_heard > _SILENCE_SECONDS:
                    logger.error("no word from the driver for %.0f s: %s", _SILENCE_SECONDS, error)
                    self._on_leave("orphaned")
            self._stopped.wait(_BEAT_SECONDS)

    def _message(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "replica_id": self._replica_id,
            "phase": progress.phase,
            "moves": progress.moves,
            "has_own_deadline": progress.has_own_deadline,
            "step": progress.step,
            "slowest_step_seconds": progress.slowest_step_seconds,
            "most_workers": progress.most_workers,
            "report": progress.report,
        }

    def _heed(self, reply: dict[str, Any]) -> None:
        if farewell := reply["farewell"]:
            self._on_leave(farewell)
        self._on_excused(frozenset(reply["excused"]))
        if reply["may_go"]:
            self.may_go.set()
        self.lost, self.waiting = frozenset(reply["lost"]), frozenset(reply["waiting"])
        self._on_lost(self.lost, frozenset(reply["abandoned"]))
