"""A worker's line to the driver: what it tells the coordinator, and asks it, beside its pulse."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final, final

from sunspark.errors import DeadlineError, SunsparkError, WorkerError
from sunspark.parallel.membership import Agreement, in_words
from sunspark.parallel.rpc import RpcClient
from sunspark.records import EventName
from sunspark.training.pulse import Pulse

logger = logging.getLogger(__name__)

_END_SECONDS: Final = 900.0


@final
class DriverLink:
    """Tells are advice: one that does not get through is logged, and training goes on."""

    def __init__(self, coordinator: RpcClient, replica_id: str, pulse: Pulse) -> None:
        self._coordinator = coordinator
        self._replica_id = replica_id
        self._pulse = pulse
        self._known_addresses: dict[str, str] = {}

    def lost(self) -> frozenset[str]:
        """The replica ids that nobody should wait for."""
        return self._pulse.lost

    def waiting(self) -> frozenset[str]:
        """The replica ids that wait for a quorum."""
        return self._pulse.waiting

    def note(self, event: EventName, step: int, detail: str) -> None:
        """Tell of an event."""
        self._tell("note", replica_id=self._replica_id, event=event, step=step, detail=detail)

    def note_strike(self, fault: int) -> None:
        """Tell that this fault, by its place among those of the run, is about to strike here."""
        self._tell("strike", fault=fault)

    def abandon(self, group_key: str) -> None:
        """Tell the others not to wait for this worker in the group of that key."""
        self._tell("abandon", group_key=group_key)

    def check_members(self, agreement: Agreement) -> None:
        """Refuse a quorum with a stranger: the lighthouse asks for no token, the coordinator does.

        Raises WorkerError naming the members that are no worker of this run.
        """
        members = {member.replica_id: member.address for member in agreement.members}
        if not members.items() <= self._known_addresses.items():
            self._known_addresses = self._coordinator.call("addresses")["addresses"]
        if strangers := members.items() - self._known_addresses.items():
            names = ", ".join(f"{replica_id} at {address}" for replica_id, address in sorted(strangers))
            raise WorkerError(
                f"workers that this run did not start take part in the quorum: {names}; "
                "close the lighthouse's port to others (docs/security.md)"
            )

    def give_up(self, cause: str) -> None:
        """The run cannot go on, whoever did this worker's part. Raises when the driver does not hear it."""
        self._coordinator.call("give_up", timeout_seconds=30, cause=cause)

    def finish(self, step: int, most_workers: int, report: Mapping[str, Any]) -> None:
        """The end of the run is published; `report`: of its last step. Raises when the driver does not hear it."""
        what = {"step": step, "most_workers": most_workers, "report": dict(report)}
        self._coordinator.call("finish", timeout_seconds=30, **what)

    def wait_for_end(self, leader: str) -> None:
        """Wait until `leader` has published the end of the run, or is lost. Raises DeadlineError after 15 minutes."""
        deadline = time.monotonic() + _END_SECONDS
        while leader not in self._pulse.lost:
            time.sleep(0.02)  # the pulse ends the process when the run has ended
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"{in_words([leader])} did not publish the end of the run within {_END_SECONDS:.0f} s"
                )

    def _tell(self, name: str, **arguments: Any) -> None:
        try:
            self._coordinator.call(name, **arguments)
        except SunsparkError as error:
            logger.warning("the driver was not told (%s): %s", name, error)
