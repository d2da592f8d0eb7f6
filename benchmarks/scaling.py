"""Beyond what can be run: strategies on up to 1,024 workers, simulated with costs that a pilot has measured.

The costs are those of `benchmarks/forecast.jsonl` (`python -m benchmarks.forecast`) on the cluster with links of 750
Mbit/s: one core a worker, `scene_vgg` at 128 px. Each worker is taken to have its own core and link, the driver too.

    python -m benchmarks.scaling [--place cluster-750] [--batch 4096] [--deaths 1]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.forecast import costs_of, read
from sunspark.bench.forecasting.costs import Costs
from sunspark.bench.forecasting.simulation import Failures, Setting, seconds_per_step
from sunspark.bench.words import duration
from sunspark.parallel.codec import Compression

_RESULTS: Final = Path(__file__).parent / "forecast.jsonl"
_WORKERS: Final = (1, 4, 16, 64, 256, 1024)
_WORKERS_PER_SPARE: Final = 32
_SUN397: Final = 108_754
_LARGE: Final = 100_000_000
_STEPS: Final = 3200
"""That are simulated, with the same noise with and without deaths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A way of training."""

    name: str
    strategy: str
    every: int = 1
    compression: Compression = "none"


WAYS: Final = (
    Way(name="all_reduce", strategy="all_reduce"),
    Way(name="all_reduce, int8", strategy="all_reduce", compression="int8"),
    Way(name="diloco, every 64 steps", strategy="diloco", every=64),
    Way(name="async, every step", strategy="async"),
    Way(name="async, every 16 steps", strategy="async", every=16),
)


def seconds(
    way: Way, workers: int, costs: Costs, batch: int, failures: Failures | None = None, spares: int = 0
) -> float:
    """Of a step of so many replicas; spare workers stand by for them."""
    setting = Setting(
        strategy=way.strategy if workers > 1 else "serial",
        workers=workers + spares,
        replicas=workers,
        global_batch_size=batch,
        steps_per_exchange=way.every if workers > 1 else 1,
        compression=way.compression,
    )
    return seconds_per_step(setting, costs, failures=failures, num_exchanges=_STEPS // setting.steps_per_exchange)


def table(costs: Costs, batch: int, deaths: float) -> str:
    """Markdown: a row for each way and number of workers."""
    lines = [
        "| way | workers | an epoch of SUN397 | efficiency | deaths | and spares | an epoch of 100 million images |",
        "|---|---|---|---|---|---|---|",
    ]
    alone = seconds(WAYS[0], 1, costs, batch)
    lines.append(
        f"| one worker | 1 | {duration(alone * _SUN397 / batch)} | 100 % | | | {duration(alone * _LARGE / batch)} |"
    )
    for way in WAYS:
        for workers in _WORKERS[1:]:
            calm = seconds(way, workers, costs, batch)
            failures, spares = Failures(per_worker_hour=deaths), max(1, workers // _WORKERS_PER_SPARE)
            lossy, eased = (seconds(way, workers, costs, batch, failures, more) for more in (0, spares))
            lines.append(
                f"| {way.name} | {workers:,} | {duration(calm * _SUN397 / batch)} | {alone / calm / workers:.0%} "
                f"| {lossy / calm - 1:+.0%} | {eased / calm - 1:+.0%} | {duration(calm * _LARGE / batch)} |"
            )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", default="cluster-750", help="whose costs")
    parser.add_argument("--batch", type=int, default=4096, help="images of a step")
    parser.add_argument("--deaths", type=float, default=1.0, help="of each worker, an hour; above 0")
    arguments = parser.parse_args(words)
    costs = costs_of(read(_RESULTS)[0][arguments.place])
    costs = replace(costs, crowding={"1": 1.0}, spread={"1": costs.spread_of(1)})
    print(table(costs, arguments.batch, arguments.deaths))


if __name__ == "__main__":
    main()
