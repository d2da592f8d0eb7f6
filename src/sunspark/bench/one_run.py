"""One run of a sweep, in a process of its own: `python -m sunspark.bench.one_run`.

A line of JSON on standard input says what to train; one on standard output says what came of it. When standard input
ends, because whoever holds it has ended, so does the run, as on SIGTERM.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import Final

import sunspark
from sunspark.config import from_dict
from sunspark.errors import StorageError, SunsparkError, UserError
from sunspark.launch.config import TrainConfig
from sunspark.launch.trial import EXIT_STORAGE

_FAILED: Final = 1
_SAVE_SECONDS: Final = 60.0


def main() -> int:
    """Train, verify, evaluate; the exit code. The last line on standard error is the reason of a failure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # workers save what they have, and leave
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch_parent, daemon=True).start()
    config = from_dict(TrainConfig, task["config"])
    try:
        trained = sunspark.train(task["dataset"], task["run"], config)
        top1, num_classes = None, None
        if split := task["eval_split"]:
            # Local processes: what is compared is training, and no second Spark session need be started for this.
            launch = replace(config.launch, launcher="local", master=None, workers=1)
            evaluation = sunspark.evaluate(task["run"], task["dataset"], split, launch)
            top1, num_classes = evaluation.top1, len(evaluation.per_class)
        verdict = sunspark.verify(task["run"])
    except SunsparkError as error:
        print(error, file=sys.stderr)
        return EXIT_STORAGE if isinstance(error, StorageError) and not isinstance(error, UserError) else _FAILED
    told = {
        "samples": trained.samples,
        "epochs": trained.epochs,
        "seconds": trained.seconds,
        "steps_redone": trained.steps_redone,
        "exactly_once": verdict.exactly_once and verdict.finished,
        "top1": top1,
        "num_classes": num_classes,
        "peak_driver_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(told))
    return 0


def _watch_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SAVE_SECONDS)
    os._exit(_FAILED)


if __name__ == "__main__":
    ended_with = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended_with)  # as `cli.console`: without the destructors of C++
