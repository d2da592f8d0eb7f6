"""How long does training stand still when a worker is killed?

Kills one random worker at a random moment, and again 20 to 22 s later, while 2, 3 and 4 local workers train a network
with more than 50 MB of state. The stall of a kill is the longest gap between two applied steps within 20 s of it, less
the median step. A survivor counts as evicted when a step was done without it.

    python -m benchmarks.stall [--kills 50] [--workers 2 3 4]
"""

import argparse
import itertools
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runs import make_dataset, newest_processes, steps_of, train_together
from sunspark.data.loader import LoaderConfig
from sunspark.errors import SunsparkError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.training.config import TrainingConfig
from tests.distributed.harness import events

_WINDOW_SECONDS = 20.0
_FELT_SECONDS = 2.0
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
                last = moments[-1][0] if moments else time.time() - _WINDOW_SECONDS
                pids = wait_for_all(run, workers, last)
                time.sleep(max(0.0, last + _WINDOW_SECONDS - time.time()) + 2 * dice.random())
                victim = dice.randrange(workers)
                moment = time.time()
                os.kill(pids[victim], signal.SIGKILL)
                moments.append((moment, victim))
            time.sleep(_WINDOW_SECONDS)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=kill, daemon=True).start()
    try:
        train(dataset, str(run), config(workers))
    except (KeyboardInterrupt, SunsparkError) as error:  # the interruption above, most of all
        print(str(error).partition("\n")[0])
    return [judge(run, workers, victim, moment) for moment, victim in moments]


def wait_for_all(run: Path, workers: int, since_unix_seconds: float) -> dict[int, int]:
    """The process ids of all workers, once they have applied a step together, well after the kill before."""
    deadline = time.monotonic() + 120
    while not train_together(run, workers, since_unix_seconds + _FELT_SECONDS):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all {workers} workers were there within 120 s")
        time.sleep(0.2)
    return newest_processes(run)


def judge(run: Path, workers: int, victim: int, moment: float) -> Kill:
    """What came of one kill within the window after it."""
    end = moment + _WINDOW_SECONDS
    steps = steps_of(run)
    times = [step.unix_seconds for step in steps]
    median_step = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
    near = [time for time in times if moment - 1 <= time <= end]
    longest = max(later - earlier for earlier, later in itertools.pairwise(near))
    smaller = [s for s in steps if moment <= s.unix_seconds < end and s.world_size < workers]
    survivors = frozenset(range(workers)) - {victim}
    behind = sum(
        event["event"] == "recovered" and event["worker"] != victim
        for event in events(run)
        if moment <= float(str(event["time_unix_seconds"])) < end
    )
    return Kill(
        workers=workers,
        victim=victim,
        stall_seconds=longest - median_step,
        evicted=len(frozenset().union(*(survivors - step.workers for step in smaller))),
        behind=behind,
    )


if __name__ == "__main__":
    main()
