"""What a link costs each way of training together, and what is left of the speed of workers that do not communicate.

`scene_vgg` with n_filters 8 at 128 px, 397 classes, 18.5 M parameters, global batch 32, Adam, random pixels, on a Spark
standalone cluster of network namespaces (Linux, as root), every link limited in both directions. Against them:
`isolated`, as many one-worker trainings side by side on the same cores, each with its share of the batch.

Images per second are medians over what lies between two exchanges (a step, or a round), after a warm-up; those of
`isolated` and `async` over equal parts of the time in which all of their workers run. The loader must not set the
pace: images are small noise, 2 kB each, scaled up. How long a step waits for them stands in the table.

A run that is measured is a line in the file of results, and is not made again: an interrupted measurement goes on.

    python -m benchmarks.links [--rates 750 100] [--workers 2 3] [--arms ...] [--steps 20] [--rounds 3] [--repeats 1]
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.runs import steps_of
from sunspark.data.codec import encode_jpeg
from sunspark.data.loader import LoaderConfig
from sunspark.data.order import even_split
from sunspark.data.writer import write_dataset
from sunspark.errors import SunsparkError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.records import StepRecord, read_records
from sunspark.run_directory import read_config, read_object, result_file
from sunspark.training.config import TrainingConfig
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.verify import verify
from tests.cluster.namespaces import why_not
from tests.cluster.standalone import Driver, Standalone
from tests.distributed.harness import wait_until

_BATCH: Final = 32
_NUM_CLASSES: Final = 397
_LEAST_WARMUP_STEPS: Final = 5
_STEPS_PER_EPOCH: Final = 128
"""Where workers meet once an epoch: 4096 images. The other arms train for one epoch, as long as they need."""
_START_SECONDS: Final = 600.0
_RUN_SECONDS: Final = 7200.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way of training."""

    strategy: StrategyConfig
    steps_per_round: int = 1
    """From one exchange to the next; where there are none, as many as are enough to time."""
    loses_host: bool = False
    """Whether a host is lost for good in the first round after the warm-up."""

    @property
    def is_isolated(self) -> bool:
        return self.strategy.strategy == "serial"

    @property
    def meets(self) -> bool:
        """Whether workers wait for each other at exchanges."""
        return not (self.is_isolated or self.strategy.has_server)

    @property
    def inner_state(self) -> str:
        """What becomes of Adam's moments at an exchange; all_reduce has but one Adam."""
        return self.strategy.becomes_of_moments if self.strategy.is_local else "-"

    @property
    def warmup_steps(self) -> int:
        return max(_LEAST_WARMUP_STEPS, self.steps_per_round)

    def measured_steps(self, steps: int, rounds: int) -> int:
        """`steps` where each is an exchange, else those of so many rounds."""
        return steps if self.steps_per_round == 1 else rounds * self.steps_per_round


