"""A training as a discrete-event simulation: its strategy's exchanges and waits, with costs that were measured.

What workers compute varies from step to step (log-normal), so who waits for whom comes out of the simulation. Where
workers meet, time goes from one exchange to the next; with a server, from event to event: each worker takes its turn
at the link down, computes, takes its turn at the link up and at the server. Workers may be slower than others
(`slowness`) and may die (`Failures`). The same arguments give the same result.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sunspark.bench.costs import BYTES_DOWN, BYTES_PER_NUMBER, QUORUM_SECONDS_PER_WORKER, Costs
from sunspark.errors import RunError
from sunspark.parallel.codec import Compression

_EXCHANGES: Final = 60
"""That are simulated where workers meet: what they take is then known to a percent or two."""
_UNITS_PER_WORKER: Final = 24
_SETTLE_ROUNDS: Final = 4
"""How often a simulation with a server is repeated until the number of workers that compute at once is known."""
_LEAST_SHARE: Final = 0.05
"""Of an exchange, that nothing hides and no fit takes away: the last gradients leave when backward is over."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A way of training, as far as it decides how long a step takes."""

    strategy: str
    workers: int
    global_batch_size: int
    steps_per_exchange: int = 1
    replicas: int = 0
    """0: one a worker."""
    compression: Compression = "none"
    exchanges_moments: bool = False

    @property
    def num_replicas(self) -> int:
        """Slices of a step."""
        return self.replicas or self.workers

    @property
    def slice_size(self) -> float:
        """Images of a slice."""
        return self.global_batch_size / self.num_replicas


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """Workers that die, and come back."""

    per_worker_hour: float
    notice_seconds: float = 2.0
    """Until the others know, and meet anew."""
    return_seconds: float = 30.0
    """Until the worker computes again."""


