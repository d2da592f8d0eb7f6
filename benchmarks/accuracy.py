"""What each way of training together costs in accuracy, beside one worker that trains alone.

`recipes/sun_open.toml` as it is, for fewer epochs: every arm trains on the same samples, with the same learning rate.
The images and their splits are those of `benchmarks.sun_open`; SUNSPARK_TEST_IMAGES names the folder of their archive.
The K workers of an arm are K replicas on two worker processes: the network does not depend on who computes a replica
(docs/concepts/strategies.md); but `async` is run by as many processes as it says. Two cores, whatever the arm.

Each seed is paired with `serial` of the same seed, on the same test images (`benchmarks.paired`). Fails when the 95 %
interval of an arm's loss lies wholly beyond its bound, when a run took too long, or a sample was lost.

A run that has ended is a line in the file of results, and is not made again: an interrupted measurement goes on. A
line holds which images were answered right, so the figures can be computed from the file alone: `--seeds` without any.

    python -m benchmarks.accuracy [--arms ...] [--workers 2 4] [--seeds 0 1 2] [--epochs 15] [--folder DIR]
"""

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.paired import Answers, Difference, difference, stacked, to_hex
from benchmarks.sun_open import make_dataset, sunspark
from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.data.loader import EvaluationLoader
from sunspark.run_directory import read_config
from sunspark.training.config import WorkConfig
from sunspark.training.export import load_model
from sunspark.training.forward import logits_of

_CORES: Final = 2
_MOST_SECONDS: Final = 180.0
_BATCH_SIZE: Final = 64
"""As `sunspark evaluate`."""
_HERE: Final = Path(__file__).parent
_RECIPE: Final = _HERE.parent / "recipes" / "sun_open.toml"
_SERIAL: Final = "serial"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way of training."""

    flags: str
    """Of `sunspark train`."""
    bound: float | None = None
    """The most points it may lose, where that is promised."""
    most_processes: int = _CORES
    """Its workers are replicas on at most so many."""

    def words(self, workers: int) -> list[object]:
        """The flags, and those that say who computes."""
        processes = min(workers, self.most_processes)
        launch = ["--workers", processes, "--cores-per-worker", max(1, _CORES // processes)]
        return [*self.flags.split(), *launch, "--replicas", workers]


ARMS: Final[Mapping[str, Arm]] = {
    _SERIAL: Arm(flags="--strategy serial", most_processes=1),
    "all_reduce": Arm(flags="--strategy all_reduce", bound=1.5),
    "diloco_16": Arm(flags="--strategy diloco --sync-every 16", bound=3.0),
    "async_1": Arm(flags="--strategy async --sync-every 1", bound=3.0, most_processes=4),
    "async_16": Arm(flags="--strategy async --sync-every 16", most_processes=4),
    "local_sgd_16": Arm(flags="--strategy local_sgd --sync-every 16"),
    "local_sgd_epoch": Arm(flags="--strategy local_sgd --sync-every epoch"),
}
"""In the order in which they run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one run came to."""

    arm: str
    workers: int
    seed: int
    epochs: int
    seconds: float
    """Of training."""
    top1: float
    exactly_once: bool
    dataset_id: str
    num_images: int
    right: str
    """Which of them were answered right, in the order of the dataset, as `to_hex` writes it."""

    @property
    def key(self) -> tuple[str, int, int]:
        return self.arm, self.workers, self.seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The runs of an arm beside `serial` of the same seeds."""

    arm: str
    workers: int
    runs: Sequence[Result]
    difference: Difference | None
    """None for `serial` itself."""

    @property
    def is_broken(self) -> bool:
        bound = ARMS[self.arm].bound
        return self.difference is not None and bound is not None and self.difference.is_worse_than(bound)


def right_answers(run: Path, dataset: Dataset, split: str) -> Answers:
    """Which images of the split the finished model of `run` recognises, in the order of the dataset."""
    model, description = load_model(str(run))
    data = from_dict(WorkConfig, read_config(str(run))["work"]).data
    loader = EvaluationLoader(dataset, data, _CORES)
    try:
        return np.concatenate(
            [
                logits_of(model, batch, str(description["dtype"])).argmax(dim=1).detach().numpy() == batch.labels
                for batch in loader.batches(dataset.rows(split), _BATCH_SIZE)
            ]
        )
    finally:
        loader.close()


