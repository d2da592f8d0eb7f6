"""Where the doctor's probes meet: the driver's side, as their calls.

The driver lets them measure when all have joined, or its patience ends, and lets them leave when all have handed in.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from sunspark.config import from_dict
from sunspark.launch.doctor.machine import Machine
from sunspark.launch.doctor.probe import Findings
from sunspark.parallel.rpc import Reply, RpcServer

Moment = Literal["measure", "leave"]

_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A probe that has joined."""

    uri: str
    machine: Machine


@final
class Meeting:
    """Answers the calls of the probes. Close it in the end."""

    def __init__(self, host: str, port: int, token: str) -> None:
        """Listen on `host`:`port` (0: any free port). Raises SetupError when the port is taken."""
        self.guests: dict[str, Guest] = {}
        self.findings: dict[str, Findings] = {}
        self.num_joined = 0
        """Probes that keep a slot: guests, and those that came second."""
        self._come: set[Moment] = set()
        self._lock = threading.Lock()
        self._server = RpcServer(
            host,
            port,
            token,
            {
                "join": self._join,
                "wait": self._wait,
                "hand_in": self._hand_in,
                "clock": lambda: {"seconds": time.time()},
            },
        )

    @property
    def uri(self) -> str:
        return self._server.uri

    def let(self, moment: Moment) -> None:
        """Tell all that the moment has come; who joins after `measure` is not wanted."""
        with self._lock:
            self._come.add(moment)

    def wait_for_findings(self, timeout_seconds: float) -> None:
        """Until every guest has handed in, or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while len(self.findings) < len(self.guests) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        self._server.shutdown()

    def _join(self, executor: str, uri: str, machine: dict[str, Any]) -> Reply:
        with self._lock:
            is_wanted = executor not in self.guests and "measure" not in self._come
            if is_wanted:
                self.guests[executor] = Guest(uri=uri, machine=from_dict(Machine, machine))
            self.num_joined += 1
        return {"is_wanted": is_wanted}

    def _wait(self, moment: Moment) -> Reply:
        with self._lock:
            return {"has_come": moment in self._come, "peers": {name: one.uri for name, one in self.guests.items()}}

    def _hand_in(self, executor: str, findings: dict[str, Any]) -> Reply:
        with self._lock:
            self.findings[executor] = from_dict(Findings, findings)
        return {}