def seconds_per_step(
    setting: Setting,
    costs: Costs,
    *,
    slowness: Sequence[float] = (),
    failures: Failures | None = None,
    num_exchanges: int = _EXCHANGES,
    seed: int = 0,
) -> float:
    """How long a step of the whole global batch takes, on average.

    `slowness` are factors of the first workers, the others have 1. Raises RunError when costs that it takes are not
    known.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    factors = np.ones(setting.workers)
    factors[: len(slowness)] = slowness
    if setting.strategy in ("async", "hogwild"):
        return _with_server(setting, costs, factors, failures, random)
    return _meeting(setting, costs, factors, failures, num_exchanges, random)


def _meeting(
    setting: Setting,
    costs: Costs,
    factors: _Floats,
    failures: Failures | None,
    num_exchanges: int,
    random: np.random.Generator,
) -> float:
    """Everybody waits for the slowest, once an exchange."""
    steps = setting.steps_per_exchange
    exchange = _exchange_seconds(setting, costs)
    seconds, gone_until = 0.0, np.zeros(setting.workers)
    for _ in range(num_exchanges):
        here = np.flatnonzero(gone_until <= seconds)
        if not len(here):  # all are dead: the first that comes back
            seconds = float(gone_until.min())
            here = np.flatnonzero(gone_until <= seconds)
        computing = _computing_seconds(setting, costs, factors[here], random)
        took = float(computing.max()) + exchange + _rest_seconds(steps, costs, len(here))
        while failures and (dead := _first_death(failures, here, took, random)) is not None:
            who, when = dead
            gone_until[who] = seconds + when + failures.return_seconds
            here = here[here != who]
            # A step is done again as a whole; of a round only what the dead worker had done of it.
            seconds += when + failures.notice_seconds if steps == 1 else failures.notice_seconds
            if not len(here):
                took = 0.0
                break
            computing = _computing_seconds(setting, costs, factors[here], random)
            took = float(computing.max()) + exchange + _rest_seconds(steps, costs, len(here))
        seconds += took
    return seconds / (num_exchanges * steps)


def _computing_seconds(setting: Setting, costs: Costs, factors: _Floats, random: np.random.Generator) -> _Floats:
    """From one exchange to the next, of each worker; those that are missing leave their replicas to the others."""
    steps, here = setting.steps_per_exchange, len(factors)
    slices = -(-setting.num_replicas // here)
    one = costs.slice_of(setting.slice_size) * costs.crowded(here)
    is_local = setting.strategy in ("local_sgd", "diloco")
    optimizer = costs.optimizer_seconds * (slices if is_local else 1)
    noise = np.exp(costs.spread / math.sqrt(steps) * random.standard_normal(here))
    computed: _Floats = steps * (slices * one * factors * noise + optimizer * costs.crowded(here))
    return computed


def _exchange_seconds(setting: Setting, costs: Costs) -> float:
    """What an exchange takes once the last worker has come, beyond what it hides behind its backward pass."""
    if setting.workers == 1:
        return 0.0
    if setting.strategy in ("local_sgd", "diloco"):
        if costs.round_seconds is None:
            raise RunError("no run had rounds (local_sgd, diloco): what they take is not known")
        moments = costs.network.moments if setting.exchanges_moments else 0
        total = costs.sum_seconds(setting.workers, setting.compression, moments=moments)
        return max(_LEAST_SHARE * total, total + costs.round_seconds)
    total = costs.sum_seconds(setting.workers, setting.compression)
    computing = costs.slice_of(setting.slice_size) * costs.crowded(setting.workers)
    return max(_LEAST_SHARE * total, total - costs.hideable * costs.backward * computing)


def _rest_seconds(steps: int, costs: Costs, workers: int) -> float:
    """From one exchange to the next: one quorum, and the bookkeeping of each step."""
    return steps * costs.rest_seconds + QUORUM_SECONDS_PER_WORKER * (workers - 1)


def _first_death(
    failures: Failures, here: npt.NDArray[np.int64], seconds: float, random: np.random.Generator
) -> tuple[int, float] | None:
    """Who of those that are here dies first within so many seconds, and when."""
    when = float(random.exponential(3600 / (failures.per_worker_hour * len(here))))
    return (int(random.choice(here)), when) if when < seconds else None


def _with_server(
    setting: Setting, costs: Costs, factors: _Floats, failures: Failures | None, random: np.random.Generator
) -> float:
    """Nobody waits for another but at the server and its link. How many compute at once decides how fast they do."""
    seeds = int(random.integers(2**32))
    at_once = float(setting.workers)
    for _ in range(_SETTLE_ROUNDS):
        served = _Served.of(setting, costs, at_once)
        seconds, share = served.run(factors, failures, np.random.Generator(np.random.Philox(key=seeds)))
        at_once = max(1.0, setting.workers * share)
    return seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class _Served:
    """Times of one unit, the steps of one replica from one exchange to the next."""

    compute: float
    down: float
    """Of the driver's link, during which it serves no other worker."""
    up: float
    server: float
    own: float
    """Beyond these."""
    spread: float
    steps_per_unit: float
    """Steps of the whole global batch that a unit amounts to."""

    @classmethod
    def of(cls, setting: Setting, costs: Costs, at_once: float) -> "_Served":
        if costs.server_seconds is None or costs.unit_seconds is None:
            raise RunError("no run had a parameter server (async, hogwild): what one takes is not known")
        steps = setting.steps_per_exchange
        parameters, byte_seconds = costs.network.parameters, costs.byte_seconds or 0.0
        one = costs.slice_of(setting.slice_size) + costs.optimizer_seconds
        return cls(
            compute=steps * one * costs.crowded(at_once),
            down=parameters * BYTES_DOWN[setting.compression] * byte_seconds,
            up=parameters * BYTES_PER_NUMBER[setting.compression] * byte_seconds,
            server=costs.server_seconds,
            own=costs.unit_seconds,
            spread=costs.spread / math.sqrt(steps),
            steps_per_unit=steps / setting.num_replicas,
        )

    def run(self, factors: _Floats, failures: Failures | None, random: np.random.Generator) -> tuple[float, float]:
        """Seconds per step, and the share of their time in which workers compute."""
        num_units = _UNITS_PER_WORKER * len(factors)
        noise = np.exp(self.spread * random.standard_normal(num_units))
        waiting = [(0.0, worker, 0) for worker in range(len(factors))]  # (when, who, which station is next)
        heapq.heapify(waiting)
        free = dict.fromkeys(("down", "up", "server"), 0.0)
        computed, done, warm, began = 0.0, 0, num_units // 4, 0.0
        started = 0
        while done < num_units:
            now, worker, station = heapq.heappop(waiting)
            if station == 0:
                free["down"] = max(now, free["down"]) + self.down
                took = float(self.compute * factors[worker] * noise[started % num_units])
                started += 1
                computed += took
                end = free["down"] + took + self.own
                if failures and (dies := float(random.exponential(3600 / failures.per_worker_hour))) < end - now:
                    heapq.heappush(waiting, (now + dies + failures.return_seconds, worker, 0))  # its unit is lost
                    continue
                heapq.heappush(waiting, (end, worker, 1))
                continue
            free["up"] = max(now, free["up"]) + self.up
            free["server"] = max(free["up"], free["server"]) + self.server
            heapq.heappush(waiting, (free["server"], worker, 0))
            done += 1
            if done == warm:
                began = free["server"]
        end = free["server"]
        seconds = (end - began) / ((num_units - warm) * self.steps_per_unit)
        return seconds, min(1.0, computed / (len(factors) * end)) if end else 0.0
