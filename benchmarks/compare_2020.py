"""The settings of the 2020 project side by side, `recipes/compare_2020.toml`, on a cluster of network namespaces.

Every worker is a host with a link of its own (Linux, as root); its cores are those of this machine, which all hosts
share: settings with more of them are marked as oversubscribed, and their speed is that of a machine that is too small.
A worker has no more threads than this machine has cores, and waits passively for its own: those of several hosts
that spin would take each other's cores.
The images are those of `sun_open.tar` (see `benchmarks/sun_open.py`): the network and the epochs are smaller than the
recipe's. Layouts come in another order in each repeat, the settings of a layout too. What is measured is not run again.

    python -m benchmarks.compare_2020 --folder DIR [--repeats 2] [--report compare_2020.html]
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import sunspark
from benchmarks.sun_open import make_dataset
from sunspark.bench.compare import CompareConfig
from sunspark.bench.sweep import SweepConfig, load_sweep
from sunspark.config import flatten, to_dict, to_toml
from tests.cluster.namespaces import why_not
from tests.cluster.standalone import Standalone

_RECIPE: Final = Path(__file__).parent.parent / "recipes" / "compare_2020.toml"
_WORKERS, _CORES = "launch.workers", "launch.cores_per_worker"
_BASE: Final[dict[str, Any]] = {
    "model": {"model": "scene_vgg", "model_args": {"n_filters": 8, "wide_units": 1024}},
    "optim": {"learning_rate": 2e-3, "schedule": "one_cycle", "warmup_fraction": 0.3},
    "data": {"image_size": 64},
    "training": {"split": "Train_bal", "epochs": 3, "global_batch_size": 64},
}
_LAYOUT_SECONDS: Final = 3600.0


def sweep_on(dataset: Path) -> SweepConfig:
    """The recipe's settings, with a network and epochs for these images."""
    return replace(load_sweep(_RECIPE), dataset=str(dataset), eval_split="Test_bal", base=_BASE)


def of_layout(sweep: SweepConfig, workers: int, cores: int) -> SweepConfig:
    """The settings of so many workers with so many cores each."""
    return replace(sweep, axes=dict(flatten(sweep.axes)) | {_WORKERS: [workers], _CORES: [cores]})


def measure(sweep: SweepConfig, folder: Path, repeats: int) -> bool:
    """Run every setting `repeats` times. Whether all were measured."""
    axes, is_complete = dict(flatten(sweep.axes)), True
    for repeat in range(repeats):
        chance = random.Random(repeat)
        for cores in chance.sample(axes[_CORES], len(axes[_CORES])):
            with tempfile.TemporaryDirectory() as name, Standalone(Path(name) / "cluster", cores=cores) as cluster:
                for workers in chance.sample(axes[_WORKERS], len(axes[_WORKERS])):
                    cluster.have_workers(workers)
                    is_complete &= compare(cluster, of_layout(sweep, workers, cores), folder, repeat + 1)
    return is_complete


def compare(cluster: Standalone, sweep: SweepConfig, folder: Path, repeats: int) -> bool:
    """`sunspark compare` on the driver's host, for the settings of one layout. Whether all were measured."""
    file = folder / "layout.toml"
    file.write_text(to_toml(to_dict(sweep)))
    words = ["compare", str(file), str(folder / "compare_2020"), "--oversubscribe", "--repeats", str(repeats), "--json"]
    driver = cluster.drive([sys.executable, "-m", "sunspark.cli", *words])
    try:
        told = driver.result(_LAYOUT_SECONDS)
    except AssertionError as error:
        print(f"{dict(sweep.axes)}, repeat {repeats}: {error}", flush=True)
        return False
    finally:
        driver.kill()
    print(f"{dict(sweep.axes)}, repeat {repeats}: {told['runs']} runs", flush=True)
    return True


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="dataset, runs and results; what is there is taken")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--report", type=Path, default=Path("compare_2020.html"))
    arguments = parser.parse_args(words)
    if reason := why_not():
        sys.exit(f"network namespaces are needed (Linux, as root): {reason}")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    dataset = folder / "dataset"
    sweep = sweep_on(dataset if (dataset / "manifest.json").exists() else make_dataset(folder))
    if not measure(sweep, folder, arguments.repeats):
        sys.exit("some settings failed; the same command runs them again")
    whole = folder / "whole.toml"
    whole.write_text(to_toml(to_dict(sweep)))
    config = CompareConfig(repeats=arguments.repeats, oversubscribe=True)
    sunspark.compare(str(whole), str(folder / "compare_2020"), config, print)
    sunspark.report(str(folder / "compare_2020"), str(arguments.report))


if __name__ == "__main__":
    main()
