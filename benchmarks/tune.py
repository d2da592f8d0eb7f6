"""Does a search find a configuration that is at least as good as the recipe, on a split that it has not seen?

`sunspark tune` with `recipes/space.toml` on the images of `benchmarks.sun_open`: 24 trials on Spark, on the master that
it is configured with, else `local[*]`, trained on five sixths of `Train_bal` and judged on the last sixth. Then the
best of them and `recipes/sun_open.toml` train on all of `Train_bal`, both for as many epochs as a trial (nine), and are
tested on `Test_bal`, seed by seed on the same images. So short trainings are compared; which of the two is better after
the epochs that the recipe was made for, this does not tell. Fails when the best is worse by more than the interval
allows, or a sample was lost. What is there of FOLDER is taken: a search that was interrupted goes on.

    python -m benchmarks.tune [--trials 24] [--seeds 0 1] [--folder DIR]
"""

import argparse
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.accuracy import right_answers
from benchmarks.paired import difference, stacked, to_hex
from benchmarks.sun_open import sunspark
from sunspark.data.dataset import Dataset
from tests.images import sun_open

_RECIPES: Final = Path(__file__).parent.parent / "recipes"
_EVERY: Final = 6
"""Of so many training images, one judges trials."""


def make_dataset(folder: Path) -> Path:
    """The balanced splits, and the first of them in two."""
    source, dataset = sun_open(), folder / "dataset"
    lines = (source / "Train_bal.txt").read_text().splitlines()
    lists = {
        "Train_bal": lines,
        "Test_bal": (source / "Test_bal.txt").read_text().splitlines(),
        "train": [line for number, line in enumerate(lines) if number % _EVERY],
        "validation": lines[::_EVERY],
    }
    words = []
    for name, paths in lists.items():
        path = folder / f"{name}.txt"
        path.write_text("\n".join(paths) + "\n")
        words += ["--split-list", f"{name}={path}"]
    sunspark("ingest", source, dataset, "--short-side", 112, "--master", "local[2]", *words)
    return dataset


def train(dataset: Path, run: Path, recipe: Path, seed: int, epochs: int) -> str:
    """Which test images it answers right, as digits."""
    shutil.rmtree(run, ignore_errors=True)
    words = [
        "--config",
        recipe,
        "--split",
        "Train_bal",
        "--launcher",
        "local",
        "--strategy",
        "all_reduce",
        "--workers",
        2,
    ]
    sunspark("train", dataset, run, *words, "--replicas", 2, "--epochs", epochs, "--seed", seed)
    verdict = sunspark("verify", run)
    if not verdict["exactly_once"]:
        sys.exit(f"{run}: {verdict['problems']}")
    return to_hex(right_answers(run, Dataset.open(str(dataset)), "Test_bal"))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--folder", type=Path, help="keep dataset and trials there; what is there is taken")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        dataset, space = make_dataset(folder), _RECIPES / "space.toml"
        began = time.monotonic()
        found = sunspark("tune", dataset, space, folder / "tuned", "--trials", arguments.trials)
        print(
            f"{found['trials']} trials, {found['pruned']} ended early, {found['failed']} failed, "
            f"{time.monotonic() - began:.0f} s; the best, {found['best_trial']}, has {found['best_top1']:.1%} on the "
            f"split that judged it: {found['best']}"
        )
        epochs = tomllib.loads(space.read_text())["base"]["training"]["epochs"]
        recipes = {"best": Path(found["config_file"]), "recipe": _RECIPES / "sun_open.toml"}
        answers = {
            name: stacked(
                [train(dataset, folder / f"{name}{seed}", recipe, seed, epochs) for seed in arguments.seeds], 750
            )
            for name, recipe in recipes.items()
        }
    gained = difference(answers["best"], answers["recipe"])
    for name, right_SI in answers.items():
        print(f"{name}: {right_SI.mean():.1%} on Test_bal, n={len(arguments.seeds)}, {epochs} epochs")
    print(f"the best is {gained} points above the recipe")
    if gained.high < 0:
        sys.exit("the search has found less than the recipe")


if __name__ == "__main__":
    main()
