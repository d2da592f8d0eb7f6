"""Laws of compressed sums, with real processes: the same for all, nearly right, small on the way, and never lost."""

import signal
import time
from collections.abc import Iterator
from itertools import product
from typing import Literal

import pytest
import torch
from torch import nn

from sunspark.parallel.all_reduce import AllReduce
from sunspark.parallel.codec import codec_of
from sunspark.parallel.group import Group
from sunspark.parallel.rpc import RpcClient
from tests.parallel.members import PULLS, Cast, Told, gradients_of, pull_of

pytestmark = pytest.mark.timeout(120)

CODECS: tuple[Literal["bf16", "int8"], ...] = ("bf16", "int8")
each_codec = pytest.mark.parametrize("compression", CODECS)


@pytest.fixture
def cast() -> Iterator[Cast]:
    cast = Cast()
    yield cast
    cast.close()


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_sum_is_the_same_for_all_and_nearly_right_and_small_on_the_way(cast: Cast, world_size: int) -> None:
    members = cast.add(world_size)
    cast.form(*members)
    for compression, size in product(CODECS, (1, 255, 256, 5000)):
        numbers = [torch.randn(size, generator=torch.Generator().manual_seed(worker)).tolist() for worker in range(3)]
        for member, mine in zip(members, numbers, strict=False):
            member.tell("sum_compressed", compression, mine)
        sums = [member.hear()[0] for member in members]
        assert all(one == sums[0] for one in sums)
        exact = torch.tensor(numbers[:world_size]).sum(0)
        step = {"bf16": 2**-8, "int8": 1 / 127}[compression] * max(abs(number) for one in numbers for number in one)
        assert float((torch.tensor(sums[0]) - exact).abs().max()) <= 2 * world_size * step
    size = world_size * 256 * 100
    for member in members:
        member.tell("bytes_of_a_sum", size)
    plain = [member.hear() for member in members]
    for compression, share in (("bf16", 0.5), ("int8", 0.27)):
        for member in members:
            member.tell("sum_compressed", compression, [1.0] * size)
        sent = [member.hear()[1] for member in members]
        assert all(0 < few <= share * many for few, many in zip(sent, plain, strict=True))


@each_codec
@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(compression: Literal["bf16", "int8"], odd: float) -> None:
    codec = codec_of(compression)
    numbers, decoded = torch.ones(512), torch.zeros(512)
    numbers[7] = odd
    encoded = torch.empty(codec.num_bytes(512), dtype=torch.uint8)
    codec.encode(numbers, encoded)
    codec.decode(encoded, decoded)
    assert not torch.isfinite(decoded).all()


@each_codec
def test_what_is_lost_and_what_is_decoded_make_the_whole(compression: Literal["bf16", "int8"]) -> None:
    codec = codec_of(compression)
    numbers = torch.randn(256 * 3000, generator=torch.Generator().manual_seed(0))
    lost, decoded = numbers.clone(), torch.ones_like(numbers)
    encoded = torch.empty(codec.num_bytes(len(numbers)), dtype=torch.uint8)
    codec.encode(lost, encoded)
    assert 0 < float(lost.abs().max()) < 0.03 * float(numbers.abs().max())
    codec.decode(encoded, decoded, adds=True)
    torch.testing.assert_close(decoded - 1 + lost, numbers, rtol=0, atol=1e-5)
    codec.decode(encoded, decoded)
    torch.testing.assert_close(decoded + lost, numbers, rtol=0, atol=1e-5)


def loss_of(weights: torch.Tensor, world_size: int) -> float:
    """The mean of 0.5 |w - c|^2 over the workers, but for the numbers that hold the large pair."""
    kept = torch.ones(PULLS, dtype=torch.bool)
    kept[::256] = False
    return sum(float(pull_of(worker, weights)[kept].square().sum()) for worker in range(world_size)) / world_size / 2


def test_feedback_makes_up_for_what_int8_loses_and_without_it_little_is_learned(cast: Cast) -> None:
    """Strongly convex: with feedback the loss of exact gradients to 2 %; the small gradients are all lost without."""
    num_steps, rate = 800, 0.01
    exact = torch.zeros(PULLS)
    for _ in range(num_steps):
        exact -= rate * (pull_of(0, exact) + pull_of(1, exact))
    members = cast.add(2)
    cast.form(*members)
    losses = {}
    for has_feedback in (True, False):
        for member in members:
            member.tell("descend", has_feedback, num_steps, rate)
        one, other = (torch.tensor(member.hear(60.0)) for member in members)
        assert torch.equal(one, other)
        losses[has_feedback] = loss_of(one, 2)
    least = loss_of(exact, 2)
    assert losses[True] <= 1.02 * least
    assert losses[False] > 1.3 * least


@each_codec
def test_gradients_that_travel_in_parts_are_made_up_for_part_by_part(
    cast: Cast, compression: Literal["bf16", "int8"]
) -> None:
    """The third worker has no samples. What one sum loses the next has, so the mean is closer than any sum."""
    members, times = cast.add(3), 6
    cast.form(*members)
    for member in members:
        member.tell("reduce_compressed", compression, times)
    means = [torch.from_numpy(member.hear(60.0)) for member in members]
    assert torch.equal(means[0], means[1])
    assert torch.equal(means[0], means[2])
    gradients = [one[0] for one in map(gradients_of, range(2)) if one[0] is not None]
    step = {"bf16": 2**-8, "int8": 1 / 127}[compression] * float(torch.stack(gradients).abs().max())
    assert float((means[0] - sum(gradients)).abs().max()) <= 2 * 3 * step / times


@each_codec
def test_a_member_that_is_killed_changes_no_gradient_of_the_others(
    cast: Cast, compression: Literal["bf16", "int8"]
) -> None:
    members = [*cast.add(3)]
    cast.form(*members)
    for member in members:
        member.tell("reduce_compressed", compression, 100_000)
    time.sleep(1.5)
    members.pop(1).send_signal(signal.SIGKILL)
    for member in members:
        member.control_now("cut")
        with pytest.raises(Told, match="GroupBrokenError"):
            member.hear()


def test_a_member_that_is_killed_ends_the_sum_for_the_others(cast: Cast) -> None:
    members = cast.add(3)
    cast.form(*members)
    for member in members:
        member.tell("sum_compressed_for_ever")
    time.sleep(0.5)
    members[1].send_signal(signal.SIGKILL)
    time.sleep(0.2)
    began = time.monotonic()
    for member in (members[0], members[2]):
        member.control_now("cut")
        with pytest.raises(Told, match="GroupBrokenError"):
            member.hear()
    assert time.monotonic() - began < 8


def test_what_a_broken_exchange_has_lost_is_not_made_up_for() -> None:
    """The sum had come about, and the group broke behind it; then the worker does the step alone."""
    parameter = nn.Parameter(torch.zeros(300))
    exchange = AllReduce([parameter], compression="int8")
    ((compressed,),) = [bucket.sums for bucket in exchange._compressed]
    compressed._staged = torch.ones(300)
    group = Group(RpcClient("grpc://127.0.0.1:1", "a token"), "0000.000001", "127.0.0.1")
    group.members = ("0000.000001",)
    exchange.reduce((), group, 1.0)
    exchange.commit()
    assert parameter.grad is not None, "zeros, as a sum over several has: an optimizer may decay them"
    assert not compressed._residual.any()
