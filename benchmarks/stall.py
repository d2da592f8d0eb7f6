"""How long does training stand still when a worker is killed?

Kills one random worker at a random moment, and again 20 to 22 s later, while 2, 3 and 4 local workers train a network
with more than 50 MB of state. The stall of a kill is the longest gap between two applied steps within 20 s of it, less
the median step. An eviction is a survivor without whom a step was done.

    python benchmarks/stall.py [--kills 50] [--workers 2 3 4]
"""

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sunspark.data.codec import encode_jpeg
from sunspark.data.loader import LoaderConfig
from sunspark.data.writer import write_dataset
from sunspark.errors import SunsparkError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig

_WINDOW_SECONDS = 20.0
_EPOCHS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One kill and what came of it."""

    workers: int
    victim: int
    stall_seconds: float
    evicted: int
    """Survivors without whom a step was done."""
    behind: int
    """Survivors that took one step from a peer: theirs had failed when the peer's had just succeeded."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills at each number of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process would ignore it
    dice = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {arguments.kills} kills at each number of workers")
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder))
        for workers in arguments.workers:
            kills = kill_again_and_again(dataset, Path(folder) / f"run{workers}", workers, arguments.kills, dice)
            stalls = sorted(kill.stall_seconds for kill in kills)
            print(
                f"{workers} workers: n={len(stalls)} median {statistics.median(stalls):.2f} s, "
                f"90th percentile {stalls[int(0.9 * (len(stalls) - 1))]:.2f} s, worst {stalls[-1]:.2f} s, "
                f"evicted survivors {sum(kill.evicted for kill in kills)}, "
                f"a step behind {sum(kill.behind for kill in kills)}",
                flush=True,
            )


def make_dataset(folder: Path) -> str:
    rng = np.random.default_rng(0)
    samples = [
        (f"{i % 4}/{i}.jpg", i % 4, ["train"], encode_jpeg(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)))
        for i in range(256)
    ]
    uri = str(folder / "dataset")
    write_dataset(uri, samples, classes=["0", "1", "2", "3"], block_size=64)
    return uri


def config(workers: int) -> TrainConfig:
    """4.4 M parameters with Adam: 53 MB of state."""
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 8, "wide_units": 16384}),
        optim=OptimConfig(learning_rate=1e-4, schedule="constant"),
        data=LoaderConfig(image_size=32),
        training=TrainingConfig(epochs=_EPOCHS, global_batch_size=32, dtype="float32", checkpoint_every=500),
        launch=LaunchConfig(launcher="local", workers=workers),
    )


def kill_again_and_again(dataset: str, run: Path, workers: int, num_kills: int, dice: random.Random) -> list[Kill]:
    """Train until that many workers were killed; the driver is interrupted then."""
    moments: list[tuple[float, int]] = []

    def kill() -> None:
        try:
            for _ in range(num_kills):
                pids = wait_for_all(run, workers)
                last = moments[-1][0] if moments else time.time() - _WINDOW_SECONDS
                time.sleep(max(0.0, last + _WINDOW_SECONDS - time.time()) + 2 * dice.random())
                victim = dice.randrange(workers)
                moments.append((time.time(), victim))
                os.kill(pids[victim], signal.SIGKILL)
            time.sleep(_WINDOW_SECONDS)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=kill, daemon=True).start()
    try:
        train(dataset, str(run), config(workers))
    except (KeyboardInterrupt, SunsparkError) as error:  # the interruption above, most of all
        print(str(error).partition("\n")[0])
    return [judge(run, workers, victim, moment) for moment, victim in moments]


def wait_for_all(run: Path, workers: int) -> list[int]:
    """The process ids of all workers, once every one of them has applied a step with all others."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.2)
        newest = newest_processes(run)
        if len(newest) == workers and all(is_running(pid) for pid in newest.values()):
            full = [step for step in steps_of(run) if step["world_size"] == workers]
            if full and float(full[-1]["time_unix_seconds"]) > time.time() - 4:
                return [newest[worker] for worker in range(workers)]
    raise TimeoutError(f"not all {workers} workers were there within 120 s")


def newest_processes(run: Path) -> dict[int, int]:
    newest: dict[int, int] = {}
    for event in read(run / "records" / "driver.jsonl"):
        if event.get("event") == "joined":
            newest[int(event["worker"])] = int(str(event["detail"]).rpartition(" ")[2])
    return newest


def judge(run: Path, workers: int, victim: int, moment: float) -> Kill:
    """What came of one kill within the window after it."""
    end = moment + _WINDOW_SECONDS
    times = sorted({float(step["time_unix_seconds"]) for step in steps_of(run, keep_all=True)})
    median_step = statistics.median(b - a for a, b in itertools.pairwise(times))
    near = [time for time in times if moment - 1 <= time <= end]
    longest = max(b - a for a, b in itertools.pairwise(near))
    sizes = [
        int(str(step["world_size"]))
        for step in steps_of(run, keep_all=True)
        if moment <= float(str(step["time_unix_seconds"])) < end
    ]
    behind = sum(
        event.get("event") == "recovered" and int(str(event["worker"])) != victim
        for event in read(run / "records" / "driver.jsonl")
        if moment <= float(str(event["time_unix_seconds"])) < end
    )
    return Kill(
        workers=workers,
        victim=victim,
        stall_seconds=longest - median_step,
        evicted=max(0, workers - 1 - min(sizes, default=workers)),
        behind=behind,
    )


def steps_of(run: Path, *, keep_all: bool = False) -> list[dict[str, object]]:
    """The step records so far, one a step (the first worker that wrote it down), in order of time."""
    steps: dict[int, dict[str, object]] = {}
    for path in (run / "records").glob("worker-*.jsonl"):
        for record in read(path) if keep_all else read(path)[-200:]:
            if record.get("kind") == "step":
                step = int(str(record["step"]))
                if step not in steps or float(str(record["time_unix_seconds"])) < float(
                    str(steps[step]["time_unix_seconds"])
                ):
                    steps[step] = record
    return sorted(steps.values(), key=lambda record: float(str(record["time_unix_seconds"])))


def read(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the half-written last line of a killed process
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    main()
