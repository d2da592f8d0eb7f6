"""Where the members of a group find each other: the coordinator keeps their addresses, behind the run's token."""

import threading
import time
from datetime import timedelta
from typing import final

from torch._C._distributed_c10d import Store

from sunspark.errors import DeadlineError, SunsparkError
from sunspark.parallel.rpc import RpcClient

POLL_SECONDS = 0.003
_LAST_POLL_SECONDS = 0.05
"""For a member that recovers first, which takes its time."""


class GroupBrokenError(SunsparkError):
    """A collective, or the forming of the group, did not end well on this worker."""


@final
class Rendezvous(Store):
    """A store of one group, with a deadline for every wait; a group that is cut ends them."""

    def __init__(self, coordinator: RpcClient, prefix: str, is_cut: threading.Event, timeout_seconds: float) -> None:
        super().__init__()
        self._coordinator = coordinator
        self._prefix = prefix
        self._is_cut = is_cut
        self._timeout_seconds = timeout_seconds
        self.missing_rank: int | None = None
        """The member that did not come in time."""

    def set(self, key: str, value: bytes) -> None:  # type: ignore[override]
        self._coordinator.call("put", key=f"{self._prefix}/{key}", value=value.hex())

    def get(self, key: str) -> bytes:
        started = time.monotonic()
        while (value := self._value_of(key)) is None:
            if self._is_cut.is_set():
                raise GroupBrokenError("a member was lost while the group formed")
            waited = time.monotonic() - started
            if waited > self._timeout_seconds:
                self.missing_rank = int(key.rpartition("/")[2])
                raise DeadlineError(f"member {key} did not come within {self._timeout_seconds:g} s")
            time.sleep(min(max(POLL_SECONDS, waited / 10), _LAST_POLL_SECONDS))
        return value

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:  # noqa: ARG002
        for key in keys:
            self.get(key)

    def check(self, keys: list[str]) -> bool:
        return all(self._value_of(key) is not None for key in keys)

    def _value_of(self, key: str) -> bytes | None:
        value = self._coordinator.call("get", key=f"{self._prefix}/{key}")["value"]
        return None if value is None else bytes.fromhex(value)
