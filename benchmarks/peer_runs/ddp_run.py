"""One training with Spark's TorchDistributor and PyTorch's DistributedDataParallel, on Spark `local[2]`.

python ddp_run.py stock|tuned MARKS EPOCHS IMAGES
"""

import sys
from pathlib import Path

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

WORKERS = 2


def main() -> None:
    builder = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.ui.enabled", "false")
    session = builder.getOrCreate()
    script = Path(__file__).with_name("ddp_train.py")
    TorchDistributor(num_processes=WORKERS, local_mode=False, use_gpu=False).run(str(script), *sys.argv[1:])
    session.stop()


if __name__ == "__main__":
    main()
