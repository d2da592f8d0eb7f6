"""What machines cost and how fast their processors are: a dated table, and the user's own.

Prices: Amazon's price lists for EC2 (on demand, Linux, us-east-1) and for EMR on EC2. Bandwidth: the baseline in the
EC2 user guide, "Amazon EC2 instance network bandwidth"; what an instance may burst to is not counted on. Gigaflops: of
float32, of a physical core its vector width times two fused operations times the sustained clock of the data sheet
(Intel Xeon Platinum 8259CL, 8124M, 8375C, 8488C), of a GPU its data sheet (NVIDIA T4, A10G, V100). What training
makes of them differs from network to network: a factor from this table is a guess until a pilot has run there.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sunspark.config import from_dict, suggestion
from sunspark.errors import ConfigError

DATED: Final = "2025-06"
"""When the prices were as they stand here."""
ATTAINABLE: Final = 0.8
"""Of the peak of a data sheet, what large products of matrices come to; a usual figure, not measured on each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """A kind of machine."""

    name: str
    usd_per_hour: float
    """Of the machine, and of what manages the cluster on it (EMR)."""
    cores: int
    """Physical ones; Amazon's vCPUs are two of each."""
    memory_gib: float
    gigabits_per_second: float
    """Of its link, that it may use all the time."""
    gigaflops: float
    """float32: of one physical core, or of one GPU."""
    gpus: int = 0
    source: str = f"with the cluster's service, by Amazon's lists of {DATED}"
    """Where the price is from."""

    def workers_on_it(self, cores_per_worker: int) -> int:
        """Workers that it has room for: one a GPU, or as many as its cores give.

        Raises ConfigError when it is too small for one.
        """
        if not (self.gpus or self.cores >= cores_per_worker):
            raise ConfigError(
                f"{self.name} has {self.cores} cores, and a worker {cores_per_worker}; lower cores_per_worker, or name "
                "a larger machine"
            )
        return self.gpus or self.cores // cores_per_worker


def _amazon(
    name: str, ec2: float, emr: float, cores: int, memory: float, link: float, gigaflops: float, gpus: int = 0
) -> Instance:
    return Instance(
        name=name,
        usd_per_hour=ec2 + emr,
        cores=cores,
        memory_gib=memory,
        gigabits_per_second=link,
        gigaflops=gigaflops,
        gpus=gpus,
    )


TABLE: Final[Mapping[str, Instance]] = {
    instance.name: instance
    for instance in (
        _amazon("m5.xlarge", 0.192, 0.048, 2, 16, 1.25, 160),
        _amazon("m5.2xlarge", 0.384, 0.096, 4, 32, 2.5, 160),
        _amazon("m5.4xlarge", 0.768, 0.192, 8, 64, 5.0, 160),
        _amazon("c5.xlarge", 0.170, 0.043, 2, 8, 1.25, 192),
        _amazon("c5.2xlarge", 0.340, 0.085, 4, 16, 2.5, 192),
        _amazon("c5.4xlarge", 0.680, 0.170, 8, 32, 5.0, 192),
        _amazon("m6i.xlarge", 0.192, 0.048, 2, 16, 1.562, 186),
        _amazon("m6i.2xlarge", 0.384, 0.096, 4, 32, 3.125, 186),
        _amazon("c6i.xlarge", 0.170, 0.0425, 2, 8, 1.562, 186),
        _amazon("c6i.2xlarge", 0.340, 0.085, 4, 16, 3.125, 186),
        _amazon("m7i.xlarge", 0.2016, 0.0504, 2, 16, 1.562, 205),
        _amazon("m7i.2xlarge", 0.4032, 0.1008, 4, 32, 3.125, 205),
        _amazon("g4dn.xlarge", 0.526, 0.1315, 2, 16, 5.0, 8100, 1),
        _amazon("g5.xlarge", 1.006, 0.2515, 2, 16, 2.5, 31200, 1),
        _amazon("g5.2xlarge", 1.212, 0.27, 4, 32, 5.0, 31200, 1),
        _amazon("p3.2xlarge", 3.060, 0.27, 4, 61, 2.5, 15700, 1),
    )
}


def instances_of(names: str, prices: str = "") -> list[Instance]:
    """The instances of these names, with commas between; of the file `prices` too, which wins over the table.

    The file is TOML: a table for each name, with the fields of `Instance`. Raises ConfigError when there is no such
    instance, or the file says what no instance has.
    """
    known = {**TABLE, **(_read(prices) if prices else {})}
    found = []
    for name in filter(None, (word.strip() for word in names.split(","))):
        if name not in known:
            raise ConfigError(f"there is no price for {name!r}; {suggestion(name, list(known))}; --prices FILE adds it")
        found.append(known[name])
    return found


def _read(path: str) -> dict[str, Instance]:
    try:
        values: dict[str, Any] = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the prices {path!r}: {error}") from error
    found = {}
    for name, fields in values.items():
        if not isinstance(fields, dict):
            raise ConfigError(f"{path}: {name} must be a table, such as [{name!r}] and usd_per_hour = 0.24 below it")
        try:
            found[name] = from_dict(Instance, {"source": f"by {path}", **fields, "name": name})
        except ConfigError as error:
            raise ConfigError(f"{path}: {name}: {error}") from error
        one = found[name]
        numbers = (one.usd_per_hour, one.memory_gib, one.gigabits_per_second, one.gigaflops, one.cores)
        if not all(0 < number < math.inf for number in numbers) or one.gpus < 0:
            raise ConfigError(f"{path}: {name}: all its numbers must be above 0 and finite; gpus may be 0")
    return found
