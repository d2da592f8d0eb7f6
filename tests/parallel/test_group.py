"""Laws of the process group, with real processes: sums are right, and no wait outlives a peer that is gone."""

import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from sunspark.parallel.group import Group, in_plain_words
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.rpc import RpcClient
from tests.parallel.members import SHAPES, Cast, Process, Told, evidence_of_worker, gradients_of

pytestmark = pytest.mark.timeout(60)
MUCH_SOONER_THAN_THE_TIMEOUT = 8.0


@pytest.fixture
def cast() -> Iterator[Cast]:
    cast = Cast()
    yield cast
    cast.close()


def start_summing(cast: Cast, count: int) -> list[Process]:
    members = cast.add(count)
    cast.form(*members)
    for member in members:
        member.tell("sum_for_ever")
    time.sleep(0.5)
    return members


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:38274. "
            "This is typically caused by a remote worker crashing. Check the logs of the remote worker.",
            "Connection closed by peer [127.0.0.1]:38274",
        ),
        ("Application timeout caused pair closure", "Application timeout caused pair closure"),
    ],
)
def test_a_failure_is_told_without_where_it_stands_in_gloo(message: str, words: str) -> None:
    assert in_plain_words(message) == words


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_sums_are_right_and_the_same_for_all(cast: Cast, world_size: int) -> None:
    members = cast.add(world_size)
    agreement = cast.form(*members)
    for size in (1, 5, 100_000):
        for worker, member in enumerate(members):
            member.tell("sum", 2.0**worker, size)
        total = 2.0**world_size - 1 if world_size > 1 else 1.0
        assert [member.hear() for member in members] == [[total, 2 * total]] * world_size
    for member in members:
        member.tell("form", agreement, 20.0)  # nothing to do: it is formed
    assert [member.hear() for member in members] == [None] * world_size
    assert [member.ask("is_alone") for member in members] == [world_size == 1] * world_size


