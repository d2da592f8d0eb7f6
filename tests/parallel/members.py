"""Members of a process group as processes of their own, told what to do over pipes.

They are forked from a server that has loaded torch once. `work` is done one order after the other; `control` is
heard meanwhile, as a worker's pulse is.
"""

import contextlib
import ipaddress
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from sunspark.parallel import nccl
from sunspark.parallel.all_reduce import AllReduce
from sunspark.parallel.codec import codec_of
from sunspark.parallel.compressed_sum import CompressedSum
from sunspark.parallel.group import Group
from sunspark.parallel.ledger import Evidence
from sunspark.parallel.membership import Agreement, Member, Position, replica_id_of
from sunspark.parallel.rendezvous import GroupBrokenError
from sunspark.parallel.rpc import RpcClient, RpcServer

TOKEN = "a token"
SHAPES = ((3_500_000,), (4, 3, 3, 3), (7,), (2, 5))
"""Of the network whose gradients are reduced: several buckets, one of them channels_last."""


class Told(Exception):
    """An error at a member: its class and its words."""


class Process:
    """The test's end of a member."""

    def __init__(self, worker: int, coordinator: str, host: str, device: str) -> None:
        self.host = host
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.replica_id = replica_id_of(worker, 1)
        self.work, work = context.Pipe()
        self.control, control = context.Pipe()
        self.process = context.Process(
            target=_main, args=(worker, coordinator, host, device, work, control), daemon=True
        )
        self.process.start()
        work.close()
        control.close()

    def tell(self, order: str, *arguments: Any) -> None:
        self.work.send((order, arguments))

    def hear(self, timeout_seconds: float = 20.0) -> Any:
        return _heard(self.work, timeout_seconds)

    def ask(self, order: str, *arguments: Any, timeout_seconds: float = 20.0) -> Any:
        self.tell(order, *arguments)
        return self.hear(timeout_seconds)

    def control_now(self, order: str) -> Any:
        self.control.send((order, ()))
        return _heard(self.control, 10)

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)
        self.process.join(10)
        self.process.close()
        self.work.close()
        self.control.close()


class Cast:
    """A coordinator's rendezvous, and the members of one test."""

    def __init__(self, device: str = "cpu") -> None:
        """On `cuda`, each member has a GPU of its own."""
        self._device = device
        self._values: dict[str, str] = {}
        self.server = RpcServer("127.0.0.1", 0, TOKEN, {"put": self._put, "get": self._get})
        self.members: list[Process] = []
        self._quorum_id = 0

    def _put(self, key: str, value: str) -> dict[str, Any]:
        self._values[key] = value
        return {}

    def _get(self, key: str) -> dict[str, Any]:
        return {"value": self._values.get(key)}

    def add(self, count: int, *, hosts: int = 1) -> list[Process]:
        """That many members, on so many hosts in turn (addresses of this machine's loopback)."""
        for worker in range(len(self.members), len(self.members) + count):
            self.members.append(Process(worker, self.server.uri, f"127.0.0.{1 + worker % hosts}", self._device))
        return self.members

    def agreement(self, *members: Process, absent: int = 0) -> Agreement:
        """A new quorum of these members, and of `absent` others that never come."""
        self._quorum_id += 1
        position = Position(step=0, lineage="", counted=0, failures=0)
        named = [(member.replica_id, member.host) for member in members]
        named += [(replica_id_of(90 + i, 1), "127.0.0.1") for i in range(absent)]
        return Agreement(
            quorum_id=self._quorum_id,
            members=tuple(
                Member(replica_id=name, address=f"grpc://{host}:1", position=position) for name, host in named
            ),
        )

    def form(self, *members: Process) -> Agreement:
        agreement = self.agreement(*members)
        for member in members:
            member.tell("form", agreement, 20.0)
        for member in members:
            member.hear()
        return agreement

    def close(self) -> None:
        for member in self.members:
            member.end()
        self.server.shutdown()


def gradients_of(worker: int) -> list[torch.Tensor | None]:
    """What a worker's backward pass leaves; every third worker has no samples, so no gradients at all."""
    if worker % 3 == 2:
        return [None] * len(SHAPES)
    generator = torch.Generator().manual_seed(worker)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def evidence_of_worker(worker: int) -> Evidence:
    return Evidence(samples=10 + worker, sample_sum=2**62 + worker, pixel_sum=-(2**62) - worker)


PULLS = 512


def pull_of(worker: int, weights: torch.Tensor) -> torch.Tensor:
    """The gradient of 0.5 |w - c|^2, with a c for each worker, and in each block a large one that the others cancel."""
    centres = torch.randn(PULLS, generator=torch.Generator().manual_seed(worker))
    gradient = weights - centres
    gradient[::256] += 300.0 if worker % 2 else -300.0
    return gradient


