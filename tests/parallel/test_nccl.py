"""Laws of NCCL's side of a group. Those of its waits hold for any collective, so gloo's stand in where no GPU is."""

import queue
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch._C._distributed_c10d import AllreduceOptions, HashStore, ProcessGroupGloo

from sunspark.parallel.group import Group
from sunspark.parallel.nccl import ENVIRONMENT, NcclGroup, NcclWork
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.rpc import RpcClient
from tests.gpus import needs_gpus
from tests.parallel.members import SHAPES, TOKEN, Cast, Process, Told, evidence_of_worker, gradients_of

pytestmark = pytest.mark.timeout(120)
MUCH_SOONER_THAN_THE_TIMEOUT = 8.0
LOOK, LONG = timedelta(milliseconds=50), timedelta(seconds=20)


@pytest.fixture
def backends() -> list[ProcessGroupGloo]:
    """Two members in this process, which are connected."""
    store, made = HashStore(), queue.SimpleQueue[ProcessGroupGloo]()

    def connect(rank: int) -> None:
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        options._timeout = timedelta(seconds=20)
        made.put(ProcessGroupGloo(store, rank, 2, options))

    for rank in range(2):
        threading.Thread(target=connect, args=(rank,), daemon=True).start()
    return [made.get(timeout=30) for _ in range(2)]


def start(group: NcclGroup, backend: ProcessGroupGloo, value: float) -> NcclWork:
    """Begin to sum one number; the group is connected through `backend` from now on."""
    group._collectives = backend
    options = AllreduceOptions()
    options.timeout = LONG
    return group.allreduce([torch.tensor([value])], options)


def test_a_wait_may_give_up_and_the_sum_goes_on(backends: list[ProcessGroupGloo]) -> None:
    groups = NcclGroup(), NcclGroup()
    first = start(groups[0], backends[0], 1.0)
    with pytest.raises(RuntimeError, match="not ended yet"):
        first.wait(LOOK)
    assert not first.is_completed()
    (tensor,) = groups[0]._under_way.values()
    second = start(groups[1], backends[1], 2.0)
    assert first.wait(LONG)
    assert second.wait(LONG)
    assert float(tensor) == 3
    assert not groups[0]._under_way, "what has ended is not kept"


def test_aborting_ends_a_wait_from_another_thread(backends: list[ProcessGroupGloo]) -> None:
    group = NcclGroup()
    work = start(group, backends[0], 1.0)
    threading.Timer(0.2, group.abort).start()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="aborted"):
        work.wait(LONG)
    assert time.monotonic() - began < MUCH_SOONER_THAN_THE_TIMEOUT
    with pytest.raises(RuntimeError, match="aborted"):
        start(group, backends[0], 1.0)
    group.abort()  # any number of times
    start(NcclGroup(), backends[1], 2.0).wait(LONG)  # gloo's destructor waits for what is under way


def test_a_sum_that_a_member_does_not_come_to_ends_at_its_deadline(backends: list[ProcessGroupGloo]) -> None:
    group = NcclGroup()
    work = start(group, backends[0], 1.0)
    work._deadline = time.monotonic() + 0.3  # gloo, unlike NCCL, would end it by itself
    with pytest.raises(RuntimeError, match="before its deadline"):
        work.wait(LONG)
    assert work.is_completed(), "nobody should wait for it any more"
    assert group._under_way, "it may still write to its tensor"
    start(NcclGroup(), backends[1], 2.0).wait(LONG)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpus_that_are_not_there_break_the_group_at_once_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it goes without any: gloo has connected, and torchft makes NCCL's group."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    cast = Cast()
    agreement = cast.agreement(absent=2)
    outcome = queue.SimpleQueue[str]()

    def form(name: str) -> None:
        client = RpcClient(cast.server.uri, TOKEN)
        group = Group(client, name, "127.0.0.1", device=torch.device("cuda"))
        try:
            group.form(agreement, 20.0)
        except GroupBrokenError as error:
            outcome.put(str(error))

    for name in agreement.replica_ids:
        threading.Thread(target=form, args=(name,), daemon=True).start()
    messages = [outcome.get(timeout=19) for _ in range(2)]
    cast.close()
    assert all("did not form" in message for message in messages)
    assert any("no GPUs found" in message for message in messages), messages


@pytest.fixture
def cast() -> Iterator[Cast]:
    cast = Cast("cuda")
    yield cast
    cast.close()


@needs_gpus(2)
def test_sums_between_gpus_are_right(cast: Cast) -> None:
    members = cast.add(2)
    for _ in range(3):  # a group is formed again
        cast.form(*members)
        for size in (1, 100_000):
            for worker, member in enumerate(members):
                member.tell("sum", 2.0**worker, size)
            assert [member.hear() for member in members] == [[3.0, 6.0]] * 2


@needs_gpus(2)
def test_all_reduce_between_gpus_equals_summing_by_hand(cast: Cast) -> None:
    members = cast.add(2)
    cast.form(*members)
    expected = [
        sum(g.numpy() for g in pair if g is not None) for pair in zip(*map(gradients_of, range(2)), strict=True)
    ]
    assert len(expected) == len(SHAPES)
    for _ in range(3):  # buckets are used again
        for member in members:
            member.tell("reduce")
        replies = [member.hear() for member in members]
        for gradients, evidence, loss in replies:
            for got, wanted, first in zip(gradients, expected, replies[0][0], strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
                np.testing.assert_array_equal(got, first, "every rank holds the same bits")
            assert (evidence, loss) == (evidence_of_worker(0) + evidence_of_worker(1), 1.0)


def start_summing(cast: Cast, count: int) -> list[Process]:
    members = cast.add(count)
    cast.form(*members)
    for member in members:
        member.tell("sum_for_ever")
    time.sleep(1)
    return members


@needs_gpus(3)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("attempt", range(3))  # what is on its way at that moment differs from time to time
def test_a_member_lost_while_it_sums_ends_the_waits_of_the_others_once_they_are_told(
    cast: Cast, number: signal.Signals, attempt: int
) -> None:
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


@needs_gpus(2)
def test_a_sum_between_gpus_that_a_member_does_not_come_to_ends_at_its_deadline(cast: Cast) -> None:
    members = cast.add(2)
    cast.form(*members)
    began = time.monotonic()
    with pytest.raises(Told, match="GroupBrokenError"):
        members[0].ask("sum_within", 1.0)
    assert 0.9 < time.monotonic() - began < MUCH_SOONER_THAN_THE_TIMEOUT
    members[1].control_now("cut")
    cast.form(*members)


@needs_gpus(2)
def test_cutting_ends_the_forming_of_a_group_between_gpus(cast: Cast) -> None:
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


@needs_gpus(1)
def test_members_on_gpus_share_no_memory(cast: Cast) -> None:
    (member,) = cast.add(1)
    cast.form(member)
    assert not member.ask("shares_memory")
