"""What a forecast is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from sunspark.config import refuse_not_finite, seconds_of, suggestion
from sunspark.data.rounds import SyncEvery
from sunspark.errors import ConfigError
from sunspark.parallel.codec import Compression

Goal = Literal["none", "fastest", "cheapest"]
StrategyName = Literal["all_reduce", "local_sgd", "diloco", "async", "hogwild"]

_MOST_WORKERS: Final = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastConfig:
    """What is forecast, and for whom. Lists are words with commas between."""

    workers: str = "1..64"
    """Numbers of workers: a list, or a range 1..64, of which every doubling is taken, and its end."""
    strategy: str = "all_reduce,local_sgd,diloco,async"
    """Strategies; one worker alone is there always."""
    sync_every: str = "1,16,64,epoch"
    """Steps from one exchange to the next, where a strategy has a choice."""
    compression: str = "none"
    """How what is exchanged travels: none, bf16, int8. Each more is a run more for the pilot."""
    instance: str = ""
    """Kinds of machines, for instance m5.xlarge,g5.xlarge; if not given, those of the pilot, without a price."""
    prices: str = ""
    """A file with prices of your own, in TOML."""
    epochs: int = 0
    """Passes over the split; 0: as the configuration says."""
    recommend: Goal = "none"
    """Name one setting: the fastest, or the cheapest."""
    deadline: str = ""
    """It is to end within that time: 2h, 90min, 3d."""
    budget: float = 0.0
    """It is to cost no more (USD); 0: whatever it costs."""

    def __post_init__(self) -> None:
        refuse_not_finite(self)
        if self.budget < 0 or self.epochs < 0:
            raise ConfigError(f"budget and epochs must be at least 0, got {self.budget} and {self.epochs}")
        if self.recommend == "none" and (self.deadline or self.budget):
            what = "deadline" if self.deadline else "budget"
            raise ConfigError(f"--{what} has no effect without a recommendation; give --recommend fastest or cheapest")
        if self.instance and not all(word.strip() for word in self.instance.split(",")):
            raise ConfigError(f"instance must be names with commas between, got {self.instance!r}")
        if not self.instance and (self.budget or self.recommend == "cheapest"):
            raise ConfigError("a cost takes prices, and they are those of machines; name some with --instance")
        if self.prices and not self.instance:
            raise ConfigError("--prices has no effect without --instance")
        _ = self.numbers_of_workers, self.strategies, self.exchanges, self.compressions, self.deadline_seconds

    @property
    def numbers_of_workers(self) -> list[int]:
        """Rising."""
        first, dots, last = self.workers.partition("..")
        words = [first, last] if dots else self.workers.split(",")
        if not all(_is_count(word.strip()) and int(word) <= _MOST_WORKERS for word in words):
            raise ConfigError(
                f"workers must be numbers of 1 to {_MOST_WORKERS}, as 1,2,4 or 1..64, got {self.workers!r}"
            )
        if not dots:
            return sorted(set(map(int, words)))
        low, high = int(first), int(last)
        if low > high:
            raise ConfigError(f"workers must rise, got {self.workers!r}")
        doublings = [low << power for power in range(32) if low << power < high]
        return [*doublings, high]

    @property
    def strategies(self) -> list[StrategyName]:
        """In their order."""
        return cast("list[StrategyName]", _words("strategy", self.strategy, get_args(StrategyName)))

    @property
    def compressions(self) -> list[Compression]:
        """In their order."""
        return cast("list[Compression]", _words("compression", self.compression, get_args(Compression)))

    @property
    def exchanges(self) -> list[SyncEvery]:
        """In their order."""
        words = [word.strip() for word in self.sync_every.split(",")]
        if not all(word == "epoch" or _is_count(word) for word in words):
            raise ConfigError(f"sync_every must be numbers of steps above 0, or epoch, got {self.sync_every!r}")
        return ["epoch" if word == "epoch" else int(word) for word in words]

    @property
    def deadline_seconds(self) -> float | None:
        """None: there is none."""
        return seconds_of("deadline", self.deadline) if self.deadline else None


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) > 0


def _words(name: str, text: str, known: Sequence[Any]) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise ConfigError(f"there is no {name} {word!r}; {suggestion(word, known)}")
    return list(dict.fromkeys(words))
