"""From what runs have told to the costs of training where they ran.

Each cost follows from the runs that show it best: computing from one worker alone, at several sizes of a slice;
crowding from workers that compute at the same time; the ring from sums that nobody waited for; what a round or a unit
takes beyond these from runs that have them. Where two runs say the same, the median counts.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from sunspark.bench.forecasting.costs import (
    BYTES_DOWN,
    BYTES_PER_NUMBER,
    QUORUM_SECONDS_PER_WORKER,
    Costs,
    NetworkSize,
    hops,
    ring_share,
)
from sunspark.bench.forecasting.observation import Observation
from sunspark.bench.forecasting.simulation import Setting, seconds_per_step
from sunspark.errors import RunError

_SERVER_SHARES: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of what a unit takes beyond steps and bytes, what the server may take of it."""
_LINK_FACTORS: Final = (1.0, 1.2, 1.4, 1.7, 2.0)
"""How much longer a byte may take over the driver's link, where streams meet in both directions, than in a ring."""


def fit(observations: Sequence[Observation], network: NetworkSize) -> Costs:
    """The costs of one network in one place; what no run tells is None.

    Raises RunError when none tells how long computing takes.
    """
    alone = [one for one in observations if one.workers == 1 and one.strategy == "serial"]
    if not alone:
        raise RunError("no run had one worker alone (--strategy serial): what computing takes is not known")
    slice_seconds, image_seconds = _line(alone)
    costs = Costs(
        network=network,
        slice_seconds=slice_seconds,
        image_seconds=image_seconds,
        optimizer_seconds=statistics.median(one.optimizer_seconds for one in alone),
        rest_seconds=max(0.0, statistics.median(map(_rest, alone))),
        crowding={"1": 1.0},
        spread=_spread(observations),
        backward=statistics.median(one.backward_seconds / one.compute_seconds for one in alone),
        memory_bytes=_largest(observations),
        start_seconds=statistics.median(one.start_seconds for one in observations),
    )
    costs = replace(costs, crowding=_crowding(observations, costs))
    summing = [one for one in observations if one.strategy == "all_reduce" and one.workers > 1]
    costs = _with_sums(costs, summing)
    costs = _with_rounds(costs, [one for one in observations if one.strategy in ("local_sgd", "diloco")])
    return _with_server(costs, [one for one in observations if one.strategy in ("async", "hogwild")])


def _line(alone: Sequence[Observation]) -> tuple[float, float]:
    """Seconds of a slice and of an image; least squares of relative errors, neither below zero."""
    sizes = np.array([one.slice_size for one in alone])
    seconds = np.array([one.compute_seconds for one in alone])
    if len(set(sizes.tolist())) == 1:
        return 0.0, float(np.median(seconds / sizes))
    return _least_squares(np.ones_like(sizes), sizes, seconds)


def _least_squares(
    one: "np.typing.NDArray[np.float64]",
    other: "np.typing.NDArray[np.float64]",
    seconds: "np.typing.NDArray[np.float64]",
) -> tuple[float, float]:
    """x and y of x * one + y * other = seconds, by relative errors; neither below zero."""
    matrix = np.stack([one, other], axis=1) / seconds[:, None]
    (x, y), *_ = np.linalg.lstsq(matrix, np.ones(len(seconds)), rcond=None)
    if x < 0:
        x, y = 0.0, float(np.median(seconds / other))
    elif y < 0:
        x, y = float(np.median(seconds / one)), 0.0
    return float(x), float(y)


def _rest(one: Observation) -> float:
    """Of a step, what no record names."""
    return one.period_seconds - one.slices * one.compute_seconds - one.optimizer_seconds


def _largest(observations: Iterable[Observation]) -> dict[str, int]:
    largest: dict[str, int] = {}
    for one in observations:
        largest[one.strategy] = max(one.peak_worker_bytes, largest.get(one.strategy, 0))
    return largest


def _spread(observations: Iterable[Observation]) -> dict[str, float]:
    """Of runs whose records tell each step apart."""
    found: dict[int, list[float]] = {}
    for one in observations:
        if one.strategy in ("serial", "all_reduce"):
            found.setdefault(one.workers, []).append(one.spread)
    return {str(workers): statistics.median(found[workers]) for workers in sorted(found)}


