"""sunspark beside Elephas and TorchDistributor: images per second in steady state, and of whole runs.

Two workers with one thread each on Spark `local[2]`, `scene_vgg` with n_filters 8 at 128 px, 397 classes, 18.5 M
parameters (Elephas trains a Keras twin; that the numbers of parameters are equal is checked), global batch 32, Adam.
Like against like:

    Elephas, synchronous (workers train alone for an epoch)   local_sgd, sync_every epoch
    Elephas, asynchronous, an update per epoch                async, sync_every epoch
    Elephas, asynchronous, an update per batch                async, sync_every 1
    TorchDistributor + DDP, stock and tuned                   all_reduce

The peers have random pixels in memory and do not survive a loss; sunspark reads a dataset of noise, JPEG of 128 px,
decodes it, and tolerates faults, all as by default. Elephas computes in float32; sunspark in what it takes by default
(bf16 where the processor has it); DDP in float32 (stock), and in channels_last and bf16 autocast (tuned).

Every run is one of 6 epochs of 512 images. Whole: from the start of the command to its end. Steady: the median epoch
but the first, by when the images of all workers together had been trained on. The arms run in alternation; a run that
is measured is a line in the file of results, and is not made again: an interrupted measurement goes on. Ratios are
medians over pairs of runs of one round. Fails when a bound is missed.

    python -m benchmarks.peers [--repeats 3] [--arms ...] [--folder FOLDER] [--results peers.jsonl]
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.peer_runs.environments import HERE, elephas_python, pandas_folder
from sunspark.data.codec import encode_jpeg
from sunspark.data.writer import write_dataset
from sunspark.launch.java import find_java
from sunspark.models.registry import ModelConfig, build_model
from sunspark.records import StepRecord, read_records

_NUM_CLASSES: Final = 397
_IMAGE_SIZE: Final = 128
_RUN_SECONDS: Final = 3600.0
_ELEPHAS_SPARK: Final = "4.0.0"

Mark = tuple[float, int]
"""When some images had been trained on (seconds), and how many."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training: sunspark with these options, or a peer's script with that mode."""

    peer: str
    mode: str
    options: tuple[str, ...] = ()