ARMS: Final[Mapping[str, Arm]] = {
    "all_reduce": Arm(strategy=StrategyConfig()),
    "all_reduce_bf16": Arm(strategy=StrategyConfig(compression="bf16")),
    "all_reduce_int8": Arm(strategy=StrategyConfig(compression="int8")),
    "local_sgd_16": Arm(
        strategy=StrategyConfig(strategy="local_sgd", sync_every=16, inner_state="reset"), steps_per_round=16
    ),
    "local_sgd_epoch": Arm(
        strategy=StrategyConfig(strategy="local_sgd", sync_every="epoch", inner_state="reset"),
        steps_per_round=_STEPS_PER_EPOCH,
    ),
    "diloco_16": Arm(
        strategy=StrategyConfig(strategy="diloco", sync_every=16, inner_state="reset"), steps_per_round=16
    ),
    "diloco_16_int8": Arm(
        strategy=StrategyConfig(strategy="diloco", sync_every=16, inner_state="reset", compression="int8"),
        steps_per_round=16,
    ),
    "diloco_64": Arm(
        strategy=StrategyConfig(strategy="diloco", sync_every=64, inner_state="reset"), steps_per_round=64
    ),
    "isolated": Arm(strategy=StrategyConfig(strategy="serial"), steps_per_round=64),
    "async_1": Arm(strategy=StrategyConfig(strategy="async", sync_every=1)),
    "async_16": Arm(strategy=StrategyConfig(strategy="async", sync_every=16), steps_per_round=16),
    "diloco_64_int8": Arm(
        strategy=StrategyConfig(strategy="diloco", sync_every=64, inner_state="reset", compression="int8"),
        steps_per_round=64,
    ),
    "diloco_64_host_lost": Arm(
        strategy=StrategyConfig(strategy="diloco", sync_every=64, inner_state="reset"),
        steps_per_round=64,
        loses_host=True,
    ),
}
"""In the order in which they run, `isolated` between the two that are compared with it. Adam's moments are reset: they
would travel beside the parameters, never compressed, and twice as large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one run came to. Figures of a step are the median over steps."""

    arm: str
    megabits_per_second: int
    workers: int
    steps: int
    """Those that were measured."""
    images_per_second: float
    least_images_per_second: float
    most_images_per_second: float
    communication_seconds: float
    """Waiting for the exchange, and for those who come to it late; of a step, the mean over workers."""
    exchange_seconds: float
    """The same of the worker that comes last, and waits for nobody."""
    hidden_seconds: float
    """Communication while backward was still running; of a step, the mean over workers."""
    data_seconds: float
    """Waiting for the loader; of a step, the mean over workers."""
    bytes_sent: float
    """Of a step, the mean over workers."""
    steps_redone: int
    """Of the whole run; what they sent in vain is in `bytes_sent`."""
    exactly_once: bool
    inner_state: str
    dtype: str

    @property
    def key(self) -> tuple[int, int, str]:
        return self.workers, self.megabits_per_second, self.arm


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one arm by that of another, and what it is held to."""

    what: str
    arm: str
    other: str
    figure: str
    bounds: Mapping[tuple[int, int], float]
    """By workers and Mbit/s; of bytes the most, of images per second the least."""

    def is_within(self, value: float, bound: float) -> bool:
        return value <= bound if self.figure == "bytes_sent" else value >= bound


RATIOS: Final = (
    Ratio(
        "bytes, int8 / float32",
        "all_reduce_int8",
        "all_reduce",
        "bytes_sent",
        {(2, 750): 0.27, (2, 100): 0.27, (3, 750): 0.27, (3, 100): 0.27},
    ),
    Ratio(
        "images/s, int8 / float32",
        "all_reduce_int8",
        "all_reduce",
        "images_per_second",
        {(3, 750): 1.5, (3, 100): 2.5},
    ),
    Ratio(
        "images/s, diloco 64 / isolated",
        "diloco_64",
        "isolated",
        "images_per_second",
        {(2, 750): 0.9, (3, 750): 0.9},
    ),
    Ratio(
        "images/s, diloco 64 int8 / isolated",
        "diloco_64_int8",
        "isolated",
        "images_per_second",
        {(2, 100): 0.85, (3, 100): 0.85},
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A cluster, and how long each arm is measured."""

    cluster: Standalone
    folder: Path
    steps: int
    """Of arms that communicate at every step."""
    rounds: int
    """Of the others."""

    def prepare(self, workers: int, megabits_per_second: int) -> None:
        """So many worker hosts, and links of that speed."""
        self.cluster.have_workers(workers)
        for host in self.cluster.network.hosts:
            host.limit(megabits_per_second)

    def measure(self, arm_name: str, workers: int, megabits_per_second: int) -> Result:
        """Train one arm. Raises AssertionError, or SunsparkError, when it does not train as it should."""
        arm = ARMS[arm_name]
        batches = [len(even_split(range(_BATCH), part, workers)) for part in range(workers)]
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            runs = self._train(arm, Path(name), batches if arm.is_isolated else [_BATCH], workers)
            measured = [self._measured(arm, run, workers) for run in runs]
            by_worker = [[r for r in run if r.worker == w] for run in measured for w in {r.worker for r in run}]
            speeds = between(measured[0], arm) if arm.meets else together(by_worker, self.rounds)
            verdicts = [verify(str(run)) for run in runs]
            return Result(
                arm=arm_name,
                megabits_per_second=megabits_per_second,
                workers=workers,
                steps=arm.measured_steps(self.steps, self.rounds),
                images_per_second=statistics.median(speeds),
                least_images_per_second=min(speeds),
                most_images_per_second=max(speeds),
                exactly_once=all(verdict.exactly_once and verdict.finished for verdict in verdicts),
                steps_redone=sum(read_object(result_file(str(run)))["steps_redone"] for run in runs),
                inner_state=arm.inner_state,
                dtype=read_config(str(runs[0]))["work"]["training"]["dtype"],
                **figures_of(itertools.chain.from_iterable(measured)),
            )

    def _train(self, arm: Arm, folder: Path, sizes: Sequence[int], workers: int) -> list[Path]:
        """A run for each of these batch sizes, all at once."""
        num_steps = arm.warmup_steps + arm.measured_steps(self.steps, self.rounds)
        epochs = num_steps // _STEPS_PER_EPOCH if arm.strategy.sync_every == "epoch" else 1
        # The hosts are namespaces of one machine: what could lie in shared memory takes the link all the same.
        launch = LaunchConfig(workers=workers, start_timeout=_START_SECONDS, gradient_path="network")
        if arm.is_isolated:
            launch = replace(launch, launcher="local", workers=1)
        runs, drivers = [folder / f"run{part}" for part in range(len(sizes))], list[Driver]()
        try:
            for run, size in zip(runs, sizes, strict=True):
                dataset = make_dataset(self.folder, size * num_steps // epochs)
                drivers.append(self.cluster.train(dataset, run, config(arm, launch, size, epochs)))
            if arm.loses_host:
                self._lose_a_host(arm, runs[0], drivers[0])
            for driver in drivers:
                driver.result(_RUN_SECONDS)
        finally:
            for driver in drivers:
                driver.kill()
        return runs

    def _lose_a_host(self, arm: Arm, run: Path, driver: Driver) -> None:
        def is_warm() -> bool:
            assert driver.process.poll() is None, f"the driver ended too early:\n{driver.tail()}"
            return any(step.step >= arm.warmup_steps - 1 for step in steps_of(run))

        wait_until(is_warm, _RUN_SECONDS, "the end of the warm-up")
        self.cluster.lose(self.cluster.workers[-1])

    def _measured(self, arm: Arm, run: Path, workers: int) -> list[StepRecord]:
        """What all workers have recorded of the steps after the warm-up, and of the last one before."""
        records = [record for record in read_records(str(run)) if isinstance(record, StepRecord)]
        measured = [record for record in records if record.step >= arm.warmup_steps - 1]
        took_part = {record.world_size for record in measured}
        assert not arm.meets or arm.loses_host or took_part == {workers}, f"{took_part} workers took part in a step"
        return measured


def make_dataset(folder: Path, num_images: int) -> str:
    """Images of noise, of 40 px: they cost little to decode."""
    uri = folder / f"dataset{num_images}"
    if not uri.exists():
        rng = np.random.default_rng(0)
        samples = [
            (
                f"{i}.jpg",
                i % _NUM_CLASSES,
                ["train"],
                encode_jpeg(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)),
            )
            for i in range(num_images)
        ]
        write_dataset(str(uri), samples, classes=[f"class{label:03d}" for label in range(_NUM_CLASSES)])
    return str(uri)


