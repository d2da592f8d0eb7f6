"""The doctor's errand on an executor: look around, meet the others, measure the ways between, report.

It listens only at the address with which it reached the driver, on a free port, and answers only who has the token, as
workers do. Free of torch: the report must come also where torch cannot be imported.
Cost: 32 MB over each measured way, at most 3 s of reading the dataset.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import DeadlineError, SunsparkError
from sunspark.launch.doctor.machine import look_around
from sunspark.parallel.rpc import RpcClient, RpcServer, address_towards

PEER_SECONDS: Final = 5.0
"""Longest wait for one answer of a peer, and for the bytes of a measurement twice as long."""

_DATASET_SECONDS: Final = 30.0
_READING_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.1
_PINGS: Final = 5
_CHUNK_BYTES: Final = 2**20
_NUM_CHUNKS: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """What a probe is told."""

    executor: str
    """Who is visited; empty for whoever opens."""
    driver: str
    """grpc:// address of the meeting."""
    token: str
    dataset: str | None
    cache_directory: str | None
    timeout_seconds: float
    """For each wait for the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """The way from here to one peer."""

    peer: str
    latency_seconds: float | None = None
    """There and back, the best of some; None when nothing came back."""
    bytes_per_second: float | None = None
    """None where it was not measured: only the way to the next executor is, all at the same time."""
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What a probe has measured."""

    clock_ahead_seconds: float
    """How far this clock is ahead of the driver's."""
    dataset_bytes_per_second: float | None
    dataset_error: str
    ways: list[Way]


def probe(errand: Mapping[str, Any]) -> None:
    """Do the errand. Raises DeadlineError or WorkerError when the driver cannot be reached."""
    order = from_dict(Errand, errand)
    driver = RpcClient(order.driver, order.token)
    host = address_towards(order.driver)
    server = RpcServer(host, 0, order.token, {"ping": lambda: {}}, {"bytes": _chunks})
    try:
        machine = asdict(look_around(order.cache_directory))
        is_wanted = driver.call("join", executor=order.executor, uri=server.uri, machine=machine)["is_wanted"]
        peers = _wait(driver, order, "measure")["peers"]  # a second probe of an executor only keeps its slot
        if is_wanted:
            findings = measure(peers, order, driver)
            driver.call("hand_in", executor=order.executor, findings=asdict(findings))
            _wait(driver, order, "leave")
    finally:
        server.shutdown()
        driver.close()


def measure(peers: Mapping[str, str], order: Errand, driver: RpcClient) -> Findings:
    """Everything that can be measured from here. `peers`: executor -> address, this one among them."""
    speed, error = read_speed(order.dataset, sorted(peers).index(order.executor)) if order.dataset else (None, "")
    return Findings(
        clock_ahead_seconds=_clock_ahead(driver),
        dataset_bytes_per_second=speed,
        dataset_error=error,
        ways=list(ways_from(order.executor, peers, order.token)),
    )


def ways_from(executor: str, peers: Mapping[str, str], token: str) -> Iterator[Way]:
    """The ways from an executor to all others, the next in the ring with its bandwidth."""
    names = sorted(peers)
    place = names.index(executor)
    following = [*names[place + 1 :], *names[:place]]
    for number, peer in enumerate(following):
        yield _way_to(peer, peers[peer], token, with_bandwidth=number == 0)


def read_speed(dataset: str, first_block: int) -> tuple[float | None, str]:
    """Bytes per second at which blocks come from storage, and what is wrong when none does."""
    answers: list[tuple[float | None, str]] = []

    def read() -> None:
        try:
            answers.append((_read_blocks(Dataset.open(dataset), first_block), ""))
        except (SunsparkError, OSError) as error:
            answers.append((None, str(error)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(_DATASET_SECONDS)
    return answers[0] if answers else (None, f"{dataset} gave nothing within {_DATASET_SECONDS:.0f} s")


def _read_blocks(dataset: Dataset, first_block: int) -> float:
    """Read blocks one after the other, from another one on than the other executors."""
    started, num_bytes = time.monotonic(), 0
    for number in range(dataset.num_blocks):
        block = dataset.read_block((first_block + number) % dataset.num_blocks)
        num_bytes += sum(map(len, block.images))
        if time.monotonic() - started > _READING_SECONDS:
            break
    return num_bytes / max(time.monotonic() - started, 1e-9)


def _way_to(peer: str, uri: str, token: str, *, with_bandwidth: bool) -> Way:
    client = RpcClient(uri, token)
    try:
        latency = min(_round_trip(client) for _ in range(_PINGS))
        speed = _bandwidth(client) if with_bandwidth else None
    except SunsparkError as error:
        return Way(peer=peer, error=str(error))
    finally:
        client.close()
    return Way(peer=peer, latency_seconds=latency, bytes_per_second=speed)


def _round_trip(client: RpcClient) -> float:
    started = time.perf_counter()
    client.call("ping", timeout_seconds=PEER_SECONDS)
    return time.perf_counter() - started


def _bandwidth(client: RpcClient) -> float:
    started = time.perf_counter()
    num_bytes = sum(len(chunk) for chunk in client.read_chunks("bytes", timeout_seconds=2 * PEER_SECONDS))
    return num_bytes / (time.perf_counter() - started)


def _chunks() -> Iterator[bytes]:
    chunk = os.urandom(_CHUNK_BYTES)  # nothing on the way can make it smaller
    return (chunk for _ in range(_NUM_CHUNKS))


def _clock_ahead(driver: RpcClient) -> float:
    """This clock against the driver's, by the fastest of some questions (Cristian's algorithm)."""
    best, ahead = float("inf"), 0.0
    for _ in range(_PINGS):
        asked = time.time()
        theirs = float(driver.call("clock")["seconds"])
        answered = time.time()
        if answered - asked < best:
            best, ahead = answered - asked, (asked + answered) / 2 - theirs
    return ahead


def _wait(driver: RpcClient, order: Errand, moment: str) -> dict[str, Any]:
    """Wait until the driver says that the moment has come."""
    deadline = time.monotonic() + 2 * order.timeout_seconds + _DATASET_SECONDS
    while not (reply := driver.call("wait", moment=moment))["has_come"]:
        if time.monotonic() > deadline:
            raise DeadlineError(f"the driver did not say {moment!r} in time")
        time.sleep(_POLL_SECONDS)
    return reply
