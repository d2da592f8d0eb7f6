"""Decode images one by one, each in a process of its own: does an image kill the process that decodes it?

`python -m sunspark.data.poison` reads one JSON object from standard input, says when it has the image, and decodes it
as evaluation does, then as training does in its first epochs. `find_poison` starts it, and tells from how it ended. An
image is condemned on proof alone: twice its decoding has crashed, or has used up the processor time that it may take.
"""

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sunspark.config import from_dict
from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.dataset import read_block_with
from sunspark.data.keyed_random import KeyedRandom

logger = logging.getLogger(__name__)

CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE, signal.SIGTRAP}
)
"""Signals that a process brings upon itself."""

_ALL_SECONDS: Final = 300.0
_DECODING_SECONDS: Final = 60.0
"""Of processor time, from the moment the image has been read: a busy machine or slow storage condemns nobody."""
_NUM_TRIALS: Final = 2
_MOST_EPOCHS: Final = 20
"""Each epoch has a crop of its own; an image that kills by most of them is found by some."""
_MARK: Final = b"decoding"


def find_poison(
    rows: Sequence[int],
    *,
    dataset: str,
    seed: int,
    num_epochs: int,
    image_size: int,
    augment: dict[str, Any],
    count_oom_kills: Callable[[], int],
) -> dict[int, str]:
    """Those of `rows` that kill the process that decodes them, with how, in words. Takes about a second a row.

    `count_oom_kills` gives how many processes the kernel has ended so far for lack of memory. What a trial could not
    find out is logged.
    """
    task = {"dataset": dataset, "seed": seed, "num_epochs": num_epochs, "image_size": image_size, "augment": augment}
    deadline = time.monotonic() + _ALL_SECONDS
    found = {}
    for row in rows:
        ends: list[_End] = []
        while len(ends) < _NUM_TRIALS and all(end.is_proof for end in ends):
            ends.append(_decode_alone(task | {"row": row, "seconds": _DECODING_SECONDS}, deadline, count_oom_kills))
        how = next((end.how for end in ends if end.how), "")
        if all(end.is_proof for end in ends):
            found[row] = how
        elif how:
            logger.warning("row %d of %s stays, since nothing is proved against it: %s", row, dataset, how)
    return found


def name_of_signal(number: int) -> str:
    """Its name; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class _End:
    """How a trial ended."""

    how: str = ""
    """Empty: the image was decoded."""
    is_proof: bool = False
    """Whether it was the image's doing."""


def _decode_alone(task: dict[str, Any], deadline: float, count_oom_kills: Callable[[], int]) -> _End:
    num_oom_kills = count_oom_kills()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sunspark.data.poison"],
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=max(0.0, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _End(f"the trials of its process's images took longer than {_ALL_SECONDS:.0f} s")
    number = -done.returncode
    if number == 0:
        return _End()
    if number < 0:
        last_line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return _End(f"its trial ended with exit code {-number}: {last_line}")
    name = name_of_signal(number)
    if _MARK not in done.stdout:
        return _End(f"its trial ended by {name} before it had read the image")
    if number == signal.SIGPROF:
        return _End(f"decoding it takes more than {task['seconds']:g} s of processor time", is_proof=True)
    is_own_doing = number in CRASHES or (number == signal.SIGKILL and count_oom_kills() > num_oom_kills)
    return _End(f"decoding it ends the process by {name}", is_proof=is_own_doing)


def main() -> None:
    """Decode one row; an error that is no crash is not what is looked for here."""
    task = json.load(sys.stdin)
    block = read_block_with(task["dataset"], task["row"])
    index = task["row"] - block.first_row
    jpeg, size, augment = block.images[index], task["image_size"], from_dict(AugmentConfig, task["augment"])
    sys.stdout.buffer.write(_MARK)
    sys.stdout.flush()
    signal.setitimer(signal.ITIMER_PROF, task["seconds"])
    evaluation_pixels(jpeg, size, augment)
    for epoch in range(min(task["num_epochs"], _MOST_EPOCHS)):
        rng = KeyedRandom(task["seed"], epoch, int(block.sample_ids[index]))
        training_pixels(jpeg, size, rng, augment)


if __name__ == "__main__":
    main()