def _heard(connection: Connection, timeout_seconds: float) -> Any:
    if not connection.poll(timeout_seconds):
        raise TimeoutError(f"the member said nothing for {timeout_seconds} s")
    failed, value = connection.recv()
    if failed:
        raise Told(value)
    return value


def _main(worker: int, coordinator: str, host: str, device: str, work: Connection, control: Connection) -> None:
    torch.set_num_threads(1)
    if device == "cuda":
        os.environ |= nccl.ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": str(worker)}
    member = _Member(worker, coordinator, host, torch.device(device))
    threading.Thread(target=_obey, args=(member, control), daemon=True).start()
    _obey(member, work)


def _obey(member: "_Member", connection: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            order, arguments = connection.recv()
            try:
                connection.send((False, getattr(member, order)(*arguments)))
            except Exception as error:
                connection.send((True, f"{type(error).__name__}: {error}"))


class _Member:
    """The member's own side: its orders."""

    def __init__(self, worker: int, coordinator: str, host: str, device: torch.device) -> None:
        self._device = device
        self._worker = worker
        self._client = RpcClient(coordinator, TOKEN)
        self._client.call("get", key="hello")
        self._group = Group(self._client, replica_id_of(worker, 1), host, device=device)
        self._parameters = [nn.Parameter(self._laid_out(torch.zeros(shape, dtype=torch.float64))) for shape in SHAPES]
        self._strategy = AllReduce(self._parameters)

    def form(self, agreement: Agreement, timeout_seconds: float) -> None:
        self._group.form(agreement, timeout_seconds)

    def sum(self, value: float, size: int) -> list[float]:
        """Sum `value` and its double over the members: what came of both."""
        tensors = [
            torch.full((size,), value, device=self._device),
            torch.full((3,), 2 * value, dtype=torch.float64),
        ]
        self._group.wait([self._group.start_all_reduce(tensor, 20) for tensor in tensors])
        assert all(len(tensor.unique()) == 1 for tensor in tensors)
        return [float(tensor[0]) for tensor in tensors]

    def sum_within(self, timeout_seconds: float) -> None:
        self._group.wait([self._group.start_all_reduce(torch.ones(1000, device=self._device), timeout_seconds)])

    def sum_for_ever(self) -> None:
        while True:
            self._group.wait([self._group.start_all_reduce(torch.ones(2_000_000, device=self._device), 60)])

    def reduce(self) -> tuple[list[np.ndarray[Any, Any]], Evidence, float]:
        for parameter, gradient in zip(self._parameters, gradients_of(self._worker), strict=True):
            parameter.grad = None if gradient is None else self._laid_out(gradient)
        totals = torch.from_numpy(evidence_of_worker(self._worker).to_array())
        losses = torch.tensor([self._worker], dtype=torch.float64)
        self._sum_or_keep(self._strategy, (totals, losses))
        gradients = [parameter.grad for parameter in self._parameters]
        assert all(g is not None and g.stride() == p.stride() for g, p in zip(gradients, self._parameters, strict=True))
        evidence = Evidence.from_array(totals.numpy())
        return [g.cpu().numpy() for g in gradients if g is not None], evidence, float(losses)

    def _sum_or_keep(self, exchange: AllReduce, tallies: tuple[torch.Tensor, ...]) -> None:
        """Sum; where that fails, gradients must be as they were."""
        try:
            exchange.reduce(tallies, self._group, 20)
        except GroupBrokenError:
            for parameter, own in zip(self._parameters, gradients_of(self._worker), strict=True):
                assert (parameter.grad is None) == (own is None), "a sum that failed has changed a gradient"
                assert own is None or torch.equal(parameter.grad.cpu(), own), "a sum that failed has changed a gradient"
            raise

    def reduce_tally(self, numbers: list[float]) -> tuple[list[float], int]:
        """Sum gradients and `numbers` over the members: the sums of these, and the bytes that this one has sent."""
        before, tally = self._group.bytes_sent, torch.tensor(numbers, dtype=torch.float64)
        self._strategy.reduce((tally,), self._group, 20)
        return tally.tolist(), self._group.bytes_sent - before

    def reduce_in_backward(self, cuts: bool = False) -> tuple[list[np.ndarray[Any, Any]], int, float]:
        """The same with a backward pass that gradients leave early: what had been sent when it came to its last one.

        `cuts`: the group is cut in the middle of it.
        """
        for parameter in self._parameters:
            parameter.grad = None
        before, seen = self._group.bytes_sent, [0]
        given = gradients_of(self._worker)
        terms = [(p * self._laid_out(g)).sum() for p, g in zip(self._parameters, given, strict=True) if g is not None]
        if terms:
            self._strategy.begin(self._group, 20)
            hooks = [self._parameters[0].register_hook(lambda _: seen.append(self._group.bytes_sent - before))]
            if cuts:
                hooks.append(self._parameters[2].register_hook(lambda _: self._group.cut()))
            torch.stack(terms).sum().backward()
            for hook in hooks:
                hook.remove()
        tallies = (torch.zeros(3, dtype=torch.int64), torch.zeros(1, dtype=torch.float64))
        self._strategy.reduce(tallies, self._group, 20)
        gradients = [parameter.grad for parameter in self._parameters]
        return [g.cpu().numpy() for g in gradients if g is not None], seen[-1], self._strategy.hidden_seconds

    def sum_compressed(self, compression: Literal["bf16", "int8"], numbers: list[float]) -> tuple[list[float], int]:
        """The sum of `numbers` over the members, and how many bytes this one has sent for it."""
        flat, before = torch.tensor(numbers, dtype=torch.float64), self._group.bytes_sent
        _sum_compressed(CompressedSum(len(flat), codec_of(compression)), flat, self._group)
        return flat.tolist(), self._group.bytes_sent - before

    def bytes_of_a_sum(self, size: int) -> int:
        before = self._group.bytes_sent
        self._group.wait([self._group.start_all_reduce(torch.zeros(size), 20)])
        return self._group.bytes_sent - before

    def descend(self, has_feedback: bool, num_steps: int, rate: float) -> list[float]:
        """Where gradient descent on `pull_of` all members comes to, with gradients summed as int8."""
        weights, compressed = torch.zeros(PULLS), CompressedSum(PULLS, codec_of("int8"))
        for _ in range(num_steps):
            gradient = pull_of(self._worker, weights)
            _sum_compressed(compressed, gradient, self._group)
            if has_feedback:
                compressed.commit()
            weights -= rate * gradient
        return weights.tolist()

    def sum_compressed_for_ever(self) -> None:
        compressed = CompressedSum(2_000_000, codec_of("int8"))
        while True:
            _sum_compressed(compressed, torch.ones(2_000_000), self._group)

    def shares_memory(self) -> bool:
        return self._group.share_memory(1 << 20, 20) is not None

    def meet(self, times: int) -> bool:
        """Whether, after each meeting, all had come to it, and none to the one after the next."""
        memory = self._group.share_memory(8 * len(self._group.members), 20)
        assert memory is not None
        come_to, is_well = memory.tensor(torch.int64, 0, len(self._group.members)), True
        for number in range(1, times + 1):
            come_to[self._group.rank] = number
            self._group.meet(20)
            seen = come_to.tolist()
            is_well &= min(seen) >= number and max(seen) <= number + 1
        return is_well

    def meet_within(self, seconds: float, times: int = 2) -> None:
        assert self._group.share_memory(0, 20) is not None
        for _ in range(times):
            self._group.meet(seconds)

    def reduce_compressed(self, compression: Literal["bf16", "int8"], times: int) -> Any:
        """The mean of several sums, of gradients that are the same every time: the largest one, which has two parts."""
        exchange, total = AllReduce(self._parameters, compression=compression), torch.zeros(SHAPES[0]).double()
        for _ in range(times):
            for parameter, gradient in zip(self._parameters, gradients_of(self._worker), strict=True):
                parameter.grad = None if gradient is None else self._laid_out(gradient)
            self._sum_or_keep(exchange, ())
            exchange.commit()
            assert self._parameters[0].grad is not None
            total += self._parameters[0].grad
        return (total / times).numpy()

    def reduce_for_ever(self) -> None:
        while True:
            self.reduce()

    def cut(self) -> int:
        self._group.cut()
        return self._group.failures

    def is_alone(self) -> bool:
        return self._group.is_alone

    def call_coordinator(self) -> Any:
        return self._client.call("get", key="hello", timeout_seconds=5)

    def resources(self) -> tuple[int, int]:
        """Open descriptors and threads, once those of groups that are gone have had the time to go."""
        time.sleep(0.5)
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def listens_on(self) -> set[str]:
        return set(_listening())

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.to(self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _sum_compressed(compressed: CompressedSum, flat: torch.Tensor, group: Group) -> None:
    compressed.send_shards(flat, group, 60)
    compressed.send_sum(group, 60)
    compressed.write(flat, group)


def _listening() -> Iterator[str]:
    """The addresses on which this process listens, from the kernel's tables."""
    mine = {os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _exists(name)}
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with open(table) as file:
            for fields in (line.split() for line in list(file)[1:]):
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
                    raw = bytes.fromhex(fields[1].partition(":")[0])
                    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                    yield str(ipaddress.ip_address(words)).removeprefix("::ffff:")


def _exists(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")
