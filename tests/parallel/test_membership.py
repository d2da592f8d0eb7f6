"""Laws of membership: what follows from a quorum as tables, and the real lighthouse with real deadlines."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations

import pytest
from torchft.coordination import LighthouseClient

from sunspark.errors import DeadlineError, SetupError, WorkerError
from sunspark.parallel.membership import (
    HEARTBEAT_TIMEOUT_SECONDS,
    Agreement,
    Lighthouse,
    Member,
    Membership,
    Position,
    replica_id_of,
    worker_and_incarnation_of,
)

START = Position(step=0, lineage="0", counted=0, failures=0)


def at(step: int, lineage: str = "a", counted: int = 0, failures: int = 0) -> Position:
    return Position(step=step, lineage=lineage, counted=counted, failures=failures)


def agreement_of(*positions: Position, quorum_id: int = 1) -> Agreement:
    members = (
        Member(replica_id=replica_id_of(worker, 1), address=f"grpc://10.0.0.{worker}:70{worker}", position=position)
        for worker, position in enumerate(positions)
    )
    return Agreement(quorum_id=quorum_id, members=tuple(members))


# positions -> worker of the leader, workers that are current
LEADERS: list[tuple[str, list[Position], int, list[int]]] = [
    ("alone", [at(0)], 0, [0]),
    ("all equal: the lowest leads", [at(3), at(3), at(3)], 0, [0, 1, 2]),
    ("the furthest leads", [at(3), at(4, "b"), at(2, "c")], 1, [1]),
    ("two are ahead", [at(3), at(4, "b"), at(4, "b")], 1, [1, 2]),
    ("same step, other lineage: the one who saw more counted", [at(4, "x", 3), at(4, "y", 4)], 1, [1]),
    ("same step, other lineage, a tie: the lowest", [at(4, "x", 3), at(4, "y", 3)], 0, [0]),
    ("more counted does not beat further", [at(3, "x", 3), at(4, "y", 0)], 1, [1]),
    ("same state, less counted, is current", [at(4, "x", 3), at(4, "x", 4)], 1, [0, 1]),
    ("failures do not matter", [at(4, "x", 3, failures=7), at(4, "x", 3)], 0, [0, 1]),
]


@pytest.mark.parametrize(("positions", "leader", "current"), [row[1:] for row in LEADERS], ids=[r[0] for r in LEADERS])
def test_the_leader_and_who_must_recover(positions: list[Position], leader: int, current: list[int]) -> None:
    agreement = agreement_of(*positions)
    assert agreement.leader.replica_id == replica_id_of(leader, 1)
    assert agreement.step == positions[leader].step
    assert [m.replica_id for m in agreement.current] == [replica_id_of(worker, 1) for worker in current]
    assert agreement.leader in agreement.current


def test_what_is_agreed_depends_on_the_members_and_their_order_alone() -> None:
    for positions in permutations([at(1), at(2, "b"), at(2, "c", 1), at(2, "c", 1, failures=2)]):
        one, two = agreement_of(*positions), agreement_of(*positions)
        assert one.group_key == two.group_key
        assert one.leader.position == at(2, "c", 1, failures=one.leader.position.failures)
        assert len(one.current) == 2


def test_the_group_is_another_after_every_change_of_members_or_failure() -> None:
    agreements = [
        agreement_of(at(5)),
        agreement_of(at(5), at(5)),
        agreement_of(at(5), at(5), at(5)),
        agreement_of(at(5, failures=1), at(5)),
        agreement_of(at(5), at(5, failures=1)),
        agreement_of(at(5, failures=1), at(5, failures=1)),
        agreement_of(at(5, failures=11), at(5)),
        agreement_of(at(5), at(5), quorum_id=2),
    ]
    keys = [agreement.group_key for agreement in agreements]
    assert len(set(keys)) == len(keys)


def test_the_group_stays_while_steps_go_on() -> None:
    assert agreement_of(at(5), at(5)).group_key == agreement_of(at(6, "b", 6), at(6, "b", 6)).group_key


def test_ranks_follow_worker_ids_as_numbers() -> None:
    ids = [replica_id_of(worker, incarnation) for worker in (0, 2, 10, 100) for incarnation in (1, 2, 10)]
    assert ids == sorted(ids)
    agreement = agreement_of(at(0), at(0), at(0))
    assert [agreement.rank_of(replica_id) for replica_id in agreement.replica_ids] == [0, 1, 2]
    assert (agreement.members[2].host, agreement.members[2].port) == ("10.0.0.2", 702)


@pytest.fixture
def lighthouse() -> Iterator[Lighthouse]:
    server = Lighthouse("127.0.0.1", 0)
    yield server
    server.close()


class Heartbeats:
    """Keeps one member healthy until it is told to stop."""

    def __init__(self, member: Membership) -> None:
        self._member, self._stopped = member, threading.Event()
        member.heartbeat()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped.wait(0.1):
            self._member.heartbeat()

    def __enter__(self) -> "Heartbeats":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(5)


def member_of(lighthouse: Lighthouse, worker: int, incarnation: int = 1) -> Membership:
    return Membership(lighthouse.address, replica_id_of(worker, incarnation), f"grpc://127.0.0.1:90{worker}")


def agree_together(members: list[Membership], positions: list[Position], seconds: float) -> list[Agreement]:
    with ThreadPoolExecutor(len(members)) as pool:
        waits: list[Future[Agreement]] = [
            pool.submit(member.agree, position, seconds) for member, position in zip(members, positions, strict=True)
        ]
        return [wait.result(seconds + 5) for wait in waits]


def test_members_that_live_agree_on_the_same(lighthouse: Lighthouse) -> None:
    members = [member_of(lighthouse, worker) for worker in range(2)]
    with contextlib.ExitStack() as hearts:
        for member in members:
            hearts.enter_context(Heartbeats(member))
        first = agree_together(members, [START, START], 20)
        second = agree_together(members, [at(1, "x", 1), at(1, "x", 1, failures=3)], 20)
    assert first[0] == first[1]
    assert second[0] == second[1]
    assert first[0].replica_ids == ("0000.000001", "0001.000001")
    assert [m.position for m in second[0].members] == [at(1, "x", 1), at(1, "x", 1, failures=3)]
    assert [m.address for m in first[0].members] == ["grpc://127.0.0.1:900", "grpc://127.0.0.1:901"]
    assert second[0].quorum_id == first[0].quorum_id, "the same members keep their quorum id"


def test_a_living_member_is_waited_for_and_a_silent_one_is_left_out(lighthouse: Lighthouse) -> None:
    stays, goes = member_of(lighthouse, 0), member_of(lighthouse, 1)
    with Heartbeats(stays):
        with Heartbeats(goes):
            agree_together([stays, goes], [START, START], 20)
            with pytest.raises(DeadlineError):  # it lives, it only takes its time
                stays.agree(at(1), HEARTBEAT_TIMEOUT_SECONDS + 1)
        began = time.monotonic()
        agreement = stays.agree(at(1), 20)
        waited = time.monotonic() - began
    assert agreement.replica_ids == ("0000.000001",)
    assert waited < HEARTBEAT_TIMEOUT_SECONDS + 3
    assert agreement.group_key != agreement_of(at(1), at(1), quorum_id=agreement.quorum_id).group_key


def test_to_ask_for_a_quorum_is_a_sign_of_life(lighthouse: Lighthouse) -> None:
    """So a worker whose steps are short needs no heartbeats: the lighthouse takes nobody for alive without a sign."""
    member = member_of(lighthouse, 0)
    assert member.seconds_since_sign() > HEARTBEAT_TIMEOUT_SECONDS
    assert member.agree(START, 20).world_size == 1
    assert member.seconds_since_sign() < 20


def test_a_quorum_that_never_forms_ends_at_the_deadline(lighthouse: Lighthouse) -> None:
    waits, never_asks = member_of(lighthouse, 0), member_of(lighthouse, 1)
    began = time.monotonic()
    with Heartbeats(waits), Heartbeats(never_asks), pytest.raises(DeadlineError, match="no quorum formed within 1 s"):
        waits.agree(START, 1.0)
    assert time.monotonic() - began < 6


def test_a_newcomer_changes_the_quorum(lighthouse: Lighthouse) -> None:
    members = [member_of(lighthouse, worker) for worker in range(2)]
    with Heartbeats(members[0]), ThreadPoolExecutor(1) as pool:
        agreement = alone = members[0].agree(START, 20)
        with Heartbeats(members[1]):
            newcomer = pool.submit(members[1].agree, START, 20.0)
            deadline = time.monotonic() + 20
            while agreement.world_size == 1 and time.monotonic() < deadline:
                agreement = members[0].agree(at(1), 20)  # the quorum before may have formed without the newcomer
            assert agreement == newcomer.result(5)
    assert agreement.world_size == 2
    assert agreement.quorum_id != alone.quorum_id
    assert agreement.leader.replica_id == members[0].replica_id


def test_a_process_that_takes_the_place_of_a_dead_one_is_not_kept_waiting(lighthouse: Lighthouse) -> None:
    stays, dies, comes = member_of(lighthouse, 0), member_of(lighthouse, 1), member_of(lighthouse, 1, incarnation=2)
    with Heartbeats(stays):
        with Heartbeats(dies):
            before = agree_together([stays, dies], [at(4), at(4)], 20)[0]
        began = time.monotonic()
        after = agree_together([stays, comes], [at(4), at(0)], 20)
        waited = time.monotonic() - began
    assert waited < HEARTBEAT_TIMEOUT_SECONDS, "the dead one's silence was waited for"
    assert after[0] == after[1]
    assert after[0].replica_ids == ("0000.000001", "0001.000002")
    assert after[0].group_key != before.group_key
    assert not after[0].is_current(after[0].members[1])


def test_two_processes_of_one_worker_never_stand_in_one_quorum(lighthouse: Lighthouse) -> None:
    stays, old, new = member_of(lighthouse, 0), member_of(lighthouse, 1), member_of(lighthouse, 1, incarnation=2)
    with Heartbeats(stays), Heartbeats(old), Heartbeats(new), ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(process.agree, at(4), 20.0) for process in (old, new)]
        while not all(answer.done() for answer in asking):
            with contextlib.suppress(DeadlineError):  # both have their answer by now
                assert stays.agree(at(4), 1.0).world_size == 2
        for answer in asking:
            assert answer.result().world_size == 2


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_that_is_taken_is_said_so(taken_port: int) -> None:
    with pytest.raises(SetupError, match=f"127.0.0.1:{taken_port}.*--port"):
        Lighthouse("127.0.0.1", taken_port)


@pytest.mark.parametrize("data", [None, {}, {"replica_id": "0001.000001", "position": 7}, {"position": {"step": "x"}}])
def test_who_says_nothing_that_a_worker_says_is_named_as_a_stranger(data: dict[str, object] | None) -> None:
    lighthouse = Lighthouse("127.0.0.1", 0)
    member = Membership(lighthouse.address, replica_id_of(0, 1), "grpc://x:1")
    stranger = LighthouseClient(lighthouse.address, timedelta(seconds=10))
    with contextlib.closing(lighthouse), ThreadPoolExecutor(1) as pool:
        member.heartbeat()
        stranger.heartbeat("0001")
        intrusion = pool.submit(stranger.quorum, "0001", timedelta(seconds=20), address="grpc://y:1", data=data)
        with pytest.raises(WorkerError, match=r"^strangers take part in the quorum, .*'0001': 'grpc://y:1'"):
            member.agree(START, 20.0)
        intrusion.result(20)


LIGHTHOUSE = """
import sys
from torchft.coordination import LighthouseServer
server = LighthouseServer(bind="127.0.0.1:0", min_replicas=2)
print(server.address().rpartition(":")[2], flush=True)
sys.stdin.read()
"""


def test_a_lighthouse_that_dies_is_said_so() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIGHTHOUSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            member = Membership(f"http://127.0.0.1:{int(process.stdout.readline())}", replica_id_of(0, 1), "grpc://x:1")
            with ThreadPoolExecutor(1) as pool:
                wait = pool.submit(member.agree, START, 30.0)
                member.heartbeat()
                time.sleep(0.3)
                process.kill()
                with pytest.raises((WorkerError, DeadlineError)):
                    wait.result(10)
        finally:
            process.kill()
    with pytest.raises(WorkerError, match="heartbeat"):
        member.heartbeat()


def test_a_replica_id_says_worker_and_incarnation() -> None:
    for pair in ((0, 1), (12, 345), (9999, 999_999)):
        assert worker_and_incarnation_of(replica_id_of(*pair)) == pair