def config(arm: Arm, launch: LaunchConfig, global_batch_size: int, epochs: int) -> TrainConfig:
    """18.5 M parameters."""
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8}),
        optim=OptimConfig(learning_rate=1e-5, schedule="constant"),
        data=LoaderConfig(image_size=128),
        training=TrainingConfig(epochs=epochs, global_batch_size=global_batch_size, checkpoint_every=100_000),
        strategy=arm.strategy,
        launch=launch,
    )


def between(records: Iterable[StepRecord], arm: Arm) -> list[float]:
    """Images per second from each exchange to the next."""
    first: dict[int, float] = {}
    for record in records:
        first[record.step] = min(record.time_unix_seconds, first.get(record.step, record.time_unix_seconds))
    times = [first[step] for step in sorted(first)[:: arm.steps_per_round]]
    return [_BATCH * arm.steps_per_round / (after - before) for before, after in itertools.pairwise(times)]


def together(workers: Sequence[Sequence[StepRecord]], parts: int) -> list[float]:
    """Images per second of all workers, in equal parts of the time in which all of them were training."""
    times = [[record.time_unix_seconds for record in records] for records in workers]
    start, end = max(min(moments) for moments in times), min(max(moments) for moments in times)
    assert end > start, "the isolated trainings did not run at the same time; give more --rounds"
    images: Counter[int] = Counter()
    for record in itertools.chain.from_iterable(workers):
        if start < (moment := record.time_unix_seconds) <= end:
            images[min(parts - 1, int(parts * (moment - start) / (end - start)))] += record.samples
    return [images[part] * parts / (end - start) for part in range(parts)]


def figures_of(records: Iterable[StepRecord]) -> dict[str, float]:
    """What the workers have recorded of a step, by the names of Result."""
    by_step: dict[int, list[StepRecord]] = defaultdict(list)
    for record in records:
        by_step[record.step].append(record)

    def median(figure: Callable[[StepRecord], float], over_workers: Callable[[list[float]], float]) -> float:
        return statistics.median(over_workers([figure(record) for record in step]) for step in by_step.values())

    return {
        "communication_seconds": median(lambda record: record.communication_seconds, statistics.mean),
        "exchange_seconds": median(lambda record: record.communication_seconds, min),
        "hidden_seconds": median(lambda record: record.hidden_communication_seconds, statistics.mean),
        "data_seconds": median(lambda record: record.data_seconds, statistics.mean),
        "bytes_sent": median(lambda record: record.bytes_sent, statistics.mean),
    }


