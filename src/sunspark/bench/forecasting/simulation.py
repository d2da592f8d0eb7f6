"""A training as a discrete-event simulation: its strategy's exchanges and waits, with costs that were measured.

What workers compute varies from step to step (log-normal), so who waits for whom comes out of the simulation. Where
workers meet, time goes from one exchange to the next; with a server, from event to event: each worker takes its turn
at the link down, computes, takes its turn at the link up and at the server. Workers may be slower than others
(`slowness`) and may die (`Failures`). The same arguments give the same result.
"""

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sunspark.bench.forecasting.costs import BYTES_DOWN, BYTES_PER_NUMBER, QUORUM_SECONDS_PER_WORKER, Costs
from sunspark.data.order import replicas_of
from sunspark.errors import ConfigError, RunError
from sunspark.parallel.codec import Compression

_EXCHANGES: Final = 40
"""That are simulated: what they take is then known to some percent."""
_MOST_DEATHS: Final = 100
"""For each exchange, on average."""
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
    def slices(self) -> int:
        """Of a step, that the busiest worker computes one after the other."""
        return -(-self.num_replicas // self.workers)

    @property
    def is_local(self) -> bool:
        """Whether replicas take steps of their own between two exchanges."""
        return self.strategy in ("local_sgd", "diloco")

    @property
    def slice_size(self) -> float:
        """Images of a slice."""
        return self.global_batch_size / self.num_replicas


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """Workers that die, and come back. Where all are dead at once, what that costs beyond the wait is not counted."""

    per_worker_hour: float
    notice_seconds: float = 2.0
    """Until the others know, and meet anew."""
    return_seconds: float = 30.0
    """Until the worker computes again."""

    def __post_init__(self) -> None:
        if not 0 < self.per_worker_hour < math.inf:
            raise ConfigError(
                f"per_worker_hour must be above 0, got {self.per_worker_hour}; leave failures out for none"
            )


def seconds_per_step(
    setting: Setting,
    costs: Costs,
    *,
    slowness: Sequence[float] = (),
    failures: Failures | None = None,
    num_exchanges: int = _EXCHANGES,
    seed: int = 0,
) -> float:
    """How long a step of the whole global batch takes, on average over so many exchanges (of each worker).

    `slowness` are factors of the first workers, the others have 1. Failures change nothing of how long computing takes:
    what they cost is the difference. Raises RunError when costs that it takes are not known, or workers die faster than
    they come to an exchange.
    """
    noise, deaths = (np.random.Generator(np.random.Philox(key=(seed, stream))) for stream in range(2))
    factors = np.ones(setting.workers)
    factors[: len(slowness)] = slowness
    noise_EW = noise.standard_normal((num_exchanges, setting.workers))
    if setting.strategy in ("async", "hogwild"):
        return _with_server(setting, costs, factors, noise_EW, failures, deaths)
    return _meeting(setting, costs, factors, noise_EW, failures, deaths)


def _meeting(
    setting: Setting,
    costs: Costs,
    factors: _Floats,
    noise_EW: _Floats,
    failures: Failures | None,
    deaths: np.random.Generator,
) -> float:
    """Everybody waits for the slowest, once an exchange."""
    steps, exchange = setting.steps_per_exchange, _exchange_seconds(setting, costs)
    seconds, gone_until = 0.0, np.zeros(setting.workers)
    attempts = itertools.count()
    for noise_W in noise_EW:
        is_done = False
        while not is_done:
            here = np.flatnonzero(gone_until <= seconds)
            if not len(here):
                seconds = float(gone_until.min())
                continue
            computing = _computing_seconds(setting, costs, factors[here], noise_W[here])
            took = float(computing.max()) + exchange + _rest_seconds(steps, costs, len(here))
            dead = failures and _first_death(failures, here, took, deaths)
            if not (failures and dead):
                seconds, is_done = seconds + took, True
                continue
            who, when = dead
            gone_until[who] = seconds + when + failures.return_seconds
            if steps == 1 or len(here) == 1:  # it is done again as a whole
                seconds += when + failures.notice_seconds
            elif when + failures.return_seconds < failures.notice_seconds + took:
                # Who comes back does its part of the round from the start; the others have long done theirs.
                seconds, is_done = seconds + when + failures.return_seconds + took, True
            else:  # what the others have done counts, and they share its part
                seconds += failures.notice_seconds
            if next(attempts) > _MOST_DEATHS * len(noise_EW):
                raise RunError(f"with {failures.per_worker_hour:g} deaths an hour, workers do not come to an exchange")
    return seconds / (len(noise_EW) * steps)


def _computing_seconds(setting: Setting, costs: Costs, factors: _Floats, noise: _Floats) -> _Floats:
    """From one exchange to the next, of each worker; those that are missing leave their replicas to the others."""
    steps, here = setting.steps_per_exchange, len(factors)
    slices = np.array([len(replicas_of(rank, here, setting.num_replicas)) for rank in range(here)])
    one = costs.slice_of(setting.slice_size) * costs.crowded(here)
    optimizer = costs.optimizer_seconds * costs.crowded(here) * (slices if setting.is_local else np.ones(here))
    varied = np.exp(costs.spread_of(here) / math.sqrt(steps) * noise)
    computed: _Floats = steps * (slices * one * factors * varied + optimizer)
    return computed


def _exchange_seconds(setting: Setting, costs: Costs) -> float:
    """What an exchange takes once the last worker has come, beyond what it hides behind its backward pass."""
    if setting.workers == 1:
        return 0.0
    if setting.is_local:
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
    setting: Setting,
    costs: Costs,
    factors: _Floats,
    noise_EW: _Floats,
    failures: Failures | None,
    deaths: np.random.Generator,
) -> float:
    """Nobody waits for another but at the server and its link. How many compute at once decides how fast they do."""
    state, at_once, seconds = deaths.bit_generator.state, float(setting.workers), 0.0
    for _ in range(_SETTLE_ROUNDS):
        deaths.bit_generator.state = state
        varied_EW = np.exp(costs.spread_of(at_once) / math.sqrt(setting.steps_per_exchange) * noise_EW)
        seconds, share = _Unit.of(setting, costs, at_once).run(factors, varied_EW, failures, deaths)
        at_once = max(1.0, setting.workers * share)
    return seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unit:
    """Times of one unit, the steps of one replica from one exchange to the next."""

    compute: float
    down: float
    """Of the driver's link, during which it serves no other worker."""
    up: float
    server: float
    own: float
    """Beyond these."""
    num_steps: float
    """Steps of the whole global batch that a unit amounts to."""

    @classmethod
    def of(cls, setting: Setting, costs: Costs, at_once: float) -> "_Unit":
        if costs.server_seconds is None or costs.unit_seconds is None:
            raise RunError("no run had a parameter server (async, hogwild): what one takes is not known")
        steps, parameters = setting.steps_per_exchange, costs.network.parameters
        byte_seconds = costs.server_byte_seconds or costs.byte_seconds or 0.0
        one = costs.slice_of(setting.slice_size) + costs.optimizer_seconds
        return cls(
            compute=steps * one * costs.crowded(at_once),
            down=parameters * BYTES_DOWN[setting.compression] * byte_seconds,
            up=parameters * BYTES_PER_NUMBER[setting.compression] * byte_seconds,
            server=costs.server_seconds,
            own=costs.unit_seconds + steps * costs.rest_seconds,
            num_steps=steps / setting.num_replicas,
        )

    def run(
        self, factors: _Floats, varied_EW: _Floats, failures: Failures | None, deaths: np.random.Generator
    ) -> tuple[float, float]:
        """Seconds per step, and the share of their time in which workers compute."""
        num_units, workers = varied_EW.size, len(factors)
        varied = varied_EW.ravel()
        waiting = [(0.0, worker, False) for worker in range(workers)]  # when, who, whether it has something to push
        down_free = up_free = server_free = computed = began = 0.0
        started = done = lost = 0
        warm = num_units // 4
        while done < num_units:
            now, worker, pushes = heapq.heappop(waiting)
            if pushes:
                up_free = max(now, up_free) + self.up
                server_free = max(up_free, server_free) + self.server
                heapq.heappush(waiting, (server_free, worker, False))
                done += 1
                began = server_free if done == warm else began
                continue
            pulled = max(now, down_free) + self.down
            took = float(self.compute * factors[worker] * varied[started % num_units])
            end = pulled + took + self.own
            dies = now + float(deaths.exponential(3600 / failures.per_worker_hour)) if failures else math.inf
            if failures and dies < end:  # its unit is lost
                heapq.heappush(waiting, (dies + failures.return_seconds, worker, False))
                lost += 1
                if lost > _MOST_DEATHS * num_units:
                    raise RunError(
                        f"with {failures.per_worker_hour:g} deaths an hour, workers do not come to an exchange"
                    )
                continue
            down_free, started, computed = pulled, started + 1, computed + took
            heapq.heappush(waiting, (end, worker, True))
        seconds = (server_free - began) / ((num_units - warm) * self.num_steps)
        return seconds, min(1.0, computed / (workers * server_free)) if server_free else 0.0
