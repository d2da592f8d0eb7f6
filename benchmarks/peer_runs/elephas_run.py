"""One training with Elephas, in an environment of its own (`elephas-requirements.txt`); knows nothing of sunspark.

The Keras twin of scene_vgg, random pixels in memory, two partitions on Spark `local[2]`. Writes a line to MARKS, the
time and the number of images, whenever some have been trained on; the first line is the number of parameters.

    python elephas_run.py MODE MARKS EPOCHS IMAGES
"""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import elephas.spark_model
import keras
import numpy as np
from elephas.parameter.client import HttpClient
from elephas.spark_model import AsynchronousSparkModel, SparkModel
from elephas.utils.rdd_utils import to_simple_rdd
from pyspark.sql import SparkSession

IMAGE_SIZE, NUM_CLASSES, N_FILTERS, WIDE_UNITS = 128, 397, 8, 4096
WORKERS, BATCH_SIZE_PER_WORKER = 2, 16


def build_network() -> keras.Model:
    """The layers of sunspark's scene_vgg."""
    layers: list[Any] = [
        keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), dtype="uint8"),
        keras.layers.Rescaling(1 / 64, -2.0),
    ]
    for index, (filters, depth) in enumerate([(1, 2), (2, 2), (4, 3), (8, 3)]):
        for layer in range(depth):
            if (index, layer) == (3, depth - 1):
                layers.append(keras.layers.Dropout(0.4))
            layers.append(keras.layers.Conv2D(filters * N_FILTERS, 3, padding="same", activation="relu"))
        layers.append(keras.layers.MaxPooling2D(2))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(WIDE_UNITS, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(NUM_CLASSES, activation="softmax"),
    ]
    network = keras.Sequential(layers)
    network.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy")
    return network


def mark(path: str, num_images: int) -> None:
    """Lines are short: those of two processes do not mix."""
    with open(path, "a") as file:
        file.write(f"{time.time()} {num_images}\n")


class MarkingClient(HttpClient):  # type: ignore[misc]
    """Elephas' own line to its parameter server; marks every update."""

    def __init__(self, port: int, marks: str, images_per_update: int) -> None:
        super().__init__(port)
        self.marks, self.images_per_update = marks, images_per_update

    def update_parameters(self, delta: list[Any]) -> Any:
        answer = super().update_parameters(delta)
        mark(self.marks, self.images_per_update)
        return answer


def synchronous(network: keras.Model, marks: str, num_images: int) -> SparkModel:
    """Workers train alone for an epoch, then the driver averages: that is marked."""
    average = elephas.spark_model.average_and_subtract

    def average_and_mark(*arguments: Any) -> Any:
        weights = average(*arguments)
        mark(marks, num_images)
        return weights

    elephas.spark_model.average_and_subtract = average_and_mark
    return SparkModel(network)


def asynchronous(network: keras.Model, marks: str, frequency: str, num_images: int) -> SparkModel:
    """Workers send what they have changed to the driver, at every epoch or at every batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = AsynchronousSparkModel(network, mode="asynchronous", frequency=frequency, port=port)
    each = num_images // WORKERS if frequency == "epoch" else BATCH_SIZE_PER_WORKER
    model.client = MarkingClient(port, marks, each)
    return model


def main() -> None:
    mode, marks, epochs, num_images = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    assert num_images % (WORKERS * BATCH_SIZE_PER_WORKER) == 0, "all batches are of one size"
    builder = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.memory", "4g").getOrCreate()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (num_images, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    rdd = to_simple_rdd(session.sparkContext, pixels, rng.integers(0, NUM_CLASSES, num_images))
    assert rdd.getNumPartitions() == WORKERS
    network = build_network()
    Path(marks).write_text(f"{network.count_params()}\n")
    if mode == "synchronous":
        model = synchronous(network, marks, num_images)
    else:
        model = asynchronous(network, marks, mode, num_images)
    model.fit(rdd, epochs=epochs, batch_size=BATCH_SIZE_PER_WORKER, verbose=0, validation_split=0.0)
    session.stop()
    sys.stdout.flush()
    os._exit(0)  # the parameter server's process would be waited for


if __name__ == "__main__":
    main()