def read_results(path: Path) -> list[Result]:
    """All that have been measured."""
    return [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def table(results: Sequence[Result]) -> str:
    """Markdown: an arm's runs in one line, figures as their medians."""
    lines = [
        "| workers | Mbit/s | arm | inner state | n | images/s | communication, s/step | the last to come, s/step "
        "| hidden, s/step | loader, s/step | MB/step | redone | verify |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (workers, rate, arm), runs in _by_key(results).items():
        least, most = min(r.least_images_per_second for r in runs), max(r.most_images_per_second for r in runs)
        lines.append(
            f"| {workers} | {rate} | {arm} | {runs[0].inner_state} | {len(runs)} "
            f"| {_median(runs, 'images_per_second'):.1f} ({least:.1f} to {most:.1f}) "
            f"| {_median(runs, 'communication_seconds'):.3f} | {_median(runs, 'exchange_seconds'):.3f} "
            f"| {_median(runs, 'hidden_seconds'):.3f} "
            f"| {_median(runs, 'data_seconds'):.4f} | {_median(runs, 'bytes_sent') / 1e6:.2f} "
            f"| {sum(run.steps_redone for run in runs)} "
            f"| {str(all(run.exactly_once for run in runs)).lower()} |"
        )
    return "\n".join(lines)


def table_of_ratios(results: Sequence[Result]) -> tuple[str, bool]:
    """Markdown: one arm by another, where both were measured; and whether all are within their bounds."""
    by_key = _by_key(results)
    lines, is_well = ["| workers | Mbit/s | ratio | value | bound |", "|---|---|---|---|---|"], True
    for workers, rate in sorted({key[:2] for key in by_key}):
        for ratio in RATIOS:
            runs, others = by_key.get((workers, rate, ratio.arm)), by_key.get((workers, rate, ratio.other))
            if not (runs and others):
                continue
            value = _median(runs, ratio.figure) / _median(others, ratio.figure)
            bound = ratio.bounds.get((workers, rate))
            is_missed = bound is not None and not ratio.is_within(value, bound)
            is_well &= not is_missed
            held_to = "-" if bound is None else f"{bound}{', **missed**' if is_missed else ''}"
            lines.append(f"| {workers} | {rate} | {ratio.what} | {value:.3f} | {held_to} |")
    return "\n".join(lines), is_well


def _by_key(results: Sequence[Result]) -> dict[tuple[int, int, str], list[Result]]:
    grouped: dict[tuple[int, int, str], list[Result]] = defaultdict(list)
    for result in results:
        grouped[result.key].append(result)
    order = list(ARMS)
    return {key: grouped[key] for key in sorted(grouped, key=lambda key: (*key[:2], order.index(key[2])))}


def _median(results: Sequence[Result], figure: str) -> float:
    return float(statistics.median(getattr(result, figure) for result in results))


def measure_what_is_missing(bench: Bench, arguments: Any) -> bool:
    """Append a line for each run; whether all were as they should be."""
    is_well = True
    for repeat, workers, rate, arm in itertools.product(
        range(arguments.repeats), arguments.workers, arguments.rates, arguments.arms
    ):
        known = Counter(result.key for result in read_results(arguments.results))
        if known[workers, rate, arm] > repeat:
            continue
        bench.prepare(workers, rate)
        try:
            result = bench.measure(arm, workers, rate)
        except (AssertionError, SunsparkError) as error:
            print(f"{arm}, {workers} workers, {rate} Mbit/s failed: {error}", flush=True)
            is_well = False
            continue
        with arguments.results.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        print(json.dumps(asdict(result)), flush=True)
        is_well &= result.exactly_once
    return is_well


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[750, 100], help="Mbit/s of every link")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--steps", type=int, default=20, help="measured steps where each is an exchange")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds where each is an exchange")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each arm, in alternation")
    parser.add_argument("--results", type=Path, default=Path("links.jsonl"), help="one line for each run")
    arguments = parser.parse_args(words)
    for result in read_results(arguments.results):
        if result.steps != ARMS[result.arm].measured_steps(arguments.steps, arguments.rounds):
            sys.exit(f"{arguments.results} holds {result.arm} of {result.steps} steps; choose another --results")
    if reason := why_not():
        sys.exit(f"links needs network namespaces (Linux, as root): {reason}")
    with tempfile.TemporaryDirectory() as name, Standalone(Path(name) / "cluster") as cluster:
        bench = Bench(cluster=cluster, folder=Path(name), steps=arguments.steps, rounds=arguments.rounds)
        is_well = measure_what_is_missing(bench, arguments)
    results = read_results(arguments.results)
    ratios, is_within = table_of_ratios(results)
    print(f"\n{table(results)}\n\n{ratios}")
    sys.exit(0 if is_well and is_within else 1)


if __name__ == "__main__":
    main()
