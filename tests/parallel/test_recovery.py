"""Laws of recovery: the bytes of the leader's state, whole, from all who hold it; or an error in time."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sunspark.parallel import recovery as recovery_module
from sunspark.parallel.membership import Agreement, Member, Position, replica_id_of
from sunspark.parallel.recovery import RecoveryError, RecoverySource, Snapshot, recover
from sunspark.parallel.rpc import RpcServer

TOKEN = "a token"
STEP, LINEAGE = 7, "lineage"
BODY = random.Random(0).randbytes(9_500_000)


class Source:
    """A peer: its state, how often it made a snapshot, which parts it gave."""

    def __init__(self, body: bytes = BODY, step: int = STEP, lineage: str = LINEAGE) -> None:
        self.snapshot = Snapshot(step=step, lineage=lineage, body=memoryview(body))
        self.snapshots_taken = 0
        self.parts: list[range] = []
        self.source = RecoverySource(self._take_snapshot)
        self.server = RpcServer("127.0.0.1", 0, TOKEN, self.source.handlers, {"state": self._read})

    def _take_snapshot(self) -> Snapshot:
        self.snapshots_taken += 1
        return self.snapshot

    def _read(self, step: int, lineage: str, begin: int, end: int) -> Iterator[bytes | memoryview]:
        self.parts.append(range(begin, end))
        return self.source.chunk_readers["state"](step=step, lineage=lineage, begin=begin, end=end)


Open = Callable[..., Source]


@pytest.fixture
def open_source() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_source(**changes: object) -> Source:
            source = Source(**changes)  # type: ignore[arg-type]
            stack.callback(source.server.shutdown)
            return source

        yield open_source


def agreement_with(*sources: Source, behind: int = 1) -> Agreement:
    """The sources are current, and `behind` others are not."""
    current = Position(step=STEP, lineage=LINEAGE, counted=STEP, failures=0)
    old = Position(step=STEP - 2, lineage="old", counted=0, failures=0)
    members = [
        Member(replica_id=replica_id_of(worker, 1), address=address, position=position)
        for worker, (address, position) in enumerate(
            [(s.server.uri, current) for s in sources] + [("grpc://127.0.0.1:1", old)] * behind
        )
    ]
    return Agreement(quorum_id=1, members=tuple(members))


@pytest.mark.parametrize("num_sources", [1, 2, 3])
@pytest.mark.parametrize("num_bytes", [1, 2, 1000, 4 << 20, len(BODY)])
def test_the_state_comes_whole_from_all_sources_in_parts(open_source: Open, num_sources: int, num_bytes: int) -> None:
    body = BODY[:num_bytes]
    sources = [open_source(body=body) for _ in range(num_sources)]
    assert recover(agreement_with(*sources), TOKEN, 20) == body
    covered = [offset for source in sources for part in source.parts for offset in (part.start, part.stop)]
    assert covered[0] == 0
    assert covered[1:-1:2] == covered[2::2], "the parts follow each other"
    assert covered[-1] == num_bytes
    shares = [sum(map(len, source.parts)) for source in sources]
    assert max(shares) - min(shares) <= 1


def test_a_snapshot_is_made_once_for_all_who_recover(open_source: Open) -> None:
    source = open_source()
    results: list[bytes] = []
    readers = [
        threading.Thread(target=lambda: results.append(recover(agreement_with(source), TOKEN, 20))) for _ in range(3)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(25)
    assert results == [BODY] * 3
    assert source.snapshots_taken == 1
    source.source.forget()
    assert recover(agreement_with(source), TOKEN, 20) == BODY
    assert source.snapshots_taken == 2


def test_a_source_gives_its_new_state_once_it_moved_on(open_source: Open) -> None:
    source = open_source(body=b"old", step=STEP - 1, lineage="before")
    with pytest.raises(RecoveryError, match=f"step {STEP}, but it is at step {STEP - 1}"):
        recover(agreement_with(source), TOKEN, 20)
    source.snapshot = Snapshot(step=STEP, lineage=LINEAGE, body=memoryview(b"new"))
    assert recover(agreement_with(source), TOKEN, 20) == b"new"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_source_that_moved_on_gives_nothing(open_source: Open, place: int) -> None:
    sources = [open_source() for _ in range(3)]
    sources[place].snapshot = Snapshot(step=STEP + 1, lineage="next", body=memoryview(BODY))
    with pytest.raises(RecoveryError, match=f"it is at step {STEP + 1}"):
        recover(agreement_with(*sources), TOKEN, 20)


def test_a_source_of_another_lineage_gives_nothing(open_source: Open) -> None:
    with pytest.raises(RecoveryError):
        recover(agreement_with(open_source(lineage="fork")), TOKEN, 20)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("place", [0, 1])
def test_a_source_that_died_ends_the_recovery(open_source: Open, place: int) -> None:
    sources = [open_source(), open_source()]
    sources[place].server.shutdown()
    with pytest.raises(RecoveryError, match="no state from workers 0, 1"):
        recover(agreement_with(*sources), TOKEN, 10)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("place", [0, 1])
def test_a_source_that_hangs_ends_the_recovery_at_the_deadline(open_source: Open, place: int) -> None:
    sources, released = [open_source(), open_source()], threading.Event()

    def hang() -> Snapshot:
        released.wait(15)
        return sources[place].snapshot

    sources[place].source._take_snapshot = hang
    began = time.monotonic()
    try:
        with pytest.raises(RecoveryError, match="within 1 s"):
            recover(agreement_with(*sources), TOKEN, 1)
        assert time.monotonic() - began < 8
    finally:
        released.set()


@pytest.mark.parametrize("other", [BODY[:-1] + b"!", b"!" + BODY[1:], BODY[:-1], BODY + b"!", b"", BODY[::-1]])
@pytest.mark.parametrize("place", [0, 1])
def test_sources_whose_bytes_differ_never_make_a_mixture(open_source: Open, other: bytes, place: int) -> None:
    sources = [open_source(), open_source()]
    sources[place].snapshot = Snapshot(step=STEP, lineage=LINEAGE, body=memoryview(other))
    try:
        body = recover(agreement_with(*sources), TOKEN, 20)
    except RecoveryError:
        return
    assert body == sources[0].snapshot.body, "the state of the one whose digest was asked for"


def test_a_part_that_differs_is_noticed(open_source: Open) -> None:
    with pytest.raises(RecoveryError, match="do not make one state"):
        recover(agreement_with(open_source(), open_source(body=BODY[:-1] + b"!")), TOKEN, 20)


def test_a_stranger_gets_no_state(open_source: Open) -> None:
    with pytest.raises(RecoveryError, match="token"):
        recover(agreement_with(open_source()), "another token", 10)


@pytest.mark.parametrize(("num_bytes", "num_parts"), [(0, 1), (0, 3), (1, 3), (10, 3), (9, 3), (4, 7)])
def test_parts_follow_each_other_and_differ_by_at_most_one(num_bytes: int, num_parts: int) -> None:
    parts = recovery_module._parts(num_bytes, num_parts)
    assert [offset for part in parts for offset in part] == list(range(num_bytes))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