@pytest.mark.parametrize(("world_size", "hosts"), [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (3, 3)])
def test_all_reduce_equals_summing_by_hand(cast: Cast, world_size: int, hosts: int) -> None:
    members = cast.add(world_size, hosts=hosts)
    cast.form(*members)
    expected = [np.zeros(shape) for shape in SHAPES]
    evidence = evidence_of_worker(0)
    for worker in range(world_size):
        for total, gradient in zip(expected, gradients_of(worker), strict=True):
            total += 0 if gradient is None else gradient.numpy()
        evidence = evidence if worker == 0 else evidence + evidence_of_worker(worker)
    for _ in range(3):  # buckets and shared memory are used again
        for member in members:
            member.tell("reduce")
        replies = [member.hear() for member in members]
        for gradients, evidence_of_all, loss in replies:
            for got, wanted, first in zip(gradients, expected, replies[0][0], strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
                np.testing.assert_array_equal(got, first, "every rank holds the same bits")
            assert (evidence_of_all, loss) == (evidence, sum(range(world_size)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("attempt", range(5))  # what is on its way at that moment differs from time to time
def test_a_member_lost_while_it_sums_ends_the_waits_of_the_others_once_they_are_told(
    cast: Cast, number: signal.Signals, attempt: int
) -> None:
    """Each has to be told: gloo does not always notice that a connection is gone."""
    *survivors, lost = start_summing(cast, 3)
    time.sleep(0.03 * attempt)
    lost.send_signal(number)
    began = time.monotonic()
    for survivor in survivors:
        survivor.control_now("cut")
    for survivor in survivors:
        with pytest.raises(Told, match="GroupBrokenError: a collective"):
            survivor.hear(MUCH_SOONER_THAN_THE_TIMEOUT)
    assert time.monotonic() - began < MUCH_SOONER_THAN_THE_TIMEOUT
    cast.form(*survivors)
    for survivor in survivors:
        survivor.tell("sum", 1.0, 10)
    assert [survivor.hear() for survivor in survivors] == [[2.0, 4.0]] * 2


def test_a_group_that_was_cut_is_broken_for_the_next_step_and_counts_one_failure(cast: Cast) -> None:
    members = cast.add(2)
    agreement = cast.form(*members)
    assert [members[0].control_now("cut") for _ in range(3)] == [1, 1, 1]
    assert members[0].ask("call_coordinator") == {"value": None}, "the line to the coordinator is not cut"
    with pytest.raises(Told, match="GroupBrokenError"):
        members[0].ask("form", agreement, 20.0)
    with pytest.raises(Told, match="GroupBrokenError"):
        members[1].ask("sum", 1.0, 1000, timeout_seconds=MUCH_SOONER_THAN_THE_TIMEOUT)
    cast.form(*members)
    for member in members:
        member.tell("sum", 1.0, 10)
    assert [member.hear() for member in members] == [[2.0, 4.0]] * 2
    assert members[0].control_now("cut") == 2


def test_cutting_ends_the_forming_of_a_group(cast: Cast) -> None:
    members = cast.add(2)
    agreement = cast.agreement(*members, absent=1)
    for member in members:
        member.tell("form", agreement, 40.0)
    time.sleep(0.5)
    for member in members:
        member.control_now("cut")
    for member in members:
        with pytest.raises(Told, match=r"GroupBrokenError: .* did not form"):
            member.hear(5)
    cast.form(*members)


def test_a_member_killed_while_the_group_forms_ends_it_once_the_others_are_told(cast: Cast) -> None:
    first, second, lost = cast.add(3)
    agreement = cast.agreement(first, second, lost)
    lost.send_signal(signal.SIGSTOP)
    for member in (first, second):
        member.tell("form", agreement, 40.0)
    lost.send_signal(signal.SIGKILL)
    time.sleep(0.3)
    for member in (first, second):
        member.control_now("cut")
    for member in (first, second):
        with pytest.raises(Told, match="GroupBrokenError"):
            member.hear(5)
    cast.form(first, second)


def test_a_member_that_never_comes_ends_the_forming_at_the_deadline(cast: Cast) -> None:
    (member,) = cast.add(1)
    began = time.monotonic()
    with pytest.raises(Told, match="DeadlineError: worker 90 did not come"):
        member.ask("form", cast.agreement(member, absent=1), 1.0)
    assert time.monotonic() - began < 6


def test_an_all_reduce_that_a_member_does_not_come_to_ends_at_its_deadline(cast: Cast) -> None:
    member, *_ = cast.add(3)
    cast.form(*cast.members)
    began = time.monotonic()
    with pytest.raises(Told, match="GroupBrokenError"):
        member.ask("sum_within", 1.0)
    assert 0.9 < time.monotonic() - began < MUCH_SOONER_THAN_THE_TIMEOUT


class _EndsJustAfterALook:
    """A work whose end falls between the time-out of a look and the question whether it has ended."""

    def __init__(self, error: Exception | None) -> None:
        self._looks = 0
        self._error = error

    def wait(self, _timeout: object) -> bool:
        self._looks += 1
        if self._looks == 1:
            raise RuntimeError("Operation timed out!")
        if self._error:
            raise self._error
        return True

    def is_completed(self) -> bool:
        return True


def test_a_work_that_ends_just_after_a_look_has_not_failed() -> None:
    client = RpcClient("grpc://127.0.0.1:1", "a token")
    group = Group(client, "0000.000001", "127.0.0.1")
    group.wait([_EndsJustAfterALook(None)])  # type: ignore[list-item]
    assert group.failures == 0
    with pytest.raises(GroupBrokenError, match="connection closed"):
        group.wait([_EndsJustAfterALook(RuntimeError("connection closed"))])  # type: ignore[list-item]


def test_sums_that_take_about_as_long_as_a_look_never_fail(cast: Cast) -> None:
    members = cast.add(2)
    cast.form(*members)
    for late in np.linspace(0.049, 0.0515, 60):
        members[0].tell("sum", 1.0, 10)
        time.sleep(late)
        members[1].tell("sum", 1.0, 10)
        assert [member.hear() for member in members] == [[2.0, 4.0]] * 2


def test_a_group_that_did_not_form_is_never_taken_for_a_group_of_one(cast: Cast) -> None:
    (member,) = cast.add(1)
    agreement = cast.agreement(member, absent=1)
    for _ in range(2):
        with pytest.raises(Told):
            member.ask("form", agreement, 0.5)
    assert not member.ask("is_alone")


def test_groups_that_are_gone_leave_nothing_behind(cast: Cast) -> None:
    members = cast.add(2)
    cast.form(*members)
    before = [member.ask("resources") for member in members]
    for round_number in range(12):
        cast.form(*members)
        if round_number % 3 == 0:
            members[0].control_now("cut")
    cast.form(*members)
    after = [member.ask("resources") for member in members]
    for (files_before, threads_before), (files, threads) in zip(before, after, strict=True):
        assert files - files_before < 6
        assert threads - threads_before < 6


def test_a_member_listens_on_its_own_address_only(cast: Cast) -> None:
    members = cast.add(2)
    cast.form(*members)
    assert [member.ask("listens_on") for member in members] == [{"127.0.0.1"}] * 2


@pytest.mark.parametrize(("hosts", "shares"), [(1, True), (2, False)])
def test_members_share_memory_when_all_are_on_one_host(cast: Cast, hosts: int, shares: bool) -> None:
    members = cast.add(3, hosts=hosts)
    cast.form(*members)
    for member in members:
        member.tell("shares_memory")
    assert [member.hear() for member in members] == [shares] * 3


@pytest.mark.parametrize("world_size", [2, 5])
def test_nobody_leaves_a_meeting_before_all_have_come(cast: Cast, world_size: int) -> None:
    members = cast.add(world_size)
    cast.form(*members)
    for member in members:
        member.tell("meet", 500)
    assert [member.hear() for member in members] == [True] * world_size


@pytest.mark.parametrize("lost", [0, 2])
def test_a_member_lost_while_others_wait_for_it_ends_the_meeting_at_once(cast: Cast, lost: int) -> None:
    members = [*cast.add(3)]
    cast.form(*members)
    late = members.pop(lost)
    late.tell("meet_within", 20.0, 1)
    for member in members:
        member.tell("meet_within", 60.0)
    late.hear()
    late.send_signal(signal.SIGKILL)
    began = time.monotonic()
    for member in members:
        with pytest.raises(Told, match=r"GroupBrokenError: the group of .* broke while its members met"):
            member.hear()
    assert time.monotonic() - began < MUCH_SOONER_THAN_THE_TIMEOUT
    cast.form(*members)
    for member in members:
        member.tell("meet", 10)
    assert [member.hear() for member in members] == [True] * 2


def test_a_meeting_ends_when_the_group_is_cut(cast: Cast) -> None:
    members = cast.add(2)
    cast.form(*members)
    members[1].tell("meet_within", 20.0, 1)
    members[0].tell("meet_within", 60.0)
    members[1].hear()
    members[0].control_now("cut")
    with pytest.raises(Told, match="GroupBrokenError"):
        members[0].hear(MUCH_SOONER_THAN_THE_TIMEOUT)


@pytest.mark.parametrize(("waits", "words"), [(0, "worker 1 did not come"), (1, "worker 0 did not say that all")])
def test_a_meeting_that_a_member_does_not_come_to_ends_at_its_deadline(cast: Cast, waits: int, words: str) -> None:
    members = cast.add(2)
    cast.form(*members)
    members[1 - waits].tell("meet_within", 20.0, 1)
    began = time.monotonic()
    with pytest.raises(Told, match=words):
        members[waits].ask("meet_within", 1.0)
    assert 0.9 < time.monotonic() - began < MUCH_SOONER_THAN_THE_TIMEOUT


def test_memory_is_shared_whatever_length_the_tallies_have(cast: Cast) -> None:
    """The last round of an epoch is shorter; where there is no room for a longer one, all take other memory."""
    members = cast.add(3)
    cast.form(*members)
    for length in (2, 5, 1, 9, 2, 13):
        for worker, member in enumerate(members):
            member.tell("reduce_tally", [2.0**worker] * length)
        for sums, num_bytes in [member.hear() for member in members]:
            assert sums == [7.0] * length
            assert num_bytes < 100, "gradients have travelled"


@pytest.mark.parametrize("hosts", [1, 3])
@pytest.mark.parametrize("attempt", range(4))
def test_a_member_killed_while_gradients_are_reduced_leaves_sums_that_are_right(
    cast: Cast, hosts: int, attempt: int
) -> None:
    """Whatever it had written by then: the survivors share memory of their own."""
    *survivors, lost = cast.add(3, hosts=hosts)
    cast.form(*survivors, lost)
    for member in cast.members:
        member.tell("reduce_for_ever")
    time.sleep(0.3 + 0.023 * attempt)
    lost.send_signal(signal.SIGKILL)
    for survivor in survivors:
        survivor.control_now("cut")
    for survivor in survivors:
        with pytest.raises(Told, match="GroupBrokenError"):
            survivor.hear(MUCH_SOONER_THAN_THE_TIMEOUT)
    cast.form(*survivors)
    for survivor in survivors:
        survivor.tell("reduce")
    expected = [one.numpy() + two.numpy() for one, two in zip(gradients_of(0), gradients_of(1), strict=True)]  # type: ignore[union-attr]
    for gradients, _, _ in [survivor.hear() for survivor in survivors]:
        for got, wanted in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradients_leave_while_backward_runs_and_their_sums_are_the_same_bits(cast: Cast, world_size: int) -> None:
    """Of three workers one has no samples, and sends zeros once the others are there."""
    members = cast.add(world_size, hosts=world_size)
    cast.form(*members)
    for member in members:
        member.tell("reduce")
    plain = [member.hear()[0] for member in members]
    for _ in range(2):
        for member in members:
            member.tell("reduce_in_backward")
        for worker, (gradients, bytes_before_the_last, hidden_seconds) in enumerate([m.hear() for m in members]):
            for got, wanted in zip(gradients, plain[worker], strict=True):
                np.testing.assert_array_equal(got, wanted)
            assert (bytes_before_the_last > 0) == (worker % 3 != 2)
            assert (hidden_seconds > 0) == (worker % 3 != 2)


def test_a_group_that_is_cut_in_the_backward_pass_is_broken_after_it_and_the_next_sum_is_right(cast: Cast) -> None:
    members = cast.add(2, hosts=2)
    cast.form(*members)
    for member in members:
        member.tell("reduce")
    plain = [member.hear()[0] for member in members]
    members[0].tell("reduce_in_backward", True)
    members[1].tell("reduce_in_backward")
    for member in members:
        with pytest.raises(Told, match="GroupBrokenError"):
            member.hear(MUCH_SOONER_THAN_THE_TIMEOUT)
    cast.form(*members)
    for order in ("reduce_in_backward", "reduce_in_backward", "reduce"):
        for member in members:
            member.tell(order)
        for member, wanted in zip(members, plain, strict=True):
            for got, one in zip(member.hear()[0], wanted, strict=True):
                np.testing.assert_array_equal(got, one)