ARMS: Final[Mapping[str, Arm]] = {
    "elephas_synchronous": Arm("elephas", "synchronous"),
    "local_sgd_epoch": Arm("", "", ("--strategy", "local_sgd", "--sync-every", "epoch")),
    "elephas_epoch": Arm("elephas", "epoch"),
    "async_epoch": Arm("", "", ("--strategy", "async", "--sync-every", "epoch")),
    "elephas_batch": Arm("elephas", "batch"),
    "async_batch": Arm("", "", ("--strategy", "async", "--sync-every", "1")),
    "ddp_stock": Arm("ddp", "stock"),
    "all_reduce": Arm("", "", ("--strategy", "all_reduce")),
    "ddp_tuned": Arm("ddp", "tuned"),
}
"""In the order in which they run: each between those that it is compared with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one run came to."""

    arm: str
    round: int
    epochs: int
    images: int
    """Of an epoch."""
    parameters: int
    steady_images_per_second: float
    least_images_per_second: float
    """Of the slowest epoch but the first."""
    most_images_per_second: float
    whole_images_per_second: float
    whole_seconds: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One of sunspark's arms by a peer's, in steady state and over whole runs, and what they are held to."""

    arm: str
    peer: str
    least_steady: float
    least_whole: float | None


RATIOS: Final = (
    Ratio("local_sgd_epoch", "elephas_synchronous", 2.5, 2.0),
    Ratio("async_epoch", "elephas_epoch", 1.5, 2.0),
    Ratio("async_batch", "elephas_batch", 8.0, 2.0),
    Ratio("all_reduce", "ddp_stock", 1.8, None),
    Ratio("all_reduce", "ddp_tuned", 1.0, None),
)


def epoch_seconds(marks: Iterable[Mark], images: int) -> list[float]:
    """How long each epoch but the first took, from when all workers together had trained on the images of one.

    Where workers do not wait for each other these are not the epochs of any one of them.
    """
    ends, trained = list[float](), 0
    for moment, count in sorted(marks):
        trained += count
        ends += [moment] * (trained // images - len(ends))
    return [after - before for before, after in itertools.pairwise(ends)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Where runs are made, and how long they are."""

    folder: Path
    epochs: int
    images: int

    def measure(self, name: str, number: int) -> Result:
        """Run one arm. Raises AssertionError when it does not train as it should."""
        arm = ARMS[name]
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            target = Path(folder) / "marks"
            command, environment = self._command(arm, target)
            started = time.monotonic()
            with (Path(folder) / "log").open("w+") as log:
                code = _code_of(command, environment, log.fileno())
                seconds = time.monotonic() - started
                log.seek(0)
                assert code == 0, f"{name} ended with {code}:\n{log.read()[-4000:]}"
            parameters, marks = _peers_marks(target) if arm.peer else (_num_parameters(), _own_marks(target))
        assert sum(count for _, count in marks) == self.epochs * self.images, f"{name} did not train on every image"
        assert parameters == _num_parameters(), f"{name} has {parameters} parameters, not {_num_parameters()}"
        speeds = [self.images / taken for taken in epoch_seconds(marks, self.images)]
        return Result(
            arm=name,
            round=number,
            epochs=self.epochs,
            images=self.images,
            parameters=parameters,
            steady_images_per_second=statistics.median(speeds),
            least_images_per_second=min(speeds),
            most_images_per_second=max(speeds),
            whole_images_per_second=self.epochs * self.images / seconds,
            whole_seconds=seconds,
        )

    def prepare(self, names: Iterable[str]) -> None:
        """Build what the arms need, before any clock runs."""
        peers = {ARMS[name].peer for name in names}
        if "elephas" in peers:
            elephas_python(self.folder)
        if "ddp" in peers:
            pandas_folder(self.folder)
        self._dataset()

    def _command(self, arm: Arm, target: Path) -> tuple[list[str], dict[str, str]]:
        common = {"OMP_NUM_THREADS": "1", "SPARK_LOCAL_IP": "127.0.0.1"}
        size = [str(target), str(self.epochs), str(self.images)]
        if arm.peer == "elephas":
            python = str(elephas_python(self.folder))
            threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            java = {"JAVA_HOME": str(find_java(_ELEPHAS_SPARK).home)}
            paths = {"PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
            command = [python, str(HERE / "elephas_run.py"), arm.mode, *size]
            return command, common | threads | java | paths | {"PYSPARK_PYTHON": python}
        if arm.peer == "ddp":
            path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(pandas_folder(self.folder))])
            paths = {"PYTHONPATH": path, "PYSPARK_PYTHON": sys.executable}
            return [sys.executable, str(HERE / "ddp_run.py"), arm.mode, *size], common | paths
        run = [sys.executable, "-m", "sunspark.cli", "train", self._dataset(), str(target)]
        model = ["--model", "scene_vgg", "--model-args", "n_filters=8", "--image-size", str(_IMAGE_SIZE)]
        optim = ["--learning-rate", "1e-5", "--schedule", "constant"]
        training = ["--epochs", str(self.epochs), "--global-batch-size", "32"]
        launch = ["--master", "local[2]", "--workers", "2", "--cores-per-worker", "1"]
        return [*run, *model, *optim, *training, *launch, *arm.options], {}

    def _dataset(self) -> str:
        """Images of noise."""
        uri = self.folder / f"dataset{self.images}"
        if not uri.exists():
            rng = np.random.default_rng(0)
            shape = (_IMAGE_SIZE, _IMAGE_SIZE, 3)
            samples = [
                (f"{i}.jpg", i % _NUM_CLASSES, ["train"], encode_jpeg(rng.integers(0, 255, shape, dtype=np.uint8)))
                for i in range(self.images)
            ]
            write_dataset(str(uri), samples, classes=[f"class{label:03d}" for label in range(_NUM_CLASSES)])
        return str(uri)


