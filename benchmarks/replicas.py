"""Sixteen workers tried on two: does `--replicas 16 --workers 2` end with the network of `--workers 16`?

`recipes/sun_open.toml` in float64 for fewer epochs, `diloco` with an exchange at every 16th step, on the images of
`benchmarks.sun_open`; the sixteen worker processes share the cores that there are. Fails when the weights are further
apart than 1e-9, when one test image is answered otherwise, or a sample was lost.

    python -m benchmarks.replicas [--epochs 2] [--folder DIR]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.accuracy import right_answers
from benchmarks.sun_open import make_dataset, sunspark
from sunspark.data.dataset import Dataset
from tests.distributed.laws import distance

_RECIPE: Final = Path(__file__).parent.parent / "recipes" / "sun_open.toml"
_REPLICAS: Final = 16
_LARGEST_DISTANCE: Final = 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep dataset and runs there; what is there is taken")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        dataset = make_dataset(folder)
        runs = [train(dataset, folder / f"replicas-{workers}", workers, arguments.epochs) for workers in (2, _REPLICAS)]
        opened = Dataset.open(str(dataset))
        few, many = (right_answers(run, opened, "Test_bal") for run in runs)
        apart = distance(*map(str, runs))
        exactly_once = [sunspark("verify", run)["exactly_once"] for run in runs]
    print(
        f"n=1 top-1 {few.mean():.2%} by 2 workers, {many.mean():.2%} by {_REPLICAS}; {int((few != many).sum())} of "
        f"{len(few)} images answered otherwise; weights apart by {apart:.1e}; exactly once: {exactly_once}"
    )
    if apart > _LARGEST_DISTANCE or (few != many).any() or not all(exactly_once):
        sys.exit("not shown: the same network, whoever computes the replicas")


def train(dataset: Path, run: Path, workers: int, epochs: int) -> Path:
    """`run`, finished."""
    words = [
        "--config",
        _RECIPE,
        "--split",
        "Train_bal",
        "--launcher",
        "local",
        "--epochs",
        epochs,
        "--dtype",
        "float64",
    ]
    strategy = ["--strategy", "diloco", "--sync-every", 16, "--replicas", _REPLICAS]
    trained = sunspark("train", dataset, run, *words, *strategy, "--workers", workers, "--cores-per-worker", 1)
    print(f"{workers} workers: {trained['seconds']:.0f} s, {trained['workers']} at once", flush=True)
    return run


if __name__ == "__main__":
    main()
