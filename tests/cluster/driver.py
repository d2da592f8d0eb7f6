"""A driver with faults, on a host of its own: `python -m tests.cluster.driver TASK.json`; prints the result as JSON."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from sunspark.config import from_dict
from sunspark.launch.config import TrainConfig
from sunspark.launch.train import train
from sunspark.parallel.faults import Fault


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    faults = [Fault(**fault) for fault in task["faults"]]
    result = train(task["dataset"], task["run"], from_dict(TrainConfig, task["config"]), faults)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
