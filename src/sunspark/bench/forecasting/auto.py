"""`--strategy auto`: what a forecast finds fastest, of all_reduce, diloco and one worker alone.

These train much as one worker would (docs/concepts/strategies.md, what it costs).

It is chosen at the first start of a run, by a pilot in RUN/pilot, and settled; the forecast is kept in
RUN/forecast.json, and the report shows it beside what happened.
"""

import sys
from dataclasses import asdict, replace
from typing import Final

from sunspark import run_directory, storage
from sunspark.bench.forecasting.config import ForecastConfig
from sunspark.bench.forecasting.forecast import forecast
from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.errors import RunError
from sunspark.launch.config import TrainConfig
from sunspark.launch.resume import check, refuse_other_folders, refuse_swapped
from sunspark.training.strategies.config import StrategyConfig

_STRATEGIES: Final = "all_reduce,diloco"
_EXCHANGES: Final = "16,64"


def with_strategy(dataset: str, run: str, config: TrainConfig) -> TrainConfig:
    """`config` with the strategy of `run`, or, at its first start, with the one that is chosen now.

    Raises what `forecast` raises, and RunError when `run` is no folder for a run.
    """
    run = storage.absolute(run)
    if storage.exists(run_directory.config_file(run)):
        stored = run_directory.read_config(run)["work"].get("strategy", {})
        return _with(config, from_dict(StrategyConfig, stored))
    if config.launch.workers == 1:
        return _with(config, StrategyConfig(strategy="serial"))
    refuse_swapped(storage.absolute(dataset), run)
    refuse_other_folders(run, storage.absolute(dataset))
    check(run, Dataset.open(storage.absolute(dataset)), replace(config, strategy=StrategyConfig()))
    pilot = storage.join(run, "pilot")
    asked = ForecastConfig(
        workers=str(config.launch.workers), strategy=_STRATEGIES, sync_every=_EXCHANGES, recommend="fastest"
    )
    with run_directory.only_driver(run):
        storage.delete(pilot)  # of a start that was killed
        try:
            result = forecast(dataset, config, asked, scratch=pilot, tell=_say)
        finally:
            storage.delete(pilot)
    chosen = result.recommended
    if chosen is None:
        reasons = "; ".join(dict.fromkeys(row.reason for row in result.rows if row.reason))
        raise RunError(f"no strategy can be forecast: {reasons}; name one with --strategy")
    _say(f"--strategy auto: {result.why}")
    storage.write_json_atomic(run_directory.forecast_file(run), asdict(result))
    return _with(config, from_dict(StrategyConfig, chosen.options))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _with(config: TrainConfig, strategy: StrategyConfig) -> TrainConfig:
    """Where one worker alone is fastest, the others are not started."""
    workers = 1 if strategy.strategy == "serial" else config.launch.workers
    return replace(config, strategy=strategy, launch=replace(config.launch, workers=workers))