def _code_of(command: Sequence[str], environment: Mapping[str, str], log: int) -> int:
    """How it ended; nothing that it started is left behind."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        return process.wait(_RUN_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _num_parameters() -> int:
    config = ModelConfig(model_args={"n_filters": 8})
    model = build_model(config, num_classes=_NUM_CLASSES, image_size=_IMAGE_SIZE, seed=0)
    return sum(parameter.numel() for parameter in model.parameters())


def _peers_marks(path: Path) -> tuple[int, list[Mark]]:
    """The number of parameters, and the marks."""
    first, *others = path.read_text().splitlines()
    return int(first), [(float(moment), int(count)) for moment, count in map(str.split, others)]


def _own_marks(run: Path) -> list[Mark]:
    steps = [record for record in read_records(str(run)) if isinstance(record, StepRecord)]
    return [(record.time_unix_seconds, record.samples) for record in steps]


def read_results(path: Path) -> list[Result]:
    """All that have been measured."""
    return [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def table(results: Sequence[Result]) -> str:
    """Markdown: an arm's runs in one line, medians (least to most)."""
    runs: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        runs[result.arm].append(result)
    lines = ["| arm | n | steady, images/s | whole run, images/s | whole run, s |", "|---|---|---|---|---|"]
    for arm in filter(runs.get, ARMS):
        cells = [
            spread([run.steady_images_per_second for run in runs[arm]], 1),
            spread([run.whole_images_per_second for run in runs[arm]], 1),
            spread([run.whole_seconds for run in runs[arm]], 0),
        ]
        lines.append(f"| {arm} | {len(runs[arm])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ratio that was measured, in each round."""

    what: str
    values: tuple[float, ...]
    least: float | None

    @property
    def is_kept(self) -> bool:
        return self.least is None or statistics.median(self.values) >= self.least


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """All ratios of which both arms were measured in a round."""
    by_round = {(result.arm, result.round): result for result in results}
    found = []
    for ratio in RATIOS:
        pairs = [
            (mine, by_round[ratio.peer, number])
            for (arm, number), mine in sorted(by_round.items())
            if arm == ratio.arm and (ratio.peer, number) in by_round
        ]
        what = f"{ratio.arm} / {ratio.peer}"
        steady = tuple(mine.steady_images_per_second / its.steady_images_per_second for mine, its in pairs)
        whole = tuple(mine.whole_images_per_second / its.whole_images_per_second for mine, its in pairs)
        if pairs:
            found.append(Verdict(f"{what}, steady", steady, ratio.least_steady))
            found.append(Verdict(f"{what}, whole run", whole, ratio.least_whole))
    return found


def table_of_verdicts(found: Sequence[Verdict]) -> str:
    """Markdown."""
    lines = ["| ratio | n | median of pairs | bound | |", "|---|---|---|---|---|"]
    for verdict in found:
        bound = "" if verdict.least is None else f">= {verdict.least:g}"
        missed = "" if verdict.is_kept else "missed"
        lines.append(f"| {verdict.what} | {len(verdict.values)} | {spread(verdict.values, 2)} | {bound} | {missed} |")
    return "\n".join(lines)


def measure_what_is_missing(bench: Bench, names: Sequence[str], repeats: int, path: Path) -> bool:
    """Append a line for each run; whether all trained as they should."""
    is_well = True
    known = {(result.arm, result.round) for result in read_results(path)}
    wanted = [(name, number) for number in range(repeats) for name in ARMS if name in names]
    for name, number in wanted:
        if (name, number) in known:
            continue
        try:
            result = bench.measure(name, number)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            print(f"{name} failed: {error}", flush=True)
            is_well = False
            continue
        with path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        print(json.dumps(asdict(result)), flush=True)
    return is_well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each arm, in alternation")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=512, help="of an epoch; a multiple of 32")
    parser.add_argument(
        "--folder", type=Path, help="keeps the environments of the peers; if not given, a temporary one"
    )
    parser.add_argument("--results", type=Path, default=Path("peers.jsonl"), help="one line for each run")
    arguments = parser.parse_args()
    if arguments.epochs < 2 or arguments.images < 64 or arguments.images % 32:
        parser.error("give at least 2 --epochs, and --images that are a multiple of 32, 64 at least")
    for result in read_results(arguments.results):
        if (result.epochs, result.images) != (arguments.epochs, arguments.images):
            sys.exit(f"{arguments.results} holds runs of {result.epochs} x {result.images}; choose another --results")
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder=folder, epochs=arguments.epochs, images=arguments.images)
        bench.prepare(arguments.arms)
        is_well = measure_what_is_missing(bench, arguments.arms, arguments.repeats, arguments.results)
    results = read_results(arguments.results)
    found = verdicts(results)
    print(f"\n{table(results)}\n\n{table_of_verdicts(found)}")
    sys.exit(0 if is_well and all(verdict.is_kept for verdict in found) else 1)


if __name__ == "__main__":
    main()
