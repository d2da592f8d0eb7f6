"""The calls of supervisors and workers, over the wire."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sunspark.errors import WorkerError
from sunspark.launch import coordinator as coordinator_module
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.roster import Ending, Roster
from sunspark.parallel.leases import LeaseBook
from sunspark.parallel.membership import replica_id_of
from sunspark.parallel.rpc import RpcClient

START_TIMEOUT = 30.0

Open = Callable[..., tuple[Coordinator, RpcClient]]


@pytest.fixture
def open_coordinator() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_coordinator(**options: Any) -> tuple[Coordinator, RpcClient]:
            roster = Roster(2, START_TIMEOUT, time.monotonic())
            coordinator = Coordinator(host="127.0.0.1", port=0, token="a token", roster=roster, **options)
            stack.callback(coordinator.close)
            client = RpcClient(coordinator.uri, "a token")
            stack.callback(client.close)
            return coordinator, client

        yield open_coordinator


def start_worker(client: RpcClient, worker: int) -> str:
    assert client.call("claim", worker=worker, supervisor=f"s{worker}") == {"answer": "granted"}
    incarnation = client.call("next_incarnation", worker=worker, supervisor=f"s{worker}")["incarnation"]
    return replica_id_of(worker, incarnation)


def join(client: RpcClient, replica_id: str) -> Any:
    return client.call("join", replica_id=replica_id, host="127.0.0.1", pid=1)


def beat(client: RpcClient, replica_id: str, step: int = 0) -> Any:
    return client.call(
        "beat", replica_id=replica_id, phase="data", moves=step, has_own_deadline=False, step=step,
        slowest_step_seconds=0.0, most_workers=1, report={},
    )  # fmt: skip


def test_a_run_from_claim_to_finish_over_the_wire(open_coordinator: Open) -> None:
    coordinator, client = open_coordinator()
    one, other = start_worker(client, 0), start_worker(client, 1)
    assert join(client, one) == {"farewell": "", "resume": None}
    assert not beat(client, one)["may_go"]
    assert beat(client, other)["may_go"]
    assert client.call("renew", worker=0, supervisor="s0") == {"answer": "go on"}
    client.call("note", replica_id=one, event="redone", step=3, detail="key")
    client.call("abandon", group_key="key")
    client.call("process_ended", worker=1, supervisor="s1", incarnation=1, code=-9, cause="SIGKILL")
    assert beat(client, one, step=4) == {
        "farewell": "",
        "may_go": True,
        "lost": [other],
        "abandoned": ["key"],
        "waiting": [],
        "excused": [],
    }
    client.call("release", worker=1, supervisor="s1")
    client.call("finish", step=5, most_workers=2, report={"loss": 0.5})
    assert (coordinator.roster.step, coordinator.roster.report) == (5, {"loss": 0.5})
    assert coordinator.roster.ending == Ending(is_finished=True)
    assert coordinator.roster.most_workers == 2
    assert beat(client, one)["farewell"] == "ended"
    events = [note.event for note in coordinator.take_notes()]
    assert events == ["started", "started", "joined", "joined", "redone", "lost", "finished"]
    assert coordinator.take_notes() == []


def test_what_is_put_is_there_for_all_who_have_the_token(open_coordinator: Open) -> None:
    coordinator, client = open_coordinator()
    assert client.call("get", key="1-a/b") == {"value": None}
    client.call("put", key="1-a/b", value="00ff")
    assert client.call("get", key="1-a/b") == {"value": "00ff"}
    stranger = RpcClient(coordinator.uri, "a guess")
    with pytest.raises(WorkerError, match="token"):
        stranger.call("get", key="1-a/b")
    stranger.close()


def test_what_groups_of_long_ago_have_put_is_forgotten(open_coordinator: Open) -> None:
    _, client = open_coordinator()

    def kept(*keys: str) -> list[str]:
        return [key for key in keys if client.call("get", key=key)["value"]]

    for key in ("9-a/0", "9-a/1", "9-ab/0", "10-c/0"):
        client.call("put", key=key, value="00")
    client.call("abandon", group_key="9-a")
    assert kept("9-a/0", "9-a/1", "9-ab/0", "10-c/0") == ["9-ab/0", "10-c/0"]
    for number in range(15):  # a worker that dies and comes back does not change the quorum
        client.call("put", key=f"10-d{number}/0", value="00")
        client.call("put", key=f"10-d{number}/1", value="00")
    assert kept("9-ab/0", "10-c/0", "10-d0/0", "10-d14/1") == ["10-c/0", "10-d0/0", "10-d14/1"]


def test_the_addresses_of_replaced_processes_are_forgotten(open_coordinator: Open) -> None:
    _, client = open_coordinator()
    for incarnation in range(1, 41):
        client.call("announce", replica_id=replica_id_of(0, incarnation), address=f"address {incarnation}")
    client.call("announce", replica_id=replica_id_of(1, 1), address="another")
    known = {replica_id_of(0, number): f"address {number}" for number in range(9, 41)}  # may be in a quorum still
    assert client.call("addresses")["addresses"] == known | {replica_id_of(1, 1): "another"}


def test_a_process_never_starts_from_nothing_where_there_is_a_checkpoint(open_coordinator: Open) -> None:
    """The one that lives when another joins may be dead before they meet."""
    _, client = open_coordinator(find_resume=lambda _: "the checkpoint")
    one, other = start_worker(client, 0), start_worker(client, 1)
    assert join(client, one)["resume"] == "the checkpoint"
    beat(client, one)
    assert join(client, other)["resume"] == "the checkpoint"


@pytest.mark.timeout(60)
def test_the_end_does_not_wait_for_a_call_that_storage_holds_up(
    open_coordinator: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(coordinator_module, "_CLOSE_SECONDS", 0.3)
    is_asked, released = threading.Event(), threading.Event()

    def hang(_is_alone: bool) -> None:
        is_asked.set()
        released.wait(50)

    coordinator, client = open_coordinator(find_resume=hang)
    joining = threading.Thread(target=join, args=(client, start_worker(client, 0)))
    joining.start()
    assert is_asked.wait(30)
    began = time.monotonic()
    coordinator.close()
    assert time.monotonic() - began < 20
    assert "a call to the driver did not end within 0.3 s" in caplog.text
    released.set()
    joining.join(20)


def test_a_run_does_not_go_back_when_updates_are_told_of_out_of_order(open_coordinator: Open) -> None:
    coordinator, _ = open_coordinator()
    for step in (5, 6, 5):
        coordinator.note_update(step, 2, {"loss": 1.0})
    assert coordinator.roster.step == 6


def test_an_evaluation_is_handed_out_and_ends_when_all_is_handed_in(open_coordinator: Open) -> None:
    counted: list[dict[str, Any]] = []
    coordinator, client = open_coordinator(leases=LeaseBook(ranges=[(0, 2), (2, 4), (4, 5)], count=counted.append))
    one, other = start_worker(client, 0), start_worker(client, 1)
    beat(client, one)
    beat(client, other)
    assert client.call("lease", replica_id=one) == {"ended": False, "range": [0, 2], "excused": []}
    assert client.call("lease", replica_id=other) == {"ended": False, "range": [2, 4], "excused": []}
    client.call("process_ended", worker=1, supervisor="s1", incarnation=1, code=-9, cause="SIGKILL")
    for begin in (0, 2, 4):
        if begin:
            assert client.call("lease", replica_id=one)["range"][0] == begin
        assert coordinator.roster.ending is None
        client.call("hand_in", begin=begin, tally={"samples": [1]})
    assert counted == [{"samples": [1]}] * 3
    assert client.call("lease", replica_id=one) == {"ended": True, "range": None, "excused": []}
    assert coordinator.roster.ending == Ending(is_finished=True)