def measure(dataset: Path, run: Path, key: tuple[str, int, int], epochs: int) -> Result:
    """Train, and see to the answers. What an interrupted training has left is thrown away: its time would be lost."""
    shutil.rmtree(run, ignore_errors=True)
    (arm, workers, seed), opened = key, Dataset.open(str(dataset))
    words = ["--config", _RECIPE, "--split", "Train_bal", "--launcher", "local", "--epochs", epochs, "--seed", seed]
    trained = sunspark("train", dataset, run, *words, *ARMS[arm].words(workers))
    right = right_answers(run, opened, "Test_bal")
    verdict = sunspark("verify", run)
    return Result(
        arm=arm,
        workers=workers,
        seed=seed,
        epochs=epochs,
        seconds=round(trained["seconds"], 1),
        top1=float(right.mean()),
        exactly_once=verdict["exactly_once"] and verdict["finished"],
        dataset_id=opened.id,
        num_images=len(right),
        right=to_hex(right),
    )


def runs_of(arms: Sequence[str], workers: Sequence[int], seeds: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """Arm, workers and seed of each run, in order; `serial` has one worker."""
    for arm in arms:
        yield from itertools.product([arm], [1] if arm == _SERIAL else workers, seeds)


def read_results(path: Path) -> list[Result]:
    """All that have been measured."""
    return [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def compare(results: Sequence[Result]) -> list[Comparison]:
    """Each arm, on the seeds that `serial` has too."""
    baseline = {result.seed: result for result in results if result.arm == _SERIAL}
    sizes = sorted(
        {(result.arm, result.workers) for result in results}, key=lambda one: (list(ARMS).index(one[0]), one)
    )
    comparisons = []
    for arm, workers in sizes:
        runs = sorted((r for r in results if (r.arm, r.workers) == (arm, workers)), key=lambda r: r.seed)
        pairs = [(run, baseline[run.seed]) for run in runs if run.seed in baseline]
        found = paired_difference(pairs) if pairs and arm != _SERIAL else None
        comparisons.append(Comparison(arm=arm, workers=workers, runs=runs, difference=found))
    return comparisons


def paired_difference(pairs: Iterable[tuple[Result, Result]]) -> Difference:
    """Of the first of each pair to the second."""
    ours, theirs = zip(*pairs, strict=True)
    num_images = ours[0].num_images
    return difference(stacked([r.right for r in ours], num_images), stacked([r.right for r in theirs], num_images))


def table(comparisons: Sequence[Comparison]) -> str:
    """Markdown: an arm's seeds in one line."""
    lines = [
        "| arm | workers | n | top-1 (least to most) | to `serial`, points (95 %) | bound | training | exactly once |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in comparisons:
        top1, seconds = [100 * run.top1 for run in one.runs], [run.seconds for run in one.runs]
        bound = ARMS[one.arm].bound
        lines.append(
            f"| `{one.arm}` | {one.workers} | {len(top1)} "
            f"| {statistics.mean(top1):.1f} % ({min(top1):.1f} to {max(top1):.1f}) "
            f"| {one.difference or '-'} | {'-' if bound is None else f'-{bound}'} "
            f"| {statistics.median(seconds):.0f} s ({min(seconds):.0f} to {max(seconds):.0f}) "
            f"| {'yes' if all(run.exactly_once for run in one.runs) else 'no'} |"
        )
    return "\n".join(lines)


def problems(comparisons: Sequence[Comparison]) -> list[str]:
    """What is not as promised, in words."""
    runs = [run for one in comparisons for run in one.runs]
    return [
        *(f"{one.arm}, {one.workers} workers: {one.difference} points" for one in comparisons if one.is_broken),
        *(f"{run.key} took {run.seconds} s, at most {_MOST_SECONDS}" for run in runs if run.seconds > _MOST_SECONDS),
        *(f"{run.key} lost or repeated samples" for run in runs if not run.exactly_once),
    ]


def measure_what_is_missing(folder: Path, wanted: Sequence[tuple[str, int, int]], epochs: int, path: Path) -> None:
    """Append a line for each run."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = make_dataset(folder)
    dataset_id, done = Dataset.open(str(dataset)).id, read_results(path)
    if any((result.epochs, result.dataset_id) != (epochs, dataset_id) for result in done):
        sys.exit(f"{path} holds runs of other images, or of other epochs than {epochs}; choose another --results")
    for key in wanted:
        if key in {result.key for result in done}:
            continue
        run = folder / "-".join(map(str, key))
        line = json.dumps(asdict(measure(dataset, run, key, epochs)))
        shutil.rmtree(run)
        with path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="keep the dataset there; what is there is taken")
    parser.add_argument("--results", type=Path, default=_HERE / "accuracy.jsonl", help="one line for each run")
    arguments = parser.parse_args(words)
    if wanted := list(runs_of(arguments.arms, arguments.workers, arguments.seeds)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.folder or Path(temporary)
            measure_what_is_missing(folder, wanted, arguments.epochs, arguments.results)
    comparisons = compare(read_results(arguments.results))
    print(f"\n{table(comparisons)}")
    if wrong := problems(comparisons):
        sys.exit("not shown:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