def _crowding(observations: Iterable[Observation], costs: Costs) -> dict[str, float]:
    """Of workers that all compute between two meetings; with a server, they need not be at it together."""
    factors: dict[int, list[float]] = {}
    for one in observations:
        if one.workers > 1 and one.strategy in ("all_reduce", "local_sgd", "diloco"):
            factors.setdefault(one.workers, []).append(one.compute_seconds / costs.slice_of(one.slice_size))
    known = {str(workers): max(1.0, statistics.median(factors[workers])) for workers in sorted(factors)}
    return {"1": 1.0, **known}


def _with_sums(costs: Costs, summing: Sequence[Observation]) -> Costs:
    """Latency and bandwidth of a ring, what may be hidden, what encoding takes."""
    plain = [one for one in summing if one.compression == "none"]
    if not plain:
        return costs
    num_bytes = BYTES_PER_NUMBER["none"] * costs.network.parameters
    seconds = np.array([one.exchange_seconds + one.hidden_seconds for one in plain])
    messages = np.array([float(hops(one.workers)) for one in plain])
    shares = np.array([ring_share(one.workers) * num_bytes for one in plain])
    if len({one.workers for one in plain}) > 1:
        latency, byte_seconds = _least_squares(messages, shares, seconds)
    else:  # one number of workers tells no latency
        latency, byte_seconds = 0.0, float(np.median(seconds / shares))
    costs = replace(
        costs,
        latency_seconds=latency,
        byte_seconds=byte_seconds,
        hideable=max(one.hidden_seconds / one.backward_seconds for one in summing),
    )
    coding: dict[str, list[float]] = {}
    for one in summing:
        if one.compression != "none":
            whole = one.exchange_seconds + one.hidden_seconds
            of_bytes = ring_share(one.workers) * BYTES_PER_NUMBER[one.compression] * byte_seconds
            left = (whole - hops(one.workers) * latency) / costs.network.parameters - of_bytes
            coding.setdefault(one.compression, []).append(max(0.0, left))
    return replace(costs, coding_seconds={name: statistics.median(values) for name, values in coding.items()})


def _with_rounds(costs: Costs, rounds: Sequence[Observation]) -> Costs:
    """What the exchange of a round takes beyond its sum."""
    beyond = []
    for one in rounds:
        if one.workers == 1 or costs.byte_seconds is None:
            continue
        own = one.slices * one.compute_seconds + one.optimizer_seconds + costs.rest_seconds
        quorum = QUORUM_SECONDS_PER_WORKER * (one.workers - 1)
        moments = costs.network.moments if one.exchanges_moments else 0
        total = costs.sum_seconds(one.workers, one.compression, moments=moments)
        beyond.append(one.period_seconds - one.steps_per_exchange * own - quorum - total)
    return replace(costs, round_seconds=statistics.median(beyond)) if beyond else costs


def _with_server(costs: Costs, served: Sequence[Observation]) -> Costs:
    """What a unit takes beyond its steps and its bytes, from the fewest workers; whose time it is, from the most.

    Of the candidates that explain the fewest workers exactly, the one that explains the most best is taken.
    """
    if not served:
        return costs
    few, many = min(served, key=lambda one: one.workers), max(served, key=lambda one: one.workers)
    steps = few.steps_per_exchange * (few.compute_seconds + few.optimizer_seconds + costs.rest_seconds)
    num_bytes = costs.network.parameters * (BYTES_DOWN[few.compression] + BYTES_PER_NUMBER[few.compression])

    def candidates() -> Iterator[Costs]:
        for factor, share in itertools.product(_LINK_FACTORS, _SERVER_SHARES):
            byte_seconds = factor * (costs.byte_seconds or 0.0)
            beyond = few.period_seconds - steps - num_bytes * byte_seconds
            if beyond < 0 and factor > 1:
                continue  # a byte does not take so long
            beyond = max(0.0, beyond)
            yield replace(
                costs,
                server_byte_seconds=byte_seconds,
                server_seconds=share * beyond,
                unit_seconds=(1 - share) * beyond,
            )

    setting = setting_of(many)
    measured = many.period_seconds / many.workers * many.replicas / many.steps_per_exchange
    return min(candidates(), key=lambda one: abs(math.log(seconds_per_step(setting, one) / measured)))


def setting_of(one: Observation) -> Setting:
    """The setting that was observed."""
    return Setting(
        strategy=one.strategy,
        workers=one.workers,
        global_batch_size=round(one.slice_size * one.replicas),
        steps_per_exchange=one.steps_per_exchange,
        replicas=one.replicas,
        compression=one.compression,
        exchanges_moments=one.exchanges_moments,
    )
