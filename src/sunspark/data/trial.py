"""Decode images one by one, each in a process of its own: does an image kill the process that decodes it?

`python -m sunspark.data.trial` reads one JSON object from standard input and decodes one row as evaluation does,
then as training does in its first epochs. `find_poison` starts it, and tells from how it ended.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

from sunspark.config import from_dict
from sunspark.data.augment import AugmentConfig, evaluation_pixels, training_pixels
from sunspark.data.dataset import Dataset
from sunspark.data.keyed_random import KeyedRandom

_TRIAL_SECONDS: Final = 60.0
_MOST_EPOCHS: Final = 20
"""Each epoch has a crop of its own; an image that kills by most of them is found by some."""


def find_poison(
    rows: Sequence[int], *, dataset: str, seed: int, num_epochs: int, image_size: int, augment: dict[str, Any]
) -> dict[int, str]:
    """Those of `rows` that kill the process that decodes them, with how, in words. Takes about a second a row."""
    task = {"dataset": dataset, "seed": seed, "num_epochs": num_epochs, "image_size": image_size, "augment": augment}
    found = {}
    for row in rows:
        try:
            code = subprocess.run(
                [sys.executable, "-m", "sunspark.data.trial"],
                input=json.dumps(task | {"row": row}).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_TRIAL_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            found[row] = f"decoding it takes longer than {_TRIAL_SECONDS:.0f} s"
            continue
        if code < 0:
            found[row] = f"decoding it ends the process by {signal.Signals(-code).name}"
    return found


def main() -> None:
    """Decode one row; an error that is no crash is not what is looked for here."""
    task = json.load(sys.stdin)
    dataset = Dataset.open(task["dataset"])
    block = dataset.read_block(dataset.block_of(task["row"]))
    index = task["row"] - block.first_row
    jpeg, size, augment = block.images[index], task["image_size"], from_dict(AugmentConfig, task["augment"])
    evaluation_pixels(jpeg, size, augment)
    for epoch in range(min(task["num_epochs"], _MOST_EPOCHS)):
        rng = KeyedRandom(task["seed"], epoch, int(block.sample_ids[index]))
        training_pixels(jpeg, size, rng, augment)


if __name__ == "__main__":
    main()
